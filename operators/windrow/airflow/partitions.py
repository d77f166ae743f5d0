"""Which partition a Dag run owns: by its key, its data interval, what triggered it, or its day."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any

from windrow.errors import JobError
from windrow.partitions import partition_at

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from airflow.sdk.types import DagRunProtocol

__all__ = ["default_partition"]


def default_partition(dag_run: DagRunProtocol, dag: DAG, *, strict: bool = False) -> str:
    """Return the partition of a Dag run: never from ``ds``, which runs without a logical date do not have.

    In this order:

    1. the run's partition key, where its timetable gives one;
    2. the start of its data interval: the day (``2026-11-23``) if it starts at midnight in the Dag's
       time zone, else the minute in UTC (``2026-11-23T1405Z``). A manual run whose interval is a point
       in time owns its day;
    3. the partition of the asset events that triggered it, if all name the same;
    4. the day of ``run_after``.

    Args:
        dag_run: As in the task's context.
        dag: As in the task's context; tells the time zone.
        strict: Refuse a run that several partitions triggered together, instead of taking its day.

    Raises:
        JobError: `strict`, and the events that triggered the run name several partitions.
    """
    if key := _key(dag_run):
        return key
    zone = _zone(dag)
    start = dag_run.data_interval_start
    if start is not None:
        is_point = start == dag_run.data_interval_end and dag_run.run_type == "manual"
        return _day(start, zone) if is_point else partition_at(start, zone)
    named = sorted(_triggering_partitions(dag_run))
    if len(named) == 1:
        return named[0]
    if named and strict:
        raise JobError(
            f"The run was triggered by several partitions at once: {', '.join(named)}.",
            "trigger it once for each, with that logical date; or schedule both Dags by partition keys.",
        )
    return _day(dag_run.run_after, zone)


def _triggering_partitions(dag_run: DagRunProtocol) -> set[str]:
    """Return the partitions that the triggering asset events name."""
    events = dag_run.consumed_asset_events or ()
    named = (_key(event) or event.extra.get("partition") for event in events)
    return {str(partition) for partition in named if partition}


def _key(keyed: Any) -> str | None:
    """Return the partition key of a run or an event; Airflow 3.1 knows none."""
    key: str | None = getattr(keyed, "partition_key", None)
    return key


def _zone(dag: DAG) -> tzinfo:
    """Return the time zone in which the Dag's days begin."""
    zone = getattr(dag.timetable, "timezone", None)
    return zone if isinstance(zone, tzinfo) else dag.timezone


def _day(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%Y-%m-%d}"
