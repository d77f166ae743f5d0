"""Airflow as `windrow demo --ui` starts it: its login, and the runs of every kind that its scheduler makes."""

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

import duckdb
import psutil
import pytest
from pyarrow import parquet

import airflow_domains
import airflow_season
from airflow_api import ENDS, Api, awaited, ended
from faults.trials import times_scored
from windrow.airflow.home import free_port

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1800)]
SOURCES = str(Path(__file__).parents[2] / "operators")
TAKEN_SINCE = """
import sys
from windrow.airflow import standalone
from windrow.cli import main
seen_free, find = [int(sys.argv.pop(1))], standalone.free_port
standalone.free_port = lambda port: seen_free.pop() if seen_free else find(port)
main()
"""
"""Starts Windrow, for which a port was free that is not any more."""
KINDS = [("daily", "scheduled"), ("daily", "backfill"), ("undated", "manual"), ("downstream", "asset_triggered")]


@pytest.fixture(scope="module")
def served(new_stage):
    """Start Airflow's web page by the command, let it make runs of every kind, stop it; return what was seen."""
    stage = new_stage()
    airflow_season.prepare(stage.place.airflow, stage.place.dags / "data")
    seen = {"stage": stage}
    taken = socket.create_server(("127.0.0.1", free_port(8400)))
    port = taken.getsockname()[1]
    command = [sys.executable, "-c", TAKEN_SINCE, str(port), "demo", "--ui", "--home", str(stage.place.root)]
    environment = {**os.environ, "TINY_MODEL": str(stage.model), "AIRFLOW__API__PORT": "1", "PYTHONPATH": SOURCES}
    with taken, subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            printed = "".join(iter(process.stdout.readline, "Stop it with   Ctrl-C\n"))
            api = Api(re.search(r"http://127\.0\.0\.1:\d+", printed)[0])
            with pytest.raises(HTTPError) as refused:
                api("GET", "/api/v2/dags")
            seen["anonymous"] = refused.value.code
            api.log_in(re.search(r"password +(\S+)", printed)[1])
            seen["port"] = {"taken": port, "used": int(api.url.rpartition(":")[2])}
            play(api, stage, seen)
            kill_scheduler(process.pid)
            seen["gated"] = play_gated(api)
            seen["domains"] = airflow_domains.play(api)
            stopped = airflow_season.stopped_below(process.pid)
            seen["season"] = airflow_season.play(api, stopped, lambda task: airflow_season.kill_all(task.parent()))
        except Exception as error:
            error.add_note(last_words(stage.place.airflow))
            raise
        finally:
            started = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            seen["told"] = process.stdout.read()
            seen["code"] = process.wait()
    seen["started"], seen["left"] = len(started), [child for child in started if child.is_running()]
    return seen


def play(api, stage, seen):
    """Let the scheduler make a run of every kind, and clear the infer of one."""
    api("POST", "/api/v2/variables", key="data", value=str(stage.place.dags / "data"))
    api("POST", "/api/v2/connections", connection_id="warehouse", conn_type="duckdb", host=str(stage.warehouse))
    awaited(lambda: {"daily", "season", "downstream"} <= api.dags(), "Dags")
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


def last_words(logs):
    """Return the end of what each part of Airflow has written."""
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-600:]}" for log in logs.glob("*.log"))


def kill_scheduler(root):
    """Kill the scheduler, and wait until another one is there."""

    def scheduler():
        for child in psutil.Process(root).children():
            with suppress(psutil.Error):  # it has ended since
                if "scheduler" in child.cmdline():
                    return child
        return None

    old = scheduler()
    old.kill()
    awaited(lambda: scheduler() not in (None, old), "another scheduler")


def play_gated(api):
    """Let a Dag whose gate asks run for a usual day, then for a drifted one; approve that; return what was seen."""
    api("PATCH", "/api/v2/dags/gated", is_paused=False)

    def began(day):
        made = api("POST", "/api/v2/dags/gated/dagRuns", logical_date=f"{day}T00:00:00Z")
        return f"/api/v2/dags/gated/dagRuns/{made['dag_run_id']}"

    usual = began("2026-01-05")
    awaited(lambda: api("GET", usual)["state"] in ENDS, "the end of the run that nothing stops")
    drifted = began("2026-01-09")
    questions = lambda: [  # noqa: E731
        asked
        for asked in api("GET", f"{drifted}/hitlDetails?response_received=false")["hitl_details"]
        if asked["task_instance"]["state"] in {"awaiting_input", "deferred"}  # deferred before Airflow 3.3
    ]
    question = awaited(questions, "the question of the gate")[0]
    time.sleep(5)  # as a person does who reads: see the docs on answers within a second
    waits = api("GET", drifted)["state"]
    task = question["task_instance"]["task_id"]
    answer = {"chosen_options": ["Approve"], "params_input": {}}
    api("PATCH", f"{drifted}/taskInstances/{task}/-1/hitlDetails", **answer)
    awaited(lambda: api("GET", drifted)["state"] in ENDS, "the end of the run that was approved")
    return {"question": question, "waits": waits, "states": [api("GET", run)["state"] for run in (usual, drifted)]}


def rows(served, query, *values, file=None):
    with duckdb.connect(str(file or served["stage"].warehouse), read_only=True) as con:
        return con.execute(query, values).fetchall()


def ledger(served, table):
    query = 'SELECT partition, rows_published FROM analytics.windrow_runs WHERE "table" = ? ORDER BY partition'
    return rows(served, query, table)


def test_the_page_asks_for_a_login_and_takes_the_printed_one(served):
    assert served["anonymous"] == 401
    assert served["import_errors"] == []


def test_a_port_that_is_taken_in_the_last_moment_is_passed_over(served):
    assert served["port"]["used"] > served["port"]["taken"]


def test_a_scheduler_that_ends_is_started_again(served):
    assert "Airflow's scheduler has ended by itself (exit code -9) and is started again." in served["told"]


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


def test_a_drifted_day_waits_for_a_person_and_is_published_when_approved(served):
    gated = served["gated"]
    assert "drift" in gated["question"]["body"].lower()
    assert gated["waits"] == "running"
    assert gated["states"] == ["success", "success"]
    assert ledger(served, "analytics.gated") == [("2026-01-05", 600), ("2026-01-09", 600)]


@pytest.mark.parametrize("dag_id", airflow_domains.RUNS)
def test_the_dag_of_each_domain_runs_as_its_schedule_has_it(served, dag_id):
    runs = served["domains"][dag_id]
    assert {run["state"] for run in runs} == {"success"}
    query = f"SELECT windrow_partition, count(*) FROM analytics.{dag_id} GROUP BY 1"
    published = dict(rows(served, query, file=served["stage"].place.warehouse))
    expected = {
        "headline_sentiment": {f"{runs[0]['data_interval_start']}"[:10]: 100},
        "tutoring_replies": {"2026-11-23": 48},
        "visit_summaries": {"2020-02-03": 30, "2020-02-04": 30},
        "film_reviews": {"all": 84},
        "game_comments": {f"{runs[0]['data_interval_start']}"[:10]: 20},
    }
    assert expected[dag_id].items() <= published.items()


def test_summaries_of_visits_and_their_store_hold_neither_names_nor_dates(served):
    place = served["stage"].place
    found = rows(served, "SELECT note, summary FROM analytics.visit_summaries", file=place.warehouse)
    stored = [*place.root.glob("store/runs/visit_summaries/*/*/*.parquet")]
    texts = "\n".join([str(found), *(str(parquet.read_table(file).to_pylist()) for file in stored)])
    assert stored
    assert "[NAME]" in texts
    names, dates = r"\b(?:Dr\.?|Mr\.?|Mrs\.?|Doctor|Mister) [A-Z]\w+", r"\b\d+/\d+/\d+|\b(?:19|20)\d\d\b(?!-)"
    assert re.findall(f"{names}|{dates}", texts) == []


def test_a_backfill_of_thirty_days_succeeds_although_a_worker_is_killed_in_its_middle(served):
    season = served["season"]
    assert [run["state"] for run in season["backfill"]] == ["success"] * 30
    assert 0 < season["done_before"] < 31
    assert [task["try_number"] for task in airflow_season.large_infer(season)] == [2]


def test_every_row_of_every_day_is_in_the_table_once(served):
    query = (
        "SELECT windrow_partition, count(*), count(DISTINCT review_id), count(label) FROM analytics.season GROUP BY 1"
    )
    found = {day: counts for day, *counts in rows(served, query) if day in airflow_season.DAYS}
    assert found == {day: [count] * 3 for day, count in airflow_season.expected_rows().items()}


def test_no_text_was_scored_twice(served):
    assert set(times_scored(served["stage"].place.root / "store")) == {1}
    query = "SELECT sum(texts_scored) FROM analytics.windrow_runs WHERE \"table\" = 'analytics.season'"
    assert rows(served, query) == [(airflow_season.expected_texts(),)]


def test_nothing_is_left_running(served):
    assert served["code"] == 0
    assert served["started"] >= 5
    assert served["left"] == []
