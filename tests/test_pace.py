"""How a lane tells its pace: within shards, not too often, and never more than there is."""

import numpy as np
import pytest

from windrow.engines import Outputs
from windrow.engines.halving import run_all
from windrow.models.tokens import Windows
from windrow.pace import Meter, Pace


class Clock:
    """A clock that goes on by a second whenever it is looked at."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


class Engine:
    """An engine whose forward passes do nothing, over micro-batches of one window."""

    plan = None

    def classify(self, windows):
        micro_batches = [[row] for row in range(len(windows.rows))]
        for _ in run_all(micro_batches, lambda rows: rows, {}, lambda: None):
            pass
        return Outputs(np.zeros((len(windows.rows), 2)))


def windows(*lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    rows = np.arange(len(lengths), dtype=np.int32)
    return Windows(np.zeros(offsets[-1], np.int32), offsets, rows, np.zeros(len(lengths), bool))


def test_progress_is_told_within_a_shard_by_its_tokens():
    told = []
    meter = Meter({"one": (4, 100), "two": (4, 100)}, told.append, every_s=0, clock=Clock())
    with meter.shard("one"):
        meter.watched(Engine()).classify(windows(10, 10, 10, 10))
    assert [pace.texts for pace in told] == [1, 2, 3, 4]
    assert [pace.tokens for pace in told] == [10, 20, 30, 40]
    meter.done("one", 40)
    assert meter.pace().texts == 4
    assert meter.pace().tokens == 40


def test_the_rest_is_told_from_the_bytes_that_are_left():
    meter = Meter({"one": (4, 100), "two": (4, 300)}, [].append, clock=Clock())
    assert meter.pace().left_s is None
    meter.done("one", 40)
    pace = meter.pace()
    assert pace.left_s == pytest.approx(3 * pace.seconds)


def test_a_shard_that_is_asked_twice_does_not_count_twice():
    meter = Meter({"one": (4, 100)}, [].append, clock=Clock())
    with meter.shard("one"):
        engine = meter.watched(Engine())
        engine.classify(windows(10, 10))
        engine.classify(windows(5))
    assert meter.pace().texts == 4
    meter.done("one", 25)
    assert (meter.pace().texts, meter.pace().total, meter.pace().tokens) == (4, 4, 25)


def test_it_is_told_every_few_seconds_and_at_the_end():
    told = []
    meter = Meter({"one": (100, 100)}, told.append, every_s=20, clock=Clock())
    with meter.shard("one"):
        meter.watched(Engine()).classify(windows(*[1] * 100))
    assert 2 <= len(told) <= 10
    meter.done("one", 100)
    assert meter.end() == told[-1]
    assert told[-1].texts == 100


def test_a_line_says_how_far_how_fast_and_how_long():
    line = str(Pace(1200, 4000, 60_000, 30.0, 70.0))
    assert line == "1,200 of 4,000 texts (30 %), 40.0 texts/s, 2,000 tokens/s, about 1 min 10 s to go"
    assert str(Pace(4000, 4000, 200_000, 100.0, 0.0)).endswith("tokens/s")
