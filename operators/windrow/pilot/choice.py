"""The choice of engine and numerics: the job's word, else what was measured before, else a pilot, else a rule."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Self

from windrow.engines import EnginePlan, is_ready
from windrow.engines.fitting import Candidate, candidates
from windrow.job import Job
from windrow.models.resolve import ResolvedModel
from windrow.pilot.memory import Memory
from windrow.pilot.trials import SAMPLE_TEXTS, Pilot, Trial
from windrow.store import Store
from windrow.tasks import Task

__all__ = ["Ask", "Choice", "choose"]

log = logging.getLogger("windrow")

WORTH_FLOP = 5e13
"""Work below which a pilot costs more than it can save: about a minute of two cores in fp32 at 21 MFLOP a token."""
_BYTES_A_TOKEN = 4
_EARNED, _BETTER = 1.1, 1.05
"""How many times as fast int8, and another token budget, must be to be taken."""
_PILOTED = {"classify", "pairs", "tag", "embed", "generate", "next"}
_BUDGETS, _BUDGETED = (256, 1024, 4096), {"classify", "tag", "embed"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What a choice is asked for."""

    job: Job
    model: ResolvedModel
    task: Task
    device: str
    store: Store


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine, its numerics, why, and what was measured.

    Attributes:
        token_budget: Most padded tokens in one forward pass; None leaves it to the engine.
        reason: Why this one, in words.
        trials: Every candidate that was measured.
    """

    engine: str
    precision: str
    reason: str
    token_budget: int | None = None
    trials: tuple[Trial, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the choice as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Read back what `to_dict` wrote."""
        return cls(**{**fields, "trials": tuple(Trial(**trial) for trial in fields["trials"])})


def choose(ask: Ask, sample: Callable[[int], list[str]], texts: int, size_bytes: Callable[[], int]) -> Choice:
    """Choose how the texts of a partition are scored.

    The numerics once measured hold for a store, so that an unchanged partition stays scored on whichever machine it
    is run again; the engine is measured for each machine.

    Args:
        sample: Returns at most so many distinct texts of the partition, spread over it, the same ones each time.
        texts: Distinct texts of the partition.
        size_bytes: Returns their size in UTF-8; asked only where it matters.

    Raises:
        JobError: The engine that the job names cannot run the task.
        ModelError: The model cannot be loaded.
    """
    job = ask.job
    head = "decode" if ask.task.head == "generate" and not ask.model.is_seq2seq else ask.task.head
    ready = partial(is_ready, EnginePlan("auto", ask.task.head, ask.device, "fp32", ask.task.labels), ask.model)
    options = candidates(head, ask.device, job.engine, job.precision, texts, ask.model.config, ready)
    if len(options) == 1:
        return Choice(options[0].engine, options[0].precision, "nothing else fits the job")
    if ask.task.head not in _PILOTED:
        return Choice(options[0].engine, options[0].precision, "by rule")
    memory = Memory(ask.store, ask.model, ask.task, ask.device)
    held = memory.numerics()
    is_open = job.precision == "auto"
    if held and any(option.precision == held for option in options):
        options = [option for option in options if option.precision == held]
        is_open = False
    known = memory.choice()
    if known and any(Candidate(known["engine"], known["precision"]) == option for option in options):
        return Choice.from_dict(known)
    if _work(ask.model, size_bytes()) < WORTH_FLOP:
        held_too = f"; {held} was measured in this store" if held else ""
        return Choice(options[0].engine, options[0].precision, f"too little work for a pilot: by rule{held_too}")
    taken = sample(SAMPLE_TEXTS)
    found = _measured(Pilot(ask.model, ask.task, ask.device, taken, texts / max(1, len(taken))), options, is_open)
    if job.engine == job.precision == "auto":
        memory.keep(found.to_dict())
    log.info("%s in %s: %s.", found.engine, found.precision, found.reason)
    return found


def _work(model: ResolvedModel, text_bytes: int) -> float:
    """Return about how many floating-point operations the texts take: two a parameter and token."""
    size_bytes = sum(file.stat().st_size for file in model.folder.glob("*.safetensors"))
    return text_bytes / _BYTES_A_TOKEN * size_bytes / 2


def _measured(pilot: Pilot, options: list[Candidate], is_open: bool) -> Choice:
    """Return the fastest candidate that agrees with fp32, with the token budget that suits it best.

    Args:
        is_open: Whether the precision is for the pilot to say; one that the job or the store names is kept anyhow.
    """
    trials = pilot.try_all(options)
    fit = [trial for trial in trials if trial.texts and not (is_open and trial.refused)]
    if not fit:
        fit = [trial for trial in pilot.trials if not trial.refused]  # fp32, which is then the only one to be trusted
    best = max(fit, key=lambda trial: trial.tokens_per_s / (_EARNED if trial.precision == "int8" else 1))
    slowest = min(fit, key=lambda trial: trial.tokens_per_s)
    if pilot.task.head in _BUDGETED and pilot.device == "cpu":
        for place, budget in enumerate(_BUDGETS):
            waiting = len(_BUDGETS) - place
            other = pilot.attempt(best.candidate, budget, waiting) if pilot.has_time() else None
            if other and not other.refused and other.tokens_per_s > _BETTER * best.tokens_per_s:
                best = other
    return Choice(
        best.engine, best.precision, _reason(best, slowest, options[0], trials), best.token_budget, tuple(pilot.trials)
    )


def _reason(best: Trial, slowest: Trial, rule: Candidate, trials: list[Trial]) -> str:
    words = f"measured: {best.tokens_per_s:,.0f} tokens/s"
    if slowest.candidate != best.candidate:
        times = best.tokens_per_s / max(1e-9, slowest.tokens_per_s)
        words += f", {times:.1f} times {slowest.engine} in {slowest.precision}"
    refused = next((trial.refused for trial in trials if trial.candidate == rule and trial.refused), "")
    return f"{words}; {rule.engine} in {rule.precision} is out: {refused}" if refused else words
