"""The routes of the page. All only read; each asks for a login, and those of a Dag for the right to read its data."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep, requires_authenticated
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, select_autoescape
from starlette.exceptions import HTTPException as HttpError

from windrow import __version__
from windrow.airflow.page import metadata, runs
from windrow.airflow.page.access import DAG_DATA, readable
from windrow.airflow.page.drawing import FILTERS, mix, mix_words
from windrow.airflow.page.facts import Brief, text
from windrow.airflow.page.jobs import jobs_of
from windrow.airflow.page.reading import run_facts
from windrow.airflow.page.samples import read_samples

__all__ = ["make_app"]

log = logging.getLogger("windrow")

OVERVIEW_RUNS, JOB_RUNS = 30, 90
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_STATIC = {
    "page.css": "text/css", "uplot.css": "text/css", "page.js": "text/javascript", "theme.js": "text/javascript",
    "uplot.js": "text/javascript", "icon.svg": "image/svg+xml", "icon-dark.svg": "image/svg+xml",
}  # fmt: skip
_WORDS = {
    401: ("You are not logged in.", "Log in to Airflow, then open this page again."),
    403: ("You may not see this.", "Your role does not let you read the runs and XComs of this Dag."),
    404: ("There is nothing here.", "The Dag, run or task does not exist, or has been deleted."),
}

_MAP_INDEX = Annotated[str, Query(max_length=40)]


def make_app() -> FastAPI:
    """Return the page, to be mounted into Airflow's API server."""
    app = FastAPI(
        title="Windrow",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_authenticated())],
    )
    app.middleware("http")(_with_headers)
    app.exception_handler(HttpError)(_told)
    app.add_api_route("/", _overview, response_class=HTMLResponse)
    app.add_api_route("/static/{name}", _static)
    routes: dict[str, Callable[..., Response]] = {
        "/dags/{dag_id}": _dag,
        "/dags/{dag_id}/tasks/{task_id}": _task,
        "/dags/{dag_id}/runs/{run_id}": _run,
        "/dags/{dag_id}/runs/{run_id}/tasks/{task_id}": _run,
        "/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/live": _live,
        "/dags/{dag_id}/runs/{run_id}/tasks/{task_id}/receipt.json": _receipt,
    }
    for path, endpoint in routes.items():
        app.add_api_route(path, endpoint, dependencies=DAG_DATA)
    return app


async def _with_headers(request: Request, answer: Any) -> Response:
    """Let nothing be embedded from elsewhere, kept by caches, or run from a text."""
    response: Response = await answer(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _told(request: Request, error: HttpError) -> Response:
    """Answer an error as a page."""
    problem, fix = _WORDS.get(error.status_code, ("This did not work.", text(error.detail)))
    return _shown(request, "error.html", error.status_code, problem=problem, fix=fix, title=problem)


def _overview(request: Request, user: GetUserDep) -> Response:
    """All jobs that the user may see."""
    with create_session() as session:
        known = metadata.places(session)
        allowed = readable(user, {dag_id for dag_id, _ in known})
        mine = {key: table for key, table in known.items() if key[0] in allowed}
        found = jobs_of(mine, metadata.recent(session, mine, OVERVIEW_RUNS))
    return _shown(request, "overview.html", jobs=found, title="Windrow")


def _dag(request: Request, dag_id: str, task: str | None = None) -> Response:
    """The jobs of a Dag, one of them over its runs."""
    with create_session() as session:
        mine = {key: table for key, table in metadata.places(session).items() if key[0] == dag_id}
        chosen = _chosen(mine, task)
        found = jobs_of(chosen, metadata.recent(session, chosen, JOB_RUNS)) if chosen else []
    names = {task_id: task_id.rpartition(".")[0] or task_id for _, task_id in sorted(mine)}
    job = found[0] if found else None
    return _shown(request, "job.html", dag_id=dag_id, tabs=names, job=job, ours=True, title=job.name if job else dag_id)


def _task(request: Request, dag_id: str, task_id: str) -> Response:
    """The job that a task belongs to, over its runs."""
    group = task_id.rpartition(".")[0]
    with create_session() as session:
        mine = {key: table for key, table in metadata.places(session).items() if key[0] == dag_id}
        family = {key: table for key, table in mine.items() if key[1].rpartition(".")[0] == group}
        is_sibling = bool(group and family)
        if (dag_id, task_id) not in mine and not is_sibling and not metadata.is_windrows(session, dag_id, task_id):
            family = {}
        chosen = _chosen(family, task_id)
        found = jobs_of(chosen, metadata.recent(session, chosen, JOB_RUNS)) if chosen else []
    job = found[0] if found else None
    return _shown(
        request, "job.html", dag_id=dag_id, tabs={}, job=job, ours=bool(family), title=job.name if job else task_id
    )


def _chosen(keys: dict[metadata.TaskKey, str], task_id: str | None) -> dict[metadata.TaskKey, str]:
    """Return the publish task that is asked for, or the first."""
    named = [key for key in sorted(keys) if key[1] == task_id]
    return {key: keys[key] for key in (named or sorted(keys))[:1]}


def _run(
    request: Request, dag_id: str, run_id: str, task_id: str | None = None, map_index: _MAP_INDEX = ""
) -> Response:
    """One run of a job."""
    with create_session() as session:
        run = _found(metadata.find_run(session, dag_id, run_id))
        parts = runs.parts(session, run)
        part = runs.part_of(parts, task_id)
        if part is None and task_id and not metadata.steps(session, run, task_id):
            raise HTTPException(404)
        facts: dict[str, Any] = {}
        if part is not None:
            runs.read_part(session, run, part)
            before = metadata.recent(session, [(dag_id, part.task_id)], 5, before=run.id) if part.receipt else []
            facts = run_facts(part, [brief for attempt in before if (brief := Brief.read(attempt.told))])
    if part is not None:
        facts["samples"] = read_samples(part.brief) if part.brief else None
    lane = int(map_index) if map_index.isascii() and map_index.isdigit() else None
    facts |= {"run": run, "parts": parts, "part": part, "asked": task_id, "lane": lane}
    return _shown(request, "run.html", title=part.name if part else run_id, **facts)


def _live(request: Request, dag_id: str, run_id: str, task_id: str) -> Response:
    """What changes while a run is under way."""
    with create_session() as session:
        run = _found(metadata.find_run(session, dag_id, run_id))
        part = _found(runs.part_of(runs.parts(session, run), task_id))
        runs.read_part(session, run, part)
    return _shown(request, "live.html", run=run, part=part, lane=None, title=part.name)


def _receipt(dag_id: str, run_id: str, task_id: str) -> Response:
    """The receipt, whole, as a file."""
    with create_session() as session:
        run = _found(metadata.find_run(session, dag_id, run_id))
        part = _found(runs.part_of(runs.parts(session, run), task_id))
        runs.read_part(session, run, part)
    if not part.receipt:
        raise HTTPException(404)
    headers = {"Content-Disposition": 'attachment; filename="receipt.json"'}
    return Response(json.dumps(dict(part.receipt), indent=1), media_type="application/json", headers=headers)


def _static(name: str) -> Response:
    """Style, scripts and icons."""
    if name not in _STATIC:
        raise HTTPException(404)
    return Response(_file(name), media_type=_STATIC[name], headers={"Cache-Control": "private, max-age=3600"})


@cache
def _file(name: str) -> bytes:
    return (files(__package__) / "static" / name).read_bytes()


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("windrow.airflow.page"), autoescape=select_autoescape(default=True),
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters.update(FILTERS)
    found.globals.update(mix=mix, mix_words=mix_words)
    return found


def _shown(request: Request, template: str, status: int = 200, **facts: Any) -> Response:
    """Render a page; addresses in it start where the page is mounted."""
    root = request.scope.get("root_path", "")
    home = root.removesuffix("/windrow")
    page = _templates().get_template(template).render(root=root, home=home, version=__version__, **facts)
    return HTMLResponse(page, status)


def _found(value: Any) -> Any:
    if value is None:
        raise HTTPException(404)
    return value
