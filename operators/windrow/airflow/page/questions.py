"""What a run that waits for a person is asked, as Airflow's human-in-the-loop keeps it."""

from __future__ import annotations

from airflow.models.hitl import HITLDetail
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import select
from sqlalchemy.orm import Session

from windrow.airflow.page.facts import text
from windrow.airflow.page.metadata import Place, Step

__all__ = ["question"]


def question(session: Session, run: Place, step: Step) -> str:
    """Return the question that a task instance has put, without its form; empty if there is none."""
    query = (
        select(HITLDetail.subject)
        .join(TaskInstance, TaskInstance.id == HITLDetail.ti_id)
        .where(
            TaskInstance.dag_id == run.dag_id,
            TaskInstance.run_id == run.run_id,
            TaskInstance.task_id == step.task_id,
            TaskInstance.map_index == step.map_index,
        )
    )
    return text(session.execute(query).scalar(), 300)
