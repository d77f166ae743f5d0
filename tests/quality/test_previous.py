"""Which runs a partition is compared with."""

import dataclasses

from test_receipt import RECEIPT
from windrow.quality.previous import chosen


def run(partition, run_id, fingerprint="f", **labels):
    return {"partition": partition, "run_id": run_id, "fingerprint": fingerprint, "labels": list(labels.items())}


def choose(runs, partition="2026-11-23", run_id="r5", partitions=7, replaces=True):
    receipt = dataclasses.replace(RECEIPT, partition=partition, run_id=run_id)
    return chosen(runs, receipt, partitions, replaces)


def test_the_last_run_of_each_earlier_partition_counts():
    runs = [
        run("2026-11-21", "r3", a=9),
        run("2026-11-21", "r1", a=1),
        run("2026-11-22", "r2", a=2, b=5),
        run("2026-11-23", "r4", a=100),
        run("2026-11-24", "r4", a=1000),
    ]
    found = choose(runs)
    assert found.labels == {"a": 11, "b": 5}
    assert found.partitions == ("2026-11-21", "2026-11-22")
    assert (found.run_id, found.same_fingerprint) == ("r2", True)


def test_no_more_partitions_are_taken_than_the_job_says():
    runs = [run(f"2026-11-{day}", f"r{day}", a=day) for day in range(10, 23)]
    assert choose(runs, partitions=2).labels == {"a": 21 + 22}


def test_hours_come_after_their_day_and_before_the_next():
    runs = [run("2026-11-23", "r1", a=1), run("2026-11-23T0600Z", "r2", a=2), run("2026-11-24", "r3", a=4)]
    assert choose(runs, "2026-11-23T1200Z").labels == {"a": 3}


def test_the_first_partition_has_nothing_to_be_compared_with():
    assert choose([run("2026-11-24", "r1", a=1)]) is None
    assert choose([]) is None
    assert choose([run("2026-11-22", "r1")]) is None


def test_runs_of_this_fingerprint_are_preferred():
    runs = [run("2026-11-21", "r1", a=1), run("2026-11-22", "r2", "another", a=2)]
    assert choose(runs).labels == {"a": 1}


def test_after_a_change_of_the_model_the_old_one_serves_and_is_told():
    found = choose([run("2026-11-22", "r2", "another", a=2)])
    assert (found.labels, found.same_fingerprint) == ({"a": 2}, False)


def test_a_partition_that_is_no_time_is_compared_with_its_own_earlier_runs():
    runs = [run("all", "r1", a=1), run("all", "r2", a=2), run("all", "r9", a=9), run("eu", "r3", a=100)]
    assert choose(runs, "all").labels == {"a": 2}
    assert choose(runs, "all", replaces=False).labels == {"a": 3}
    assert choose(runs, "us") is None
