"""What Windrow adds to Airflow itself: one macro, and the page with its tabs (see `windrow.airflow.page`)."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from windrow.airflow.page import VIEWS, WindrowPage
from windrow.airflow.partitions import default_partition

__all__ = ["WindrowPlugin"]


class WindrowPlugin(AirflowPlugin):
    """Registers Windrow: ``{{ macros.windrow.default_partition(dag_run, dag) }}``, and the page under Browse."""

    name = "windrow"
    macros = [default_partition]  # noqa: RUF012 (so Airflow declares it)
    fastapi_apps: list[Any] = [{"app": WindrowPage(), "url_prefix": "/windrow", "name": "Windrow"}]  # noqa: RUF012
    external_views: list[Any] = VIEWS
