"""Who may see what: Airflow's own login, and for each Dag the right to read its runs and its XComs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends

__all__ = ["DAG_DATA", "readable"]

_ENTITIES = (DagAccessEntity.RUN, DagAccessEntity.TASK_INSTANCE, DagAccessEntity.XCOM)
"""All that is shown of a Dag comes from these, so all are asked for."""

DAG_DATA = [Depends(requires_access_dag("GET", entity)) for entity in _ENTITIES]
"""Dependencies of a route with ``dag_id`` in its path: 401 without a login, 403 without the right."""


def readable(user: Any, dag_ids: Iterable[str]) -> set[str]:
    """Return those of some Dags of which the user may see all that the page shows."""
    manager: Any = get_auth_manager()
    allowed = set(dag_ids) & set(manager.get_authorized_dag_ids(user=user, method="GET"))
    teams = _teams(allowed)
    return {dag_id for dag_id in allowed if _may_read(manager, user, dag_id, teams.get(dag_id))}


def _may_read(manager: Any, user: Any, dag_id: str, team: str | None) -> bool:
    details = DagDetails(id=dag_id, team_name=team) if team else DagDetails(id=dag_id)
    return all(
        manager.is_authorized_dag(method="GET", access_entity=entity, details=details, user=user)
        for entity in _ENTITIES
    )


def _teams(dag_ids: set[str]) -> dict[str, str | None]:
    """Return the teams that Dags belong to, in one query; an Airflow of before there were teams knows none."""
    ask = getattr(DagModel, "get_dag_id_to_team_name_mapping", None)
    return dict(ask(list(dag_ids))) if ask and dag_ids else {}
