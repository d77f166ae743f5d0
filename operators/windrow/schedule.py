"""When a job runs, as its file may say: the section ``dag``. The core checks it and does nothing else with it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

__all__ = ["Schedule"]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _from_hours(value: object) -> object:
    """Take a number for hours; what else it may be is left to pydantic."""
    if not isinstance(value, int | float):
        return value
    try:
        return timedelta(hours=float("nan") if isinstance(value, bool) else value)
    except (OverflowError, ValueError):
        raise ValueError("give hours, such as 2, or ISO 8601, such as PT2H30M") from None


Names = Annotated[tuple[str, ...], BeforeValidator(_listed)]
_HOURS = [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "format": "duration"}]
Span = Annotated[timedelta, Field(gt=timedelta(0)), BeforeValidator(_from_hours), WithJsonSchema({"anyOf": _HOURS})]


class Schedule(BaseModel):
    """The section ``dag`` of a job file; `windrow.airflow.dags_from` makes a Dag of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schedule: str | None = Field(None, description="Cron text, or @hourly, @daily, @weekly, @monthly")
    interval: bool = Field(False, description="A run owns the interval that has just ended, not the moment it starts")
    after: Names = Field((), description="Run when these jobs of the folder (or assets, by name) have published")
    on_model_update: bool = Field(False, description="Run when the model's revision moves on the Hub")
    timezone: str = Field("UTC", description="Time zone of the schedule")
    start_date: date | datetime | None = Field(None, description="First day; nothing before it is scheduled")
    catchup: bool = Field(False, description="Run the days between start_date and now, too")
    partition: str | None = Field(None, description="Template of the partition that a run owns")
    partitioned: bool = Field(False, description="Events of the table have the partition as their key")
    approvers: Names = Field((), description="Users who may answer where a quality gate asks")
    deadline: Span | None = Field(None, description="Time that a run may take: hours, or ISO 8601 such as PT2H30M")
    lanes: int = Field(1, ge=1, description="Most infer tasks of one run")
    retries: int = Field(2, ge=0, description="How often a task is tried again where that may help")
    max_active_runs: int = Field(1, ge=1, description="Runs of the Dag at once")
    pool: str | None = Field(None, description="Airflow pool of the infer tasks")
    pool_slots: int | None = Field(None, ge=1, description="Slots of the pool that each infer task takes")
    lane_memory_gib: float | None = Field(
        None, gt=0, description="GPU memory of an infer task; it takes as many slots of the pool, gpu unless given"
    )
    queue: str | None = Field(None, description="Airflow queue of the infer tasks")
    owner: str = Field("airflow", description="Owner, as Airflow shows it")
    tags: Names = Field(("windrow",), description="Tags, as Airflow shows them")
