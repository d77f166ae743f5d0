"""Warehouses in which each statement commits alone: what a killed run leaves, and how its next attempt ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from warehouses.places import STAND_INS
from warehouses.test_contract import ids, publish

POINTS = ("staged", "claimed", "table", "table:2", "written", "ledger")
PUBLISH = """
import os, sys
from types import SimpleNamespace
from warehouses.test_contract import publish

place = SimpleNamespace(url=sys.argv[1])
for number, point in enumerate(sys.argv[3:]):
    child = os.fork()
    if child == 0:
        os.environ["WINDROW_KILL_AT"] = f"publish.{point}"
        rows = {"id": [f"a{number}", f"b{number}"], "label": ["x"] * 2}
        publish(place, rows, f"p{number}", f"run-{number}", rejected=[f"r{number}"], mode=sys.argv[2])
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@pytest.fixture(params=["clickhouse", "databricks"])
def place(request, tmp_path):
    return STAND_INS[request.param](tmp_path)


def killed(place, mode, *points):
    """Kill a publish of another partition at each point."""
    command = [sys.executable, "-c", PUBLISH, place.url, mode, *points]
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("operators", "tests"))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=True, timeout=200
    )
    assert list(map(int, done.stdout.split())) == [signal.SIGKILL] * len(points)


def left(place):
    return [name for name in place.names() if "windrow_stage" in name or "windrow_claim" in name]


def test_a_publish_that_is_killed_anywhere_is_ended_by_its_next_attempt(place):
    publish(place, {"id": ["kept"], "label": ["x"]}, "before", "run-before")
    killed(place, "replace", *POINTS)
    numbers = range(len(POINTS))
    for number in numbers:
        rows = {"id": [f"a{number}", f"b{number}"], "label": ["x"] * 2}
        publish(place, rows, f"p{number}", f"run-{number}", rejected=[f"r{number}"])
    assert ids(place) == sorted(["kept", *(f"{letter}{number}" for letter in "ab" for number in numbers)])
    assert ids(place, "reviews__rejects") == [f"r{number}" for number in numbers]
    runs = place.rows("windrow_runs")["run_id"].to_pylist()
    assert sorted(runs) == sorted(["run-before", *(f"run-{number}" for number in numbers)])
    assert not left(place)


def test_what_a_killed_append_left_is_dropped_by_its_next_attempt_though_its_rows_are_there(place):
    publish(place, {"id": ["kept"], "label": ["x"]}, "before", "run-before", mode="append")
    killed(place, "append", "ledger")
    assert left(place)
    publish(place, {"id": ["a0", "b0"], "label": ["x"] * 2}, "p0", "run-0", rejected=["r0"], mode="append")
    assert (ids(place), left(place)) == (["a0", "b0", "kept"], [])
