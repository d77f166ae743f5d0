"""Thirty days to backfill, one of them large: what both kinds of Airflow installation are asked to do in the tests."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import psutil
import pyarrow as pa
from pyarrow import parquet

from airflow_api import Api, awaited, ended

__all__ = [
    "DAYS",
    "LARGE",
    "expected_rows",
    "expected_texts",
    "kill_all",
    "large_infer",
    "play",
    "prepare",
    "stopped_below",
]

DAYS = [f"{date(2026, 2, 1) + timedelta(days=number):%F}" for number in range(30)]
LARGE = DAYS[14]
SHARED = ["good film", "bad film", "lovely plot", "awful plot"]
"""Texts of every day."""


def texts_of(day: str) -> list[str]:
    """Return the texts of a day: those of every day, one of them twice, and its own."""
    count = 1500 if day == LARGE else 12 if day in DAYS else 0
    return [*SHARED, SHARED[0], *(f"{'good' if n % 3 else 'bad'} phone number {n} of {day}" for n in range(count))]


def prepare(airflow: Path, data: Path) -> None:
    """Write the season's files, those of today and tomorrow, and the local settings of an Airflow home."""
    (airflow / "config").mkdir()
    shutil.copyfile(Path(__file__).parent / "airflow/worker_settings.py", airflow / "config/airflow_local_settings.py")
    folder = data / "season"
    folder.mkdir(parents=True)
    for day in [*DAYS, *_around_now()]:
        texts = texts_of(day)
        table = pa.table({"review_id": [f"{day}-{n}" for n in range(len(texts))], "body": texts})
        parquet.write_table(table, folder / f"{day}.parquet")


def _around_now() -> list[str]:
    now = datetime.now(UTC)
    return [f"{now:%F}", f"{now + timedelta(days=1):%F}"]


def expected_rows() -> dict[str, int]:
    """Return how many rows the table has of each day of the season."""
    return {day: len(texts_of(day)) for day in DAYS}


def expected_texts() -> int:
    """Return how many different texts the season has."""
    return len({text for day in DAYS for text in texts_of(day)})


def play(api: Api, stopped: Callable[[], psutil.Process | None], kill: Callable[[psutil.Process], None]) -> Any:
    """Let the Dag ``season`` run once by its schedule, then backfill it; kill a worker in the middle; return all runs.

    It is paused while the backfill is made: where SQLite is busy, Airflow takes runs back that its scheduler may hold
    already, which ends the scheduler.

    Args:
        api: Airflow.
        stopped: Looks for the process that stopped itself while it scored.
        kill: Kills the worker that runs it.
    """
    api("PATCH", "/api/v2/dags/season", is_paused=False)
    seen = {"scheduled": awaited(lambda: ended(api, "season", "scheduled"), "the end of the season's scheduled run")}
    api("PATCH", "/api/v2/dags/season", is_paused=True)
    _create_backfill(api)
    api("PATCH", "/api/v2/dags/season", is_paused=False)
    kill(awaited(stopped, "the stop of an infer"))
    done = sum(run["state"] == "success" for run in api.runs("season"))
    finished = lambda: ended(api, "season", "backfill", len(DAYS))  # noqa: E731
    try:
        seen["backfill"] = awaited(finished, "the end of the backfill", patience_s=900)
    except AssertionError as error:
        error.add_note(f"runs {_states(api.runs('season'))}, tasks {_states(api.tasks('season'))}")
        raise
    tasks = [task for task in api.tasks("season") if task["state"] != "skipped"]
    return {**seen, "done_before": done, "tasks": tasks}


def _create_backfill(api: Api) -> None:
    """Create the backfill; where Airflow 3.1 leaves half of one, since SQLite was busy, cancel that and go on."""
    dates = {"from_date": f"{DAYS[0]}T00:00:00Z", "to_date": f"{DAYS[-1]}T00:00:00Z"}
    asked = {"dag_id": "season", "max_active_runs": 6, "reprocess_behavior": "failed", **dates}
    for _ in range(20):
        try:
            api("POST", "/api/v2/backfills", **asked)
        except HTTPError as error:
            if error.code != 500:
                raise
            for half in api("GET", "/api/v2/backfills?dag_id=season")["backfills"]:
                if not half["completed_at"]:
                    api("PUT", f"/api/v2/backfills/{half['id']}/cancel")
        else:
            return
    raise AssertionError("no backfill could be created")


def _states(records: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(f"{record['state']}" for record in records))


def large_infer(season: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the infer tasks of the large day, as `play` saw them at the end."""
    tasks = [task for task in season["tasks"] if task["task_id"] == "scored.infer"]
    return [task for task in tasks if task["dag_run_id"].startswith(f"backfill__{LARGE}")]


def stopped_below(*roots: int) -> Callable[[], psutil.Process | None]:
    """Return a look for a stopped process among the descendants of some processes."""

    def look() -> psutil.Process | None:
        for child in (child for root in roots for child in psutil.Process(root).children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it has ended since
                if child.status() == psutil.STATUS_STOPPED:
                    return child
        return None

    return look


def kill_all(root: psutil.Process) -> None:
    """Kill a process and all below it at once, as the end of their machine would."""
    processes = [root, *root.children(recursive=True)]
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=30)
