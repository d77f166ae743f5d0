"""How long a run waits for others who hold what it has to write."""

from __future__ import annotations

import os

__all__ = ["MINUTE_S", "TEN_MINUTES_S", "lock_wait"]

MINUTE_S, TEN_MINUTES_S = 60.0, 600.0


def lock_wait(usual_s: float, given_s: float | None = None) -> float:
    """Return how many seconds to wait: those given, else those of ``$WINDROW_LOCK_WAIT_S``, else the usual ones.

    >>> lock_wait(60.0, given_s=0.5)
    0.5
    """
    return float(os.environ.get("WINDROW_LOCK_WAIT_S", usual_s)) if given_s is None else given_s
