"""Windrow's page in Airflow: jobs, their runs over time, and one run from its lanes to the SQL that queries it.

    access.py     who may see what
    metadata.py   Airflow's metadata database, in a bounded number of queries
    facts.py      what XComs say, read with mistrust
    jobs.py       a job: its runs over time
    runs.py       one run: steps, lanes, receipt, comparison with the run before
    samples.py    sample rows out of a store
    queries.py    SQL for the published table
    drawing.py    numbers, moments and bars
    app.py        the routes
    templates/, static/

This module is imported by every Airflow process; what the page needs is imported at its first request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["VIEWS", "WindrowPage"]

_MESSAGE = MutableMapping[str, Any]


def _view(destination: str, name: str, href: str) -> dict[str, Any]:
    """Return one of Airflow's external views; addresses are relative, since Airflow may live under a path."""
    route = "windrow" if destination == "nav" else f"windrow-{name}"
    view = {"name": "Windrow", "href": f"windrow/{href}", "destination": destination, "url_route": route}
    icons = {"icon": "windrow/static/icon.svg", "icon_dark_mode": "windrow/static/icon-dark.svg"}
    return {**view, **icons, **({"category": "browse"} if destination == "nav" else {})}


VIEWS: list[dict[str, Any]] = [
    _view("nav", "", ""),
    _view("dag", "dag", "dags/{DAG_ID}"),
    _view("dag_run", "run", "dags/{DAG_ID}/runs/{RUN_ID}"),
    _view("task", "task", "dags/{DAG_ID}/tasks/{TASK_ID}"),
    _view("task_instance", "lane", "dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}?map_index={MAP_INDEX}"),
]
"""The entry under Browse, and the tabs on Dag, run, task and task instance."""


class WindrowPage:
    """The page as an ASGI application."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(
        self,
        scope: _MESSAGE,
        receive: Callable[[], Awaitable[_MESSAGE]],
        send: Callable[[_MESSAGE], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if self._app is None:
            from windrow.airflow.page.app import make_app

            self._app = make_app()
        await self._app(scope, receive, send)
