"""Airflow's metadata database, read in a bounded number of queries whose size does not grow with its history."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.models.asset import AssetModel, TaskOutletAssetReference
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from windrow.airflow.telling import LANE, LOAD, PROGRESS, PUBLISH

__all__ = [
    "Attempt",
    "Place",
    "Step",
    "TaskKey",
    "find_run",
    "is_windrows",
    "lane_states",
    "places",
    "recent",
    "steps",
    "told",
    "values",
]

OPERATORS = {
    "LoadOperator": "load",
    "InferOperator": "infer",
    "PublishOperator": "publish",
    "ScoreOperator": "whole",
    "SentimentOperator": "whole",
    "SummariseOperator": "whole",
    "InferDecoratedOperator": "whole",
}
"""How our operators' names end, those of subclasses too, and which step each is; ``whole`` does all three."""
TaskKey = tuple[str, str]
"""Dag id and task id."""
_OURS = "windrow://%"
_MOST_TASKS = 4000
"""Of one run: more task instances than any page could show."""


@dataclass(frozen=True, slots=True)
class Place:
    """One of Airflow's runs."""

    id: int
    dag_id: str
    run_id: str
    state: str
    run_type: str
    run_after: datetime | None
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """A publish task in one run, and what it told, if it got so far."""

    dag_id: str
    task_id: str
    run_id: str
    state: str
    run_state: str
    started: datetime | None
    ended: datetime | None
    told: Any


@dataclass(frozen=True, slots=True)
class Step:
    """One task instance of a run."""

    task_id: str
    map_index: int
    state: str
    operator: str
    started: datetime | None
    ended: datetime | None
    tries: int


def places(session: Session) -> dict[TaskKey, str]:
    """Return all publish tasks that Airflow knows, with the table each fills, if its Dag says so.

    A Dag tells them by its outlets, before it has ever run; where a template hides the table, a past run does.
    """
    outlets = (
        select(TaskOutletAssetReference.dag_id, TaskOutletAssetReference.task_id, AssetModel.name)
        .join(AssetModel, AssetModel.id == TaskOutletAssetReference.asset_id)
        .where(AssetModel.name.like(_OURS))
    )
    told = select(XComModel.dag_id, XComModel.task_id).where(XComModel.key == PUBLISH).distinct()
    found: dict[TaskKey, str] = dict.fromkeys(((row.dag_id, row.task_id) for row in session.execute(told)), "")
    return found | {(dag_id, task_id): name.rpartition("/")[2] for dag_id, task_id, name in session.execute(outlets)}


def recent(session: Session, keys: Collection[TaskKey], most: int, before: int | None = None) -> list[Attempt]:
    """Return the last runs of publish tasks, the newest first, at most so many of each.

    Args:
        before: Id of one of Airflow's runs; only earlier ones are asked for.
    """
    if not keys:
        return []
    place = func.row_number().over(
        partition_by=(TaskInstance.dag_id, TaskInstance.task_id), order_by=(DagRun.id.desc(), TaskInstance.map_index)
    )
    ranked = (
        select(
            TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id, TaskInstance.state,
            DagRun.state.label("run_state"), DagRun.start_date, DagRun.end_date, DagRun.id.label("dag_run_id"),
            place.label("place"),
        )
        .join(DagRun, and_(DagRun.dag_id == TaskInstance.dag_id, DagRun.run_id == TaskInstance.run_id))
        .where(_is_one_of(keys), *([DagRun.id < before] if before is not None else []))
        .subquery()
    )  # fmt: skip
    mine = and_(
        XComModel.dag_run_id == ranked.c.dag_run_id,
        XComModel.task_id == ranked.c.task_id,
        XComModel.map_index == -1,
        XComModel.key == PUBLISH,
    )
    query = (
        select(ranked, XComModel.value)
        .outerjoin(XComModel, mine)
        .where(ranked.c.place <= most)
        .order_by(ranked.c.dag_run_id.desc())
    )
    return [
        Attempt(row.dag_id, row.task_id, row.run_id, _state(row.state), _state(row.run_state), row.start_date,
                row.end_date, row.value)
        for row in session.execute(query)
    ]  # fmt: skip


def find_run(session: Session, dag_id: str, run_id: str) -> Place | None:
    """Return one of Airflow's runs, if there is such a one."""
    columns = (DagRun.id, DagRun.state, DagRun.run_type, DagRun.run_after, DagRun.start_date, DagRun.end_date)
    row = session.execute(select(*columns).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)).first()
    if row is None:
        return None
    return Place(row.id, dag_id, run_id, _state(row.state), str(row.run_type), *row[3:])


def steps(session: Session, run: Place, task_id: str | None = None) -> list[Step]:
    """Return the task instances of a run, or those of one task."""
    query = select(
        TaskInstance.task_id, TaskInstance.map_index, TaskInstance.state, TaskInstance.operator,
        TaskInstance.start_date, TaskInstance.end_date, TaskInstance.try_number,
    ).where(TaskInstance.dag_id == run.dag_id, TaskInstance.run_id == run.run_id)  # fmt: skip
    if task_id is not None:
        query = query.where(TaskInstance.task_id == task_id)
    query = query.order_by(TaskInstance.task_id, TaskInstance.map_index).limit(_MOST_TASKS)
    return [
        Step(task, index, _state(state), operator or "", started, ended, tries or 0)
        for task, index, state, operator, started, ended, tries in session.execute(query)
    ]


def values(session: Session, run: Place, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[int, Any]]:
    """Return XComs of a run by task id and key, then by map index.

    Args:
        wanted: Task id and key of each.
    """
    pairs = list(wanted)
    if not pairs:
        return {}
    query = select(XComModel.task_id, XComModel.key, XComModel.map_index, XComModel.value).where(
        XComModel.dag_run_id == run.id,
        or_(*(and_(XComModel.task_id == task_id, XComModel.key == key) for task_id, key in pairs)),
    )
    found: dict[tuple[str, str], dict[int, Any]] = {}
    for task_id, key, index, value in session.execute(query):
        found.setdefault((task_id, key), {})[index] = value
    return found


def told(session: Session, run: Place) -> dict[str, dict[str, dict[int, Any]]]:
    """Return what the tasks of a run told the page: by task id, key and map index."""
    query = (
        select(XComModel.task_id, XComModel.key, XComModel.map_index, XComModel.value)
        .where(XComModel.dag_run_id == run.id, XComModel.key.in_((LOAD, LANE, PUBLISH)))
        .limit(_MOST_TASKS)
    )
    found: dict[str, dict[str, dict[int, Any]]] = {}
    for task_id, key, index, value in session.execute(query):
        found.setdefault(task_id, {}).setdefault(key, {})[index] = value
    return found


def lane_states(session: Session, run: Place, task_id: str) -> dict[int, Any]:
    """Return the progress that the lanes of a task keep, by map index; none before Airflow 3.3."""
    try:
        from airflow.models.task_state_store import TaskStateStoreModel as State
    except ImportError:
        return {}
    query = select(State.map_index, State.value).where(
        State.dag_run_id == run.id, State.task_id == task_id, State.key == PROGRESS
    )
    return {index: _parsed(value) for index, value in session.execute(query)}


def is_windrows(session: Session, dag_id: str, task_id: str) -> bool:
    """Tell whether a task has ever told the page something, or is known by its operator's name."""
    spoke = select(XComModel.key).where(
        XComModel.dag_id == dag_id, XComModel.task_id == task_id, XComModel.key.in_((LOAD, LANE, PUBLISH))
    )
    named = select(TaskInstance.operator).where(
        TaskInstance.dag_id == dag_id,
        TaskInstance.task_id == task_id,
        or_(*(TaskInstance.operator.like(f"%{name}") for name in OPERATORS)),
    )
    return any(session.execute(query.limit(1)).first() is not None for query in (named, spoke))


def _is_one_of(keys: Collection[TaskKey]) -> Any:
    """Return the condition that a task instance is of one of these tasks; one comparison a Dag."""
    by_dag: dict[str, list[str]] = {}
    for dag_id, task_id in keys:
        by_dag.setdefault(dag_id, []).append(task_id)
    return or_(*(and_(TaskInstance.dag_id == dag_id, TaskInstance.task_id.in_(ids)) for dag_id, ids in by_dag.items()))


def _state(value: Any) -> str:
    return str(getattr(value, "value", value) or "")


def _parsed(value: Any) -> Any:
    """Return the JSON in the state store; None if it is none."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return None
