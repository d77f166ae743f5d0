"""Airflow as `windrow demo --ui` starts it: its login, and the runs of every kind that its scheduler makes."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import duckdb
import psutil
import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]
SOURCES = str(Path(__file__).parents[2] / "operators")
PATIENCE_S = 280
ENDS = ("success", "failed")
KINDS = [("daily", "scheduled"), ("daily", "backfill"), ("undated", "manual"), ("downstream", "asset_triggered")]


@dataclass
class Api:
    """Airflow's REST API, as its web page uses it; 503 means that SQLite was busy, so it is asked again."""

    url: str
    headers: dict = field(default_factory=lambda: {"Content-Type": "application/json"})

    def __call__(self, method, path, **body):
        data = json.dumps(body).encode() if body else None
        request = Request(self.url + path, data, self.headers, method=method)  # noqa: S310 (this machine's)
        for _ in range(60):
            try:
                with urlopen(request, timeout=30) as answer:  # noqa: S310
                    return json.loads(answer.read() or "{}")
            except HTTPError as error:
                error.close()
                if error.code != 503:
                    raise
            time.sleep(1)
        raise AssertionError(f"{path} stayed unavailable")

    def log_in(self, password):
        token = self("POST", "/auth/token", username="admin", password=password)["access_token"]
        self.headers["Authorization"] = f"Bearer {token}"

    def runs(self, dag_id):
        return self("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]


def awaited(look, what):
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := look():
                return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come about")


def ended(api, dag_id, run_type):
    """Return the ended runs of a kind, once there are some and all have ended."""
    runs = [run for run in api.runs(dag_id) if run["run_type"] == run_type]
    return runs if runs and all(run["state"] in ENDS for run in runs) else None


@pytest.fixture(scope="module")
def served(new_stage):
    """Start Airflow's web page by the command, let it make runs of every kind, stop it; return what was seen."""
    stage = new_stage()
    seen = {"stage": stage}
    command = [sys.executable, "-c", "from windrow.cli import main; main()", "demo", "--ui", "--home", stage.place.root]
    environment = {**os.environ, "TINY_MODEL": str(stage.model), "AIRFLOW__API__PORT": "1", "PYTHONPATH": SOURCES}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = "".join(iter(process.stdout.readline, "Stop it with   Ctrl-C\n"))
            api = Api(re.search(r"http://127\.0\.0\.1:\d+", printed)[0])
            with pytest.raises(HTTPError) as refused:
                api("GET", "/api/v2/dags")
            seen["anonymous"] = refused.value.code
            api.log_in(re.search(r"password +(\S+)", printed)[1])
            play(api, stage, seen)
        finally:
            started = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.stdout.read()
            seen["code"] = process.wait()
    seen["started"], seen["left"] = len(started), [child for child in started if child.is_running()]
    return seen


def play(api, stage, seen):
    """Let the scheduler make a run of every kind, and clear the infer of one."""
    api("POST", "/api/v2/variables", key="data", value=str(stage.place.dags / "data"))
    api("POST", "/api/v2/connections", connection_id="warehouse", conn_type="duckdb", host=str(stage.warehouse))
    awaited(lambda: {"daily", "downstream"} <= {dag["dag_id"] for dag in api("GET", "/api/v2/dags")["dags"]}, "Dags")
    seen["import_errors"] = api("GET", "/api/v2/importErrors")["import_errors"]
    for dag_id in ("daily", "undated", "downstream"):
        api("PATCH", f"/api/v2/dags/{dag_id}", is_paused=False)
    day = "2026-01-05T00:00:00Z"
    api("POST", "/api/v2/backfills", dag_id="daily", from_date=day, to_date=day, max_active_runs=1)
    api("POST", "/api/v2/dags/undated/dagRuns", logical_date=None, run_after="2026-01-08T09:00:00Z")
    for dag_id, run_type in KINDS:
        seen[run_type] = awaited(lambda: ended(api, dag_id, run_type), f"the end of a run, {run_type}")  # noqa: B023
    run = f"/api/v2/dags/daily/dagRuns/{seen['backfill'][0]['dag_run_id']}"
    clear = {"dag_run_id": run.rpartition("/")[2], "task_ids": ["scored.infer"], "include_downstream": True}
    api("POST", "/api/v2/dags/daily/clearTaskInstances", dry_run=False, only_failed=False, **clear)
    awaited(lambda: api("GET", run)["state"] in ENDS, "the end of the cleared run")
    seen["cleared"] = api("GET", f"{run}/taskInstances")["task_instances"]


def ledger(served, table):
    with duckdb.connect(str(served["stage"].warehouse), read_only=True) as con:
        query = 'SELECT partition, rows_published FROM analytics.windrow_runs WHERE "table" = ? ORDER BY partition'
        return con.execute(query, [table]).fetchall()


def test_the_page_asks_for_a_login_and_takes_the_printed_one(served):
    assert served["anonymous"] == 401
    assert served["import_errors"] == []


@pytest.mark.parametrize("run_type", [run_type for _, run_type in KINDS])
def test_runs_of_every_kind_succeed(served, run_type):
    assert [run["state"] for run in served[run_type]] == ["success"]


def test_each_run_publishes_its_own_partition(served):
    today = served["scheduled"][0]["logical_date"][:10]
    assert ledger(served, "analytics.reviews") == [("2026-01-05", 600), (today, 600)]
    assert ledger(served, "analytics.undated") == [("2026-01-08", 600)]


def test_a_dag_scheduled_on_the_table_takes_the_partition_of_the_event(served):
    assert ledger(served, "analytics.again") == [("2026-01-08", 600)]


def test_a_cleared_infer_of_a_published_run_succeeds_again(served):
    tries = {task["task_id"]: (task["state"], task["try_number"]) for task in served["cleared"]}
    assert tries["scored.infer"] == ("success", 2)
    assert tries["scored.publish"] == ("success", 2)


def test_nothing_is_left_running(served):
    assert served["code"] == 0
    assert served["started"] >= 5
    assert served["left"] == []
