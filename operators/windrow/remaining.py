"""How fast texts are scored, measured while it happens, and when that will be done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = ["Forecast", "Remaining"]

_UNKNOWN = 0.10
"""What the shards so far do not show: a machine's speed changes within minutes by about so much."""
_LEAST = 2
"""Shards after the first (which pays for loading the model) before their spread says anything."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """What is left of a lane, and the 95 % interval around the seconds that it takes.

    Attributes:
        texts_per_s: Measured over the shards so far.
        seconds: From now to the end of the lane; publish comes after it, at some 150,000 rows a second.
        finish: That moment, in UTC.
    """

    done: int
    total: int
    texts_per_s: float
    seconds: float
    low_s: float
    high_s: float
    finish: datetime

    def __str__(self) -> str:
        speed = f"{self.texts_per_s:,.0f}" if self.texts_per_s >= 10 else f"{self.texts_per_s:.2g}"
        left = f"about {_span(self.seconds)} left ({_span(self.low_s)} to {_span(self.high_s)})"
        return f"{self.done:,} of {self.total:,} texts, {speed}/s, {left}, done at {self.finish:%H:%M} UTC"

    def lateness(self, due: datetime) -> timedelta:
        """Return how long after `due` the end is expected; negative if before it."""
        return self.finish - due


class Forecast:
    """Predicts the rest of a lane from what it has done: call it after each shard, as `windrow.infer.infer` does.

    The first shard is left out once there are others, since it also pays for loading the model.

    Args:
        clock: Seconds that only grow.
        now: The moment, in UTC.

    >>> times = iter([0.0, 60.0, 70.0, 80.0])
    >>> forecast = Forecast(clock=lambda: next(times), now=lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))
    >>> [round(forecast(done, 400).seconds) for done in (100, 200, 300)]
    [180, 20, 10]
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock, self._now = clock, now
        self._marks = [(clock(), 0)]

    def __call__(self, done: int, total: int) -> Remaining:
        """Take note of a shard's end; return what is left."""
        self._marks.append((self._clock(), done))
        begin = self._marks[1] if len(self._marks) > 2 else self._marks[0]
        seconds = max(self._marks[-1][0] - begin[0], 1e-9)
        speed = max(done - begin[1], 1) / seconds
        rest_s = max(total - done, 0) / speed
        apart = min(0.9, 2 * self._spread() + _UNKNOWN)
        finish = self._now() + timedelta(seconds=rest_s)
        return Remaining(done, total, speed, rest_s, rest_s * (1 - apart), rest_s * (1 + apart), finish)

    def _spread(self) -> float:
        """Return the standard error of the speed as a share of it; large while little is known."""
        pairs = list(zip(self._marks[1:], self._marks[2:], strict=False))
        speeds = [(after[1] - before[1]) / max(after[0] - before[0], 1e-9) for before, after in pairs]
        if len(speeds) < _LEAST:
            return 0.25
        mean = sum(speeds) / len(speeds)
        variance = sum((speed - mean) ** 2 for speed in speeds) / (len(speeds) - 1)
        return math.sqrt(variance / len(speeds)) / mean if mean else 0.25


def _span(seconds: float) -> str:
    """Write a span of time as a person would.

    >>> [_span(seconds) for seconds in (0.4, 42, 90, 5000)]
    ['0 s', '42 s', '1.5 min', '1.4 h']
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.2g} min" if seconds < 3600 else f"{seconds / 3600:.2g} h"
