"""How a lane gets on: what is done, how fast, and when it will be done. A hint, told every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from windrow.engines import Decoding, Engine, Outputs
from windrow.engines.pulse import hearing

__all__ = ["EVERY_S", "Meter", "Pace"]

EVERY_S = 5.0
"""Seconds between two tellings."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How far a lane is.

    Attributes:
        texts: Texts that are scored, or nearly.
        total: Texts in all.
        tokens: Tokens read so far.
        seconds: Since scoring began; the model had been loaded.
        left_s: Seconds to go at this speed, by the bytes of the texts; None while nothing is done.
    """

    texts: int
    total: int
    tokens: int
    seconds: float
    left_s: float | None

    @property
    def texts_per_s(self) -> float:
        """Texts a second so far."""
        return self.texts / max(1e-9, self.seconds)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second so far."""
        return self.tokens / max(1e-9, self.seconds)

    def __str__(self) -> str:
        """Return one line for a log.

        >>> print(Pace(1200, 4000, 60_000, 30.0, 70.0))
        1,200 of 4,000 texts (30 %), 40.0 texts/s, 2,000 tokens/s, about 1 min 10 s to go
        """
        percent = 100 * self.texts / max(1, self.total)
        left = "" if self.left_s is None or self.texts >= self.total else f", about {_spoken(self.left_s)} to go"
        done = f"{self.texts:,} of {self.total:,} texts ({percent:.0f} %)"
        return f"{done}, {self.texts_per_s:,.1f} texts/s, {self.tokens_per_s:,.0f} tokens/s{left}"


def _spoken(seconds: float) -> str:
    """Return a span of time as a person says it.

    >>> [_spoken(0.4), _spoken(59), _spoken(7260)]
    ['1 s', '59 s', '2 h 1 min']
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@dataclass(slots=True)
class _Open:
    """A shard under way: what its calls have told so far."""

    share: float = 0.0
    tokens: int = 0


class Meter:
    """Counts what is done, within shards too, and tells the pace every few seconds.

    Args:
        shards: Texts and bytes of each shard that is to be scored, by name.
        tell: Told the pace, from whichever thread is scoring.
        every_s: Seconds between two tellings; `EVERY_S` unless given.
        clock: Returns seconds.
    """

    def __init__(
        self,
        shards: Mapping[str, tuple[int, int]],
        tell: Callable[[Pace], None],
        every_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shards, self._tell, self._clock = shards, tell, clock
        self._every_s = EVERY_S if every_s is None else every_s
        self._open: dict[str, _Open] = {}
        self._done: dict[str, int] = {}
        self._lock = threading.Lock()
        self._began = self._told = clock()

    @contextmanager
    def shard(self, name: str) -> Iterator[None]:
        """Score a shard in this thread: calls of a `watched` engine belong to it."""
        token = _SHARD.set(name)
        try:
            yield
        finally:
            _SHARD.reset(token)

    def watched(self, engine: Engine) -> Engine:
        """Return the engine, with an ear on what its calls have done."""
        return _Watched(engine, self)

    def done(self, name: str, tokens: int) -> None:
        """A shard is scored, with so many tokens."""
        with self._lock:
            self._open.pop(name, None)
            self._done[name] = tokens
        self.beat()

    def call(self, windows: Any) -> Callable[[Sequence[int]], None]:
        """Return who is to hear which windows of one call are done."""
        name, lengths = _SHARD.get(), windows.lengths
        total = max(1, int(lengths.sum()))
        here = 0

        def hear(rows: Sequence[int]) -> None:
            nonlocal here
            with self._lock:
                read = int(lengths[list(rows)].sum())
                here += read
                under_way = self._open.setdefault(name, _Open())
                under_way.tokens += read
                under_way.share = max(under_way.share, min(1.0, here / total))
            self.beat()

        return hear

    def beat(self) -> None:
        """Tell the pace, if it has not been told for a while."""
        with self._lock:
            if self._clock() - self._told < self._every_s:
                return
            self._told = self._clock()
        self._tell(self.pace())

    def end(self) -> Pace:
        """Tell the pace a last time, and return it."""
        last = self.pace()
        self._tell(last)
        return last

    def pace(self) -> Pace:
        """Return how far the lane is."""
        with self._lock:
            seconds = self._clock() - self._began
            parts = dict.fromkeys(self._done, 1.0) | {name: part.share for name, part in self._open.items()}
            texts = sum(share * self._shards[name][0] for name, share in parts.items())
            read = sum(share * self._shards[name][1] for name, share in parts.items())
            tokens = sum(self._done.values()) + sum(part.tokens for part in self._open.values())
        total, size = (sum(shard[place] for shard in self._shards.values()) for place in (0, 1))
        left = seconds * (size - read) / read if read else None
        return Pace(int(texts), total, tokens, seconds, left)


_SHARD: ContextVar[str] = ContextVar("windrow_shard", default="")


class _Watched:
    """An engine behind the seam of one; what its calls have done is heard by a meter."""

    def __init__(self, engine: Engine, meter: Meter) -> None:
        self.plan, self._engine, self._meter = engine.plan, engine, meter

    def classify(self, windows: Any) -> Outputs:
        with hearing(self._meter.call(windows)):
            return self._engine.classify(windows)

    def tag(self, windows: Any) -> Outputs:
        with hearing(self._meter.call(windows)):
            return self._engine.tag(windows)

    def embed(self, windows: Any, pooling: str = "mean", unit: bool = True) -> Outputs:
        with hearing(self._meter.call(windows)):
            return self._engine.embed(windows, pooling, unit)

    def generate(self, windows: Any, decoding: Decoding) -> Outputs:
        with hearing(self._meter.call(windows)):
            return self._engine.generate(windows, decoding)

    def close(self) -> None:
        self._engine.close()
