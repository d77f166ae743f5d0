"""Runs that are killed at random moments, then finished: as if nothing had happened."""

from __future__ import annotations

import json
import random
import signal
import time

import pytest

from faults.conftest import ROWS, content, kill
from faults.trials import times_scored

pytestmark = pytest.mark.faults

MOMENTS = [
    "loading",
    "scoring",
    "scoring",
    "scoring",
    "starting",
    "scoring",
    "writing",
    "loading",
    "writing",
    "writing",
]


def assert_same(found, whole):
    """All is equal but the last digits of scores, which on some processors depend on what shares a micro-batch."""
    scores = [[row[2] for row in each["table"]] for each in (found, whole)]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)
    for each in (found, whole):
        each["table"] = [(*row[:2], *row[3:]) for row in each["table"]]
    assert found == whole


def test_a_run_killed_ten_times_and_finished_equals_an_unbroken_one(job, start, finish, tmp_path):
    code, _, err = finish("run", job("whole"), "--json")
    assert code == 0, err
    killed, chance = job("killed"), random.Random(11)
    store, log = tmp_path / "store-killed", tmp_path / "killed.duckdb.wal"
    kept: list[int] = []
    for moment in MOMENTS:
        files = len(list(store.glob("predictions/*/*"))) + chance.randrange(6)
        process = start("run", killed, "--json")
        reached = {
            "starting": lambda: True,
            "loading": lambda: any(store.glob("tmp/*")),
            "scoring": lambda files=files: len(list(store.glob("predictions/*/*"))) > files,
            "writing": log.exists,
        }[moment]
        while process.poll() is None and not reached():
            time.sleep(0.001)
        time.sleep(chance.uniform(0, {"starting": 4.0, "loading": 0.5}.get(moment, 0.05)))
        kill(process, signal.SIGKILL)
        kept.append(sum(times_scored(store).values()))
    assert len({scored for scored in kept if 0 < scored < ROWS - ROWS // 100}) >= 2, kept
    assert kept == sorted(kept)
    code, out, err = finish("run", killed, "--json")
    assert code == 0, err
    assert_same(content(tmp_path, "killed"), content(tmp_path, "whole"))
    assert times_scored(store) == {1: ROWS - ROWS // 100}
    assert json.loads(out)["texts_reused"] == kept[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_resumes_without_rescoring(job, start, finish, tmp_path, number):
    stopped = job("stopped")
    process = start("run", stopped, "--json")
    predictions = tmp_path / "store-stopped" / "predictions"
    deadline = time.monotonic() + 120
    while not list(predictions.rglob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.005)
    err = kill(process, number)
    assert process.returncode == 130, err
    assert "Interrupted" in err
    assert "Fix: run the same command again" in err
    assert "Traceback" not in err
    kept = sum(times_scored(tmp_path / "store-stopped").values())
    assert kept > 0
    code, out, err = finish("run", stopped, "--json")
    assert code == 0, err
    receipt = json.loads(out)
    assert receipt["texts_reused"] == kept
    assert receipt["texts_scored"] == receipt["texts_distinct"] - kept
    assert set(times_scored(tmp_path / "store-stopped")) == {1}


def test_a_second_run_scores_nothing_and_leaves_the_same_table(job, finish, tmp_path):
    again = job("again")
    assert finish("run", again)[0] == 0
    first = content(tmp_path, "again")
    code, out, _ = finish("run", again, "--json")
    assert code == 0
    assert (json.loads(out)["texts_scored"], json.loads(out)["tokens"]) == (0, 0)
    assert content(tmp_path, "again") == first
