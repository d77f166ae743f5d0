"""What a task reads and writes, as the assets that Airflow draws and triggers by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator

from windrow.airflow.assets import asset_of, inputs_of
from windrow.airflow.jobs import read_job

__all__ = ["add_assets", "assets_of"]


def add_assets(task: BaseOperator, job: str | Mapping[str, Any]) -> None:
    """Add source and model to a task's inlets, and the table to its outlets; those named by its author stay.

    Not to what a mapped task becomes on a worker: Airflow refuses assets that it did not see in the Dag file.
    """
    if getattr(task, "_BaseOperator__from_mapped", False):
        return
    dag = task.get_dag()
    if dag is None and isinstance(job, str):
        return  # nobody knows yet where the file is
    inlets, outlets = assets_of(job, Path(dag.fileloc).absolute().parent if dag else Path.cwd())
    task.add_inlets([asset for asset in inlets if asset not in task.inlets])
    task.add_outlets([asset for asset in outlets if asset not in task.outlets])


def assets_of(job: str | Mapping[str, Any], folder: Path) -> tuple[list[Any], list[Any]]:
    """Return source and model, and the published table; none where a template hides which they are.

    Raises:
        JobError: The job file cannot be read.
    """
    if isinstance(job, str):
        if "{{" in job:
            return [], []
        job = read_job(job, folder).model_dump(mode="json", include={"warehouse", "source", "model"})
    warehouse = job.get("warehouse")
    is_told = isinstance(warehouse, Mapping) and isinstance(warehouse.get("table"), str)
    return inputs_of(job), [asset_of(warehouse)] if is_told and warehouse else []
