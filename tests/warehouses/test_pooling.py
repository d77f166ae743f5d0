"""Connections that one step leaves to the next: few are made, none that broke is taken, none is held for long."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from conftest import REPOSITORY
from warehouses.places import PLACES, STAND_INS, PostgresPlace
from warehouses.test_contract import TABLE, held, publish
from windrow import Job, pooling
from windrow.backfill import backfill
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.postgres import PostgresWarehouse

MODULES = {
    "postgresql": "windrow.postgres",
    "snowflake": "windrow.warehouses.snowflake",
    "redshift": "windrow.warehouses.redshift",
}


@pytest.fixture(autouse=True)
def nothing_is_kept():
    pooling.close_idle()


@pytest.fixture
def made(monkeypatch):
    """Count the connections that are made to a kind of warehouse."""

    def watched(kind):
        module, calls = importlib.import_module(MODULES[kind]), []
        connect = module.connect

        def counted(*arguments):
            calls.append(kind)
            return connect(*arguments)

        monkeypatch.setattr(module, "connect", counted)
        return calls

    return watched


@pytest.fixture
def place(tmp_path):
    return PostgresPlace(tmp_path)


@pytest.fixture
def backends(place):
    """Return the server's processes for Windrow's connections to the place's database."""

    def found():
        query = f"SELECT pid FROM pg_stat_activity WHERE application_name = 'windrow' AND datname = '{place.database}'"
        return [pid for (pid,) in place.server.rows(query)]

    return found


def rows(*keys):
    return {"id": list(keys), "label": ["x"] * len(keys)}


@pytest.mark.parametrize("kind", MODULES)
def test_one_connection_serves_all_publishes_of_a_process(tmp_path, made, kind):
    place, calls = {**PLACES, **STAND_INS}[kind](tmp_path), made(kind)
    for number in range(4):
        publish(place, rows(f"k{number}"), f"p{number}", f"run-{number}")
    assert len(calls) == 1
    assert held(place) == {f"k{number}": ("x", f"p{number}") for number in range(4)}


def test_a_backfill_connects_once_to_read_and_once_to_write(home, write_job, tmp_path, place, made):
    days = ["2026-11-21", "2026-11-22", "2026-11-23"]
    for day in days:
        line = json.dumps({"review_id": day, "body": f"a film of {day}", "stars": 3})
        (tmp_path / f"{day}.jsonl").write_text(line)
    calls = made("postgresql")
    job = write_job(
        source={"path": str(tmp_path / "{partition}.jsonl")}, warehouse={"url": place.url, "table": "scores"}
    )
    assert [receipt.rows_published for receipt in backfill(Job.from_file(job), days)] == [1, 1, 1]
    assert len(calls) == 2


def test_a_connection_that_died_meanwhile_is_not_taken(place, backends, made, caplog):
    calls = made("postgresql")
    publish(place, rows("a"), "p1", "run-1")
    (pid,) = backends()
    place.server.run(f"SELECT pg_terminate_backend({pid}, 5000)")
    time.sleep(pooling._FRESH_S)
    publish(place, rows("b"), "p2", "run-2")
    assert held(place) == {"a": ("x", "p1"), "b": ("x", "p2")}
    assert len(calls) == 2
    assert not caplog.records


def test_one_that_met_an_error_is_closed(place, backends):
    warehouse = open_url(place.url, TableName.parse(TABLE)).__enter__()
    assert len(backends()) == 1
    warehouse.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert backends() == []


def test_no_transaction_stays_open_in_one_that_is_left(place):
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        warehouse.session.rows("SELECT 1")
    query = f"SELECT state FROM pg_stat_activity WHERE application_name = 'windrow' AND datname = '{place.database}'"
    assert place.server.rows(query) == [("idle",)]


def test_a_reader_never_gets_a_writers_connection(place):
    shown = []
    for writes in (True, False, True):
        with open_url(place.url, TableName.parse(TABLE), writes=writes) as warehouse:
            shown += warehouse.session.rows("SELECT current_setting('default_transaction_read_only')")
    assert shown == [("off",), ("on",), ("off",)]


def test_an_idle_one_is_closed(place, backends, monkeypatch):
    monkeypatch.setattr(pooling, "IDLE_S", 0.2)
    publish(place, rows("a"), "p1", "run-1")
    deadline = time.monotonic() + 30
    while backends() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert backends() == []
    publish(place, rows("b"), "p2", "run-2")
    assert set(held(place)) == {"a", "b"}


def test_a_process_keeps_but_a_few(place, backends):
    for seconds in range(1, 8):
        with PostgresWarehouse(place.url, TableName.parse(TABLE), lock_wait_s=seconds):
            pass
    assert len(backends()) == pooling._MOST


def test_two_at_once_get_connections_of_their_own(place, backends):
    table = TableName.parse(TABLE)
    with open_url(place.url, table) as one, open_url(place.url, table) as other:
        assert one.session.rows("SELECT pg_backend_pid()") != other.session.rows("SELECT pg_backend_pid()")
    assert len(backends()) == 1


def test_a_task_of_airflow_leaves_none_behind(place, backends, job_fields):
    from windrow.airflow.operators import PublishOperator

    step = PublishOperator(task_id="publish", job=job_fields, run={})
    with step._working({"dag": SimpleNamespace(fileloc=__file__)}):
        publish(place, rows("a"), "p1", "run-1")
        assert len(backends()) == 1
    assert backends() == []


FORKED = """
import gc, os, sys
from windrow import pooling
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName

def pid():
    with open_url(sys.argv[1], TableName.parse("scores")) as warehouse:
        return warehouse.session.rows("SELECT pg_backend_pid()")

mine = pid()
child = os.fork()
if not child:
    gc.collect()
    os._exit(0 if pid() != mine else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pid() == mine
"""


def test_a_forked_process_leaves_its_parents_connections_alone(place):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "operators")}
    command = [sys.executable, "-W", "ignore", "-c", FORKED, place.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
