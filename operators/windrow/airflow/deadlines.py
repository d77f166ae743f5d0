"""Deadlines: what Airflow watches after the fact, and what a lane can tell while there is still time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from windrow.errors import JobError

if TYPE_CHECKING:
    from airflow.sdk.definitions.deadline import DeadlineAlert

    from windrow.remaining import Forecast, Remaining

__all__ = ["LaneWatch", "deadline", "due_at", "log_missed_deadline"]

log = logging.getLogger("windrow")
_EVERY_S = 30.0


def deadline(within: timedelta, *, callback: Any = None, since: Any = None) -> DeadlineAlert:
    """Return a deadline for a Dag: ``@dag(deadline=deadline(timedelta(hours=2)))``.

    Airflow calls `callback` once the time is over and the run is not. Before that, while a model is
    scored, Windrow's infer tasks predict their end from measured texts per second and warn in their log (and
    through ``on_late``) as soon as it lies behind the deadline.

    Args:
        within: Time that a run may take.
        callback: An `airflow.sdk.AsyncCallback` or `SyncCallback`; a line in the triggerer's log unless given.
        since: An `airflow.sdk.DeadlineReference`; the moment the run is queued unless given.
    """
    from airflow.sdk.definitions.callback import AsyncCallback
    from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

    reference = DeadlineReference.DAGRUN_QUEUED_AT if since is None else since
    return DeadlineAlert(reference, within, callback or AsyncCallback(log_missed_deadline))


async def log_missed_deadline(**context: Any) -> None:
    """Write a warning that a Dag run has missed its deadline."""
    log.warning("A deadline was missed: %s", context.get("context", context))


def due_at(context: Mapping[str, Any]) -> datetime | None:
    """Return the earliest deadline of a task's Dag run, as far as a worker can tell; None if there is none.

    The moment a run was queued is not known to workers; its start stands for it, some seconds later.
    Deadlines by average runtime, and references of one's own, are known to the scheduler alone.
    """
    alerts = getattr(context["dag"], "deadline", None) or ()
    found = [due for alert in alerts if (due := _due(alert, context["dag_run"])) is not None]
    return min(found, default=None)


def _due(alert: Any, dag_run: Any) -> datetime | None:
    kind = type(alert.reference).__name__
    if kind == "FixedDatetimeDeadline":
        begin = alert.reference._datetime
    elif kind == "DagRunLogicalDateDeadline":
        begin = dag_run.logical_date
    elif kind == "DagRunQueuedAtDeadline":
        begin = dag_run.start_date or dag_run.run_after
    else:
        return None
    if begin is None:
        return None
    begin = begin if begin.tzinfo else begin.replace(tzinfo=UTC)
    due: datetime = begin + _interval(alert.interval)
    return due


def _interval(given: Any) -> timedelta:
    """Return a deadline's interval, read from its Airflow variable where it names one."""
    if isinstance(given, timedelta):
        return given
    from airflow.sdk import Variable

    seconds = Variable.get(given.key)
    try:
        return timedelta(seconds=float(seconds))
    except ValueError:
        raise JobError(
            f"The variable {given.key!r} of a deadline is {seconds!r}.", "set it to a number of seconds."
        ) from None


class LaneWatch:
    """Holds a lane against the Dag's deadline: a line every half minute, and a warning once it will be missed.

    Called after each shard, as `windrow.infer.Progress`.

    Args:
        context: The task's context.
        lane: Number of the lane, from 1.
        on_late: Called once with the context, ``remaining`` and ``due`` in it, when the deadline will be missed.
        forecast: Measures and predicts.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        context: Mapping[str, Any],
        lane: int,
        on_late: Callable[[Any], Any] | None = None,
        forecast: Forecast | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from windrow.remaining import Forecast

        self.context, self.lane, self.on_late = context, lane, on_late
        self.due = due_at(context)
        self._forecast, self._clock = forecast or Forecast(), clock
        self._told_at = clock()
        self._is_late = False

    def __call__(self, done: int, total: int) -> None:
        """Take note of a shard's end."""
        remaining = self._forecast(done, total)
        if self.due is None or done >= total:
            return
        is_late, now = remaining.finish > self.due, self._clock()
        if is_late != self._is_late or now - self._told_at >= _EVERY_S:
            self._told_at = now
            self._say(remaining, self.due)
        if is_late and not self._is_late and self.on_late:
            called, self.on_late = self.on_late, None
            called({**self.context, "remaining": remaining, "due": self.due})
        self._is_late = is_late

    def _say(self, remaining: Remaining, due: datetime) -> None:
        minutes = remaining.lateness(due).total_seconds() / 60
        if minutes > 0:
            log.warning("Lane %d: %s; %.1f minutes after the deadline.", self.lane, remaining, minutes)
        else:
            log.info("Lane %d: %s; %.1f minutes before the deadline.", self.lane, remaining, -minutes)
