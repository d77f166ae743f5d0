"""Engines tell which windows they have done, while a call is still under way, to whoever listens in its thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["Heard", "hearing", "heard"]

Heard = Callable[[Sequence[int]], None]
"""Called with the indices of windows that are done."""


def _nobody(rows: Sequence[int]) -> None:
    """Listen to nothing."""


_HEARD: ContextVar[Heard] = ContextVar("windrow_heard", default=_nobody)


def heard() -> Heard:
    """Return who listens to the engine's calls in this thread; threads that the engine starts call it, too.

    >>> done = []
    >>> with hearing(done.extend):
    ...     heard()([0, 1])
    >>> heard()([2])
    >>> done
    [0, 1]
    """
    return _HEARD.get()


@contextmanager
def hearing(listener: Heard) -> Iterator[None]:
    """Let `listener` hear what the engine's calls in this thread have done."""
    token = _HEARD.set(listener)
    try:
        yield
    finally:
        _HEARD.reset(token)
