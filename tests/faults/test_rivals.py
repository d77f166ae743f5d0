"""Runs of one partition at once, a run that comes back after its successor, and a clock that was set back."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack

import pytest

from faults.test_points import SLOW
from warehouses.places import BROKEN
from windrow import Job
from windrow.store import RunRef

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("runs", [2, 4])
def test_of_runs_at_once_the_latest_stands_whole(site, runs):
    jobs = [site.job(number % 2) for number in range(runs)]
    with ExitStack() as stack:
        children = [stack.enter_context(site.child("run", job)) for job in jobs]
        for child in children:
            child.listen(timeout_s=120)
        outcomes = [child.outcome for child in children]
    done = {value["run_id"]: number for number, (word, value) in enumerate(outcomes) if word == "done"}
    failed = [value for word, value in outcomes if word != "done"]
    assert done, outcomes
    assert all(value["retryable"] or value["kind"] == "FencedError" for value in failed), failed
    latest = max(done)
    assert site.owners() == {latest}
    assert site.content() == site.whole[done[latest] % 2]
    assert set(done) <= set(site.ledger())


WAITS = {"duckdb", "ducklake", "postgresql"}
"""Where a stopped publisher holds the warehouse's lock, so that its successor waits and in the end says so."""
STOPS = ["infer.begun", "publish.begun", "publish.rows.begun", "publish.written"]


def stops(kind):
    return STOPS[:2] if kind in WAITS else STOPS[2:] if kind in SLOW else STOPS


@pytest.mark.parametrize(
    ("site", "point"),
    [(kind, point) for kind in BROKEN for point in stops(kind)],
    indirect=["site"],
)
def test_a_run_that_comes_back_after_its_successor_changes_nothing(site, point):
    job = site.job(0)
    with site.child("run", job, kill_at=f"{point}:1:SIGSTOP") as zombie:
        zombie.wait_until_stopped()
        receipt = site.finished(site.job(1))
        os.kill(zombie.process.pid, signal.SIGCONT)
        zombie.listen(timeout_s=120)
    if (site.kind, point) == ("clickhouse", "publish.written"):  # what it has still to read is gone
        assert "took this one's place" in zombie.outcome[1]["told"], zombie.told
        _, zombie = site.ended("resume", job, ref=zombie.ref)
    word, value = zombie.outcome
    assert (word, value["kind"]) == ("failed", "FencedError"), zombie.told
    assert site.owners() == {receipt["run_id"]}
    assert site.content() == site.whole[1]


def test_after_the_clock_was_set_back_the_next_run_still_comes_later(site):
    store = site.folder / "store-clock"
    future = "20990101T000000000000Z-ffffff"
    warehouse = {"url": site.place.url, "table": "analytics.clock"}
    job = site.job(0, store, warehouse=warehouse)
    ref = RunRef(job=Job.from_file(job).name, partition="clock", run_id=future)
    (store / ref.folder).mkdir(parents=True)
    receipt = site.finished(job, partition="clock")
    assert receipt["run_id"] > future
    again = site.finished(site.job(1, store, warehouse=warehouse), partition="clock")
    assert again["run_id"] > receipt["run_id"]
    assert set(site.place.rows("clock")["windrow_run_id"].to_pylist()) == {again["run_id"]}
