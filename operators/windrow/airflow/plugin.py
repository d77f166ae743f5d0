"""What Windrow adds to Airflow itself: one macro; no pages and no routes."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from windrow.airflow.partitions import default_partition

__all__ = ["WindrowPlugin"]


class WindrowPlugin(AirflowPlugin):
    """Registers Windrow: ``{{ macros.windrow.default_partition(dag_run, dag) }}`` names the partition of a run."""

    name = "windrow"
    macros = [default_partition]  # noqa: RUF012 (so Airflow declares it)
