"""Waiting for a partition's source, in the triggerer: nothing but waiting, so no worker is held for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from windrow.airflow.jobs import JobLike
from windrow.airflow.step import Step
from windrow.airflow.versions import AirflowSkipException
from windrow.errors import SourceError

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["SourceSensor", "SourceTrigger"]


class SourceSensor(Step):
    """Waits until the files of a job's partition are there: put it before `windrow.airflow.batch_inference`.

    It looks once; then it is deferred, and the triggerer looks every `poll_s` seconds. The triggerer must
    reach the source. Only for jobs whose source is a path.

    Args:
        job: As in `windrow.airflow.LoadOperator`.
        partition: As in `windrow.airflow.LoadOperator`.
        poll_s: Seconds between two looks.
        timeout_s: Seconds after which the sensor fails; 12 hours unless given.
        soft_fail: Be skipped then, instead.
    """

    template_fields: Collection[str] = ("job", "partition")

    def __init__(
        self,
        *,
        job: JobLike,
        partition: str | None = None,
        poll_s: float = 60.0,
        timeout_s: float = 43_200.0,
        soft_fail: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(job=job, **kwargs)
        self.partition = partition
        self.poll_s = poll_s
        self.timeout_s = timeout_s
        self.soft_fail = soft_fail

    def execute(self, context: Context) -> str | None:
        """Return the partition if its files are there; else wait for them in the triggerer."""
        from windrow.sources.presence import is_there, place_of

        with self._working(context) as job:
            partition = self._partition_of(self.partition, job, context)
            place = place_of(job, partition)
            if is_there(place):
                return partition
        self.log.info("Waiting for the source of partition %s.", partition)
        until = time.time() + self.timeout_s
        self.defer(trigger=SourceTrigger(place, partition, self.poll_s, until), method_name="found")
        return None

    def found(self, context: Context, event: dict[str, Any]) -> str:  # noqa: ARG002 (so Airflow calls it)
        """Return the partition, or fail because its files never came."""
        partition = str(event["partition"])
        if event["found"]:
            return partition
        if self.soft_fail:
            raise AirflowSkipException(f"The source of partition {partition} did not come.")
        with self._stopping():
            raise SourceError(
                f"The source of partition {partition!r} has not come in {timedelta(seconds=self.timeout_s)}.",
                "look why it is late; or raise timeout_s.",
            )


class SourceTrigger(BaseTrigger):
    """Looks for files until they are there, or time is over.

    Args:
        place: File, glob or fsspec URL.
        partition: Told in the event.
        poll_s: Seconds between two looks.
        until: Moment after which it gives up, in seconds since 1970; so a restart of the triggerer changes nothing.
    """

    def __init__(self, place: str, partition: str, poll_s: float, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.place, self.partition, self.poll_s, self.until = place, partition, poll_s, until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how the triggerer makes this trigger anew."""
        names = ("place", "partition", "poll_s", "until")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: whether the files came."""
        from windrow.sources.presence import is_there

        while not (found := await asyncio.to_thread(is_there, self.place)) and time.time() < self.until:
            await asyncio.sleep(self.poll_s)
        told = {"found": found, "partition": self.partition}
        yield TriggerEvent(told)  # type: ignore[no-untyped-call]
