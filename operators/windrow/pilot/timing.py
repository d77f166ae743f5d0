"""How fast an engine scores real texts, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from pyarrow import compute

from windrow.engines import Engine
from windrow.models.tokens import Tokens
from windrow.tasks import Scored, Task

__all__ = ["Limit", "Timing", "timed"]

FIRST_CHUNK, LARGEST_CHUNK, LONG_CHUNK_S = 4, 2048, 1.0
"""Texts; each chunk is twice the one before until one takes so many seconds: slow models are not asked for too much
at once, fast ones are timed on chunks that fill their micro-batches as a shard does."""
SLOW_AFTER_S = 1.0
_WARMED = {"classify", "embed", "tag"}


@dataclass(frozen=True, slots=True)
class Limit:
    """When a timing ends before its texts do.

    Attributes:
        seconds: No chunk is begun after so many, unless there are fewer than `least_texts`.
        least_texts: Scored beyond `seconds`, but no chunk is begun after `most_s`.
        tokens_per_s: An engine that reads fewer is given up after `SLOW_AFTER_S`, however few texts it has scored.
        first_chunk: Texts.
    """

    seconds: float = float("inf")
    least_texts: int = 0
    most_s: float = float("inf")
    tokens_per_s: float = 0.0
    first_chunk: int = FIRST_CHUNK

    def is_over(self, passed_s: float, texts: int, tokens_per_s: float) -> bool:
        """Tell whether no further chunk is to be begun."""
        if passed_s > SLOW_AFTER_S and tokens_per_s < self.tokens_per_s:
            return True
        return passed_s > (self.seconds if texts >= self.least_texts else max(self.seconds, self.most_s))


NO_LIMIT = Limit()


@dataclass(frozen=True, slots=True)
class Timing:
    """What was scored and how long it took.

    Attributes:
        texts: Texts scored, the warm-up included.
        tokens: Tokens that the model read of them.
        chunks: Texts, tokens and seconds of the larger chunks; small ones fill micro-batches badly, and the first
            warms up.
    """

    texts: int
    tokens: int
    chunks: tuple[tuple[int, int, float], ...]

    @property
    def texts_per_s(self) -> float:
        """Texts a second."""
        return sum(texts for texts, _, _ in self.chunks) / max(1e-9, self._seconds)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second."""
        return sum(tokens for _, tokens, _ in self.chunks) / max(1e-9, self._seconds)

    @property
    def spread(self) -> float:
        """Standard error of the seconds a token, as a share of their mean; 0.5 where one chunk tells nothing of it."""
        each = np.asarray([seconds / max(1, tokens) for _, tokens, seconds in self.chunks])
        if len(each) < 2:
            return 0.5
        return float(each.std(ddof=1) / np.sqrt(len(each)) / max(1e-12, each.mean()))

    def shared(self, devices: int) -> Timing:
        """Return what so many devices would take, each with a share of the work."""
        return replace(self, chunks=tuple((texts, tokens, took / devices) for texts, tokens, took in self.chunks))

    @property
    def _seconds(self) -> float:
        return sum(seconds for *_, seconds in self.chunks)


def timed(
    task: Task, engine: Engine, tokens: Tokens, texts: Sequence[str], limit: Limit = NO_LIMIT
) -> tuple[Timing, pa.Table]:
    """Score texts in chunks until they are used up or a limit is met.

    Encoders score each chunk twice and the second time counts: some engines compile each shape when they first meet
    it, which a long job does early.

    Args:
        texts: At least one.

    Returns:
        The timing, and the task's columns of the texts scored, null where one failed.
    """
    began, size, done = time.monotonic(), limit.first_chunk, 0
    warms = task.head in _WARMED
    chunks: list[tuple[int, int, float]] = []
    parts: list[pa.Table] = []
    while done < len(texts):
        since = time.monotonic()
        if chunks and limit.is_over(since - began, done, _timing(chunks).tokens_per_s):
            break
        if since - began > limit.seconds:
            size = min(size, limit.least_texts - done)
        part = list(texts[done : done + size])
        if warms:
            task.score(task.prepare(part, tokens), engine, tokens)
            since = time.monotonic()
        scored = task.score(task.prepare(part, tokens), engine, tokens)
        chunks.append((len(part), int(scored.tokens.sum()), time.monotonic() - since))
        parts.append(_columns(scored, task, len(part)))
        done += len(part)
        if chunks[-1][2] < LONG_CHUNK_S:
            size = min(2 * size, LARGEST_CHUNK)
    return _timing(chunks), pa.concat_tables(parts)


def _timing(chunks: Sequence[tuple[int, int, float]]) -> Timing:
    most = max(count for count, _, _ in chunks)
    large = tuple(chunk for chunk in chunks[1:] if 2 * chunk[0] >= most)
    return Timing(sum(texts for texts, _, _ in chunks), sum(tokens for _, tokens, _ in chunks), large or (chunks[-1],))


def _columns(scored: Scored, task: Task, texts: int) -> pa.Table:
    """Return the task's columns, null where a text failed."""
    fine = pa.array([number not in scored.failed for number in range(texts)])
    values = {f.name: compute.if_else(fine, scored.columns[f.name].cast(f.type), None) for f in task.columns}
    return pa.table(values, schema=task.columns)
