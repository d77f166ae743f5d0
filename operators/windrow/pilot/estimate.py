"""When a job will be done and what it will cost, with an interval; and whether that is within its limits."""

from __future__ import annotations

from dataclasses import dataclass

from windrow.errors import LimitError
from windrow.job import Job, Limits
from windrow.pilot.timing import Timing

__all__ = ["Estimate", "estimate", "hours_allowed", "refuse_beyond"]

PUBLISHED_ROWS_PER_S = 150_000
_UNKNOWN = 0.10
"""What no sample shows: a machine's speed changes within minutes by about so much."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds from now to the end of publish, and the 95 % interval around them; cost in the price's currency."""

    seconds: float
    low_s: float
    high_s: float
    price_per_hour: float | None = None

    def cost(self, seconds: float) -> float | None:
        """Return what so many seconds cost, if the job tells a price."""
        return None if self.price_per_hour is None else self.price_per_hour * seconds / 3600


def estimate(job: Job, tokens: int, rows: int, timing: Timing | None) -> Estimate:
    """Estimate the rest of a run.

    Args:
        tokens: Tokens that are still to be read.
        rows: Rows to publish.
        timing: How fast the chosen engine was on a sample; None if nothing is left to score.
    """
    publish_s = rows / PUBLISHED_ROWS_PER_S
    if timing is None or not tokens:
        return Estimate(publish_s, publish_s, publish_s, job.price_per_hour)
    infer_s = tokens / timing.tokens_per_s
    apart = min(0.9, 2 * timing.spread + _UNKNOWN)
    low, high = infer_s * (1 - apart), infer_s * (1 + apart)
    return Estimate(infer_s + publish_s, low + publish_s, high + publish_s, job.price_per_hour)


def hours_allowed(limits: Limits, price_per_hour: float | None) -> float | None:
    """Return the most hours that the limits of a job leave it, if they say.

    >>> hours_allowed(Limits(max_cost=3, max_hours=2), price_per_hour=6)
    0.5
    """
    by_cost = limits.max_cost / price_per_hour if limits.max_cost is not None and price_per_hour else None
    given = [hours for hours in (limits.max_hours, by_cost) if hours is not None]
    return min(given) if given else None


def refuse_beyond(job: Job, found: Estimate) -> None:
    """Raise a `LimitError` if an estimate is beyond the job's limits."""
    allowed = hours_allowed(job.limits, job.price_per_hour)
    if allowed is None or found.seconds / 3600 <= allowed:
        return
    cost = found.cost(found.seconds)
    worth = f" and {cost:,.2f}" if cost is not None else ""
    raise LimitError(
        f"The run would take about {found.seconds / 3600:.3g} hours{worth}; its limits leave it {allowed:.3g} hours. "
        "Nothing was scored.",
        "raise limits.max_hours or limits.max_cost, take a smaller model or partition, or use a faster machine.",
    )
