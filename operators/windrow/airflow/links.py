"""Links from a task to Windrow's page in Airflow: the run, and how to query its table."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey  # type: ignore[attr-defined,unused-ignore]

__all__ = ["RunLink", "TableLink", "run_address"]


def run_address(dag_id: str, run_id: str) -> str:
    """Return the address of a run's tab, relative to Airflow's own.

    >>> run_address("reviews", "manual__2026-11-23T00:00:00+00:00")
    'dags/reviews/runs/manual__2026-11-23T00%3A00%3A00%2B00%3A00/plugin/windrow-run'
    """
    return f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/plugin/windrow-run"


class RunLink(BaseOperatorLink):
    """Opens the run on Windrow's page."""

    name = "Windrow run"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the run."""
        return run_address(ti_key.dag_id, ti_key.run_id)


class TableLink(BaseOperatorLink):
    """Opens the statements that query the published table."""

    name = "Windrow table"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address of the run's queries."""
        return f"{run_address(ti_key.dag_id, ti_key.run_id)}#query"
