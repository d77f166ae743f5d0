"""Trials: every candidate scores the same sample; each is timed and held against fp32."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import pyarrow as pa

from windrow.engines import Engine, open_engine
from windrow.engines.devices import lane_devices
from windrow.engines.fitting import Candidate
from windrow.errors import WindrowError
from windrow.models.reader import open_reader
from windrow.models.resolve import ResolvedModel
from windrow.pilot.agreement import agreement
from windrow.pilot.timing import FIRST_CHUNK, LARGEST_CHUNK, Limit, Timing, timed
from windrow.tasks import Task, engine_plan

__all__ = ["PILOT_S", "SAMPLE_TEXTS", "Pilot", "Trial"]

PILOT_S, PILOT_SHARE, _LONGEST_S = 10.0, 0.02, 120.0
"""Seconds of scoring that a pilot may take, or the share of the job if that is more; loading comes on top."""
SAMPLE_TEXTS = 1024
LEAST_COMPARED = 64
_REFERENCE_SHARE, _MOST_REFERENCE_SHARE = 0.4, 0.6
"""Of the pilot's seconds; the second where there are fewer texts than int8 needs for its comparison."""
_LEAST_S = 1.0
_CHUNK_S = 0.25
_LOST = 0.7
"""A candidate below this share of the best one's speed gets no more time."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How one candidate did.

    Attributes:
        texts: Texts that it scored.
        share: Agreement with fp32, see `windrow.pilot.agreement`.
        shift: Mean shift of probabilities.
        refused: Why it is out; empty if it is not.
    """

    engine: str
    precision: str
    token_budget: int | None = None
    texts: int = 0
    texts_per_s: float = 0.0
    tokens_per_s: float = 0.0
    share: float | None = None
    shift: float | None = None
    refused: str = ""

    @property
    def candidate(self) -> Candidate:
        """What was tried."""
        return Candidate(self.engine, self.precision)


class Pilot:
    """A sample of a job's texts, what fp32 says of them, and the seconds that are left.

    Args:
        texts: The sample; the reference decides how many of them there is time for.
        times: The whole job is so many times the sample.
    """

    def __init__(self, model: ResolvedModel, task: Task, device: str, texts: list[str], times: float) -> None:
        self.model, self.task, self.device, self.texts, self.times = model, task, device, texts, times
        self.tokens = open_reader(model, task)
        self.left_s, self.first_chunk = PILOT_S, FIRST_CHUNK
        self.expected: pa.Table | None = None
        self.trials: list[Trial] = []

    def try_all(self, options: list[Candidate]) -> list[Trial]:
        """Time every candidate and hold it against the first one's fp32, or PyTorch's if that has none.

        An export has been held against PyTorch when it was made. The seconds left are shared out evenly among those
        that wait; what one leaves, being slow, the others get.

        Raises:
            WindrowError: No candidate can score the sample.
        """
        references = [Candidate(options[0].engine, "fp32"), Candidate("torch", "fp32")]
        for reference in dict.fromkeys(references):
            if self.expected is None:
                self.attempt(reference)
        if self.expected is None:
            raise self.failure
        waiting = [option for option in options if all(trial.candidate != option for trial in self.trials)]
        for place, option in enumerate(waiting):
            self.attempt(option, waiting=len(waiting) - place)
        return [trial for trial in self.trials if trial.candidate in options]

    def attempt(self, candidate: Candidate, token_budget: int | None = None, waiting: int = 1) -> Trial:
        """Open a candidate, score the sample, close it; what goes wrong is its reason to be out.

        Args:
            waiting: Candidates that have yet to share the seconds left, this one included.
        """
        try:
            trial = self._timed(candidate, token_budget, waiting)
        except WindrowError as error:
            self.failure = error
            trial = Trial(candidate.engine, candidate.precision, token_budget, refused=error.problem)
        self.trials.append(trial)
        return trial

    def has_time(self) -> bool:
        """Tell whether one more trial fits."""
        return self.left_s > _LEAST_S

    def _timed(self, candidate: Candidate, token_budget: int | None, waiting: int) -> Trial:
        device = lane_devices(self.device)[0]
        plan = engine_plan(self.task, self.tokens, candidate.engine, device, candidate.precision)
        engine = open_engine(replace(plan, token_budget=token_budget), self.model)
        lost = _LOST * max((trial.tokens_per_s for trial in self.trials if not trial.refused), default=0.0)
        limit = Limit(
            max(_LEAST_S, self.left_s / waiting),
            least_texts=LEAST_COMPARED if candidate.precision == "int8" else 0,
            tokens_per_s=lost,
            first_chunk=self.first_chunk,
        )
        try:
            since = time.monotonic()
            if self.expected is None:
                timing, found = self._reference(engine)
            else:
                timing, found = timed(self.task, engine, self.tokens, self.texts, limit)
            self.left_s -= time.monotonic() - since
        finally:
            engine.close()
        agreed = agreement(self.expected.slice(0, timing.texts), found)  # type: ignore[union-attr]
        few = ""
        if candidate.precision == "int8" and timing.texts < LEAST_COMPARED:
            why = "given up as slower after" if timing.tokens_per_s < lost else "time for"
            few = f"{why} {timing.texts} texts only, too few to trust int8"
        return Trial(
            candidate.engine, candidate.precision, token_budget, timing.texts, round(timing.texts_per_s, 2),
            round(timing.tokens_per_s, 1), round(agreed.share, 5), round(agreed.shift, 5), agreed.refused or few,
        )  # fmt: skip

    def _reference(self, engine: Engine) -> tuple[Timing, pa.Table]:
        """Score what there is time for, which is more in a longer job; how long it is, the first second tells."""
        began = time.monotonic()
        timing, found = timed(self.task, engine, self.tokens, self.texts, Limit(_LEAST_S))
        job_s = self.times * len(self.texts) / timing.texts_per_s
        self.left_s = min(_LONGEST_S, max(PILOT_S, PILOT_SHARE * job_s))
        self.first_chunk = min(LARGEST_CHUNK, max(FIRST_CHUNK, round(_CHUNK_S * timing.texts_per_s)))
        limit = Limit(
            _REFERENCE_SHARE * self.left_s,
            least_texts=LEAST_COMPARED,
            most_s=_MOST_REFERENCE_SHARE * self.left_s,
            first_chunk=self.first_chunk,
        )
        if timing.texts < len(self.texts) and time.monotonic() - began < limit.seconds:
            timing, found = timed(self.task, engine, self.tokens, self.texts, limit)
        self.expected, self.texts = found, self.texts[: timing.texts]
        return timing, found
