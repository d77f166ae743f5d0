"""Airflow with the CeleryExecutor: PostgreSQL, Redis, two workers, one of them killed in the middle of a backfill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError

import psutil
import pytest

import airflow_season
import postgres_server
import redis_server
from airflow_api import Api, awaited, ended
from faults.trials import times_scored
from windrow.airflow.home import free_port

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]
WORKERS = ("first", "second")


@dataclass
class Installation:
    """Airflow's programs, each in a process group of its own, over one database and one broker."""

    stage: Any
    broker: str
    server: postgres_server.Server = field(default_factory=postgres_server.shared)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    started: list[psutil.Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.metadata, self.tables = self.server.database(), self.server.database()
        self.port = free_port(28080)
        self.api = Api(f"http://127.0.0.1:{self.port}")
        self.variables = self._variables()

    def _variables(self) -> dict[str, str]:
        place = f"windrow@/{self.metadata}?host={self.server.folder}"
        settings = {
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__PARALLELISM": "6",
            "CORE__MAX_ACTIVE_RUNS_PER_DAG": "6",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.api.url}/execution/",
            "CORE__HOSTNAME_CALLABLE": "airflow_local_settings.worker_name",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__BASE_URL": self.api.url,
            "API__WORKERS": "1",
            "CELERY__BROKER_URL": self.broker,
            "CELERY__RESULT_BACKEND": f"db+postgresql+psycopg://{place}",
            "CELERY__WORKER_CONCURRENCY": "2",
            "DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg://{place}",
            "DATABASE__SQL_ALCHEMY_POOL_SIZE": "2",
            "DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "2",
            "LOGGING__LOGGING_LEVEL": "INFO",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
            "SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
        }
        return {
            **self.stage.environment(),
            **self.stage.place.environment(**settings),
            "AIRFLOW_CONN_WAREHOUSE": self.server.at(self.tables),
        }

    def run(self, *command: str) -> None:
        """Run one of Airflow's commands to its end."""
        program = [sys.executable, "-m", "airflow", *command]
        done = subprocess.run(program, env=self.variables, capture_output=True, text=True, check=False, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, name: str, *command: str) -> None:
        """Start one of Airflow's programs."""
        log = (self.stage.place.airflow / f"{name}.log").open("wb")
        with log:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", *command],
                env={**self.variables, "WORKER_NAME": name},
                cwd=self.stage.place.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start_all(self) -> None:
        """Start the installation, and log in once all of it answers."""
        self.run("db", "migrate")
        self.start("api-server", "api-server")
        self.start("scheduler", "scheduler", "--skip-serve-logs")
        self.start("dag-processor", "dag-processor")
        for name in WORKERS:
            self.start(name, "celery", "worker", "--skip-serve-logs", "--celery-hostname", name, "--without-gossip")
        awaited(self._ready, "Airflow's answer")

    def _ready(self) -> bool:
        for name, process in self.running.items():
            assert process.poll() is None, self._log(name)[-4000:]
        with suppress(URLError):
            self.api.log_in(self.stage.place.password)
            return all(f"{name} ready" in self._log(name) for name in WORKERS)
        return False

    def _log(self, name: str) -> str:
        return (self.stage.place.airflow / f"{name}.log").read_text(encoding="utf-8")

    def kill_worker_of(self, stopped: psutil.Process) -> str:
        """Kill the worker under which a process runs, and all that it has started; return its name."""
        above = {process.pid for process in stopped.parents()}
        name = next(name for name in WORKERS if self.running[name].pid in above)
        airflow_season.kill_all(psutil.Process(self.running[name].pid))
        return name

    def stop_all(self) -> None:
        """End all programs and what they started, by force where a request is not enough."""
        roots = [psutil.Process(process.pid) for process in self.running.values() if process.poll() is None]
        self.started = [*roots, *(child for root in roots for child in root.children(recursive=True))]
        for root in roots:
            root.send_signal(signal.SIGTERM)
        psutil.wait_procs(roots, timeout=30)
        _, left = psutil.wait_procs(self.started, timeout=5)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for process in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        psutil.wait_procs(left, timeout=10)


@dataclass
class Seen:
    """What the installation did."""

    installation: Installation
    season: dict[str, Any]
    others: dict[str, Any]
    killed: str

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse."""
        return self.installation.server.rows(query, self.installation.tables)


@pytest.fixture(scope="module")
def seen(new_stage, tmp_path_factory):
    """Start the installation, let it make runs of every kind, kill a worker, stop all."""
    stage = new_stage()
    airflow_season.prepare(stage.place.airflow, stage.place.dags / "data")
    with ExitStack() as stack:
        broker = stack.enter_context(redis_server.redis(tmp_path_factory.mktemp("redis")))
        installation = Installation(stage, broker)
        stack.callback(installation.stop_all)
        installation.start_all()
        api, workers = installation.api, [installation.running[name].pid for name in WORKERS]
        awaited(lambda: {"season", "downstream"} <= api.dags(), "Dags")
        for dag_id in ("undated", "downstream"):
            api("PATCH", f"/api/v2/dags/{dag_id}", is_paused=False)
        api("POST", "/api/v2/dags/undated/dagRuns", logical_date=None, run_after="2026-01-08T09:00:00Z")
        killed = []
        season = airflow_season.play(
            api, airflow_season.stopped_below(*workers), lambda task: killed.append(installation.kill_worker_of(task))
        )
        others = {
            kind: awaited(lambda: ended(api, dag_id, kind), f"the end of a run, {kind}")  # noqa: B023
            for dag_id, kind in (("undated", "manual"), ("downstream", "asset_triggered"))
        }
    return Seen(installation, season, others, killed[0])


def states(runs):
    return [run["state"] for run in runs]


def test_scheduled_manual_and_asset_triggered_runs_succeed(seen):
    assert states(seen.season["scheduled"]) == ["success"]
    assert states(seen.others["manual"]) == ["success"]
    assert states(seen.others["asset_triggered"]) == ["success"]
    found = seen.rows("SELECT windrow_partition, count(*) FROM analytics.again GROUP BY 1")
    assert found == [("2026-01-08", 600)]


def test_a_backfill_of_thirty_days_succeeds_although_a_worker_is_killed_in_its_middle(seen):
    assert states(seen.season["backfill"]) == ["success"] * 30
    assert 0 < seen.season["done_before"] < 31


def test_both_workers_ran_tasks_and_the_other_one_took_over(seen):
    (other,) = set(WORKERS) - {seen.killed}
    machines = {task["hostname"] for task in seen.season["tasks"]}
    assert machines == set(WORKERS)
    assert [(task["try_number"], task["hostname"]) for task in airflow_season.large_infer(seen.season)] == [(2, other)]


def test_every_row_of_every_day_is_in_the_table_once(seen):
    query = (
        "SELECT windrow_partition, count(*), count(DISTINCT review_id), count(label) FROM analytics.season GROUP BY 1"
    )
    found = {day: counts for day, *counts in seen.rows(query) if day in airflow_season.DAYS}
    assert found == {day: [rows] * 3 for day, rows in airflow_season.expected_rows().items()}


def test_equal_texts_have_one_label_over_all_days(seen):
    query = (
        "SELECT right(review_id, 1), count(DISTINCT label), count(DISTINCT score) FROM analytics.season "
        "WHERE substr(review_id, 11) IN ('-0', '-1', '-2', '-3') GROUP BY 1 ORDER BY 1"
    )
    assert seen.rows(query) == [(str(number), 1, 1) for number in range(4)]


def test_no_text_was_scored_twice(seen):
    texts = airflow_season.expected_texts() + 599
    assert times_scored(seen.installation.stage.place.root / "store") == {1: texts}


def test_nothing_is_left_running(seen):
    assert len(seen.installation.started) >= 6
    assert [process for process in seen.installation.started if process.is_running()] == []
