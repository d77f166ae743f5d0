"""A pilot shares its seconds out: what is fast is compared over enough texts, what is slow is soon given up."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from windrow.engines import Candidate
from windrow.pilot import timing, trials
from windrow.pilot.timing import Limit
from windrow.tasks import Scored

TOKENS = 100
"""Of each text."""
KINDS = [("openvino", "fp32"), ("native", "int8"), ("openvino", "int8"), ("torch", "fp32"), ("onnxruntime", "int8")]


class Clock:
    """Stands still but for the work that is told."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


class Labelling:
    """A task all of whose labels are equal; an engine here is its tokens a second."""

    head, labels, name = "classify", 2, "sentiment"
    columns = pa.schema([("label", pa.string()), ("score", pa.float32())])

    def __init__(self, clock):
        self.clock = clock

    def prepare(self, texts, _):
        return texts

    def score(self, texts, engine, _):
        self.clock.now += TOKENS * len(texts) / engine.rate
        columns = {"label": pa.array(["good"] * len(texts)), "score": pa.array([0.9] * len(texts), pa.float32())}
        return Scored(columns, np.full(len(texts), TOKENS, np.int32), np.zeros(len(texts), bool))


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (timing, trials):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def tried(clock, monkeypatch):
    """Return the trials by candidate, in their order, and the seconds of scoring they took."""

    def called(rates, texts=1024, times=10.0):
        def opened(plan, model):
            clock.now += 5  # loading comes on top
            return SimpleNamespace(rate=rates[plan.engine, plan.precision], close=lambda: None)

        monkeypatch.setattr(trials, "open_engine", opened)
        monkeypatch.setattr(trials, "open_reader", lambda *_: None)
        pilot = trials.Pilot(None, Labelling(clock), "cpu", [f"text {n}" for n in range(texts)], times)
        began = clock.now
        pilot.try_all([Candidate(*kind) for kind in rates])
        scoring_s = clock.now - began - 5 * len(pilot.trials)
        return {(trial.engine, trial.precision): trial for trial in pilot.trials}, scoring_s

    return called


def test_int8_is_compared_over_enough_texts_where_a_text_takes_long(tried):
    found, _ = tried(dict(zip(KINDS, [2_800, 5_200, 3_000, 1_400, 2_000], strict=True)), times=2)
    for kind in (("openvino", "fp32"), ("native", "int8")):
        assert found[kind].texts >= trials.LEAST_COMPARED
        assert not found[kind].refused


def test_candidates_are_tried_in_their_order(tried):
    found, _ = tried(dict(zip(KINDS, [12_000, 18_000, 11_000, 6_000, 13_000], strict=True)))
    assert list(found) == KINDS


@pytest.mark.parametrize("times", [1, 100, 10_000])
@pytest.mark.parametrize("fastest", KINDS)
def test_whatever_is_fastest_is_compared_over_enough_texts(tried, fastest, times):
    found, _ = tried({kind: 20_000.0 if kind == fastest else 8_000.0 for kind in KINDS}, times=times)
    assert found[fastest].texts >= trials.LEAST_COMPARED
    assert not found[fastest].refused
    assert found[fastest].tokens_per_s == pytest.approx(20_000, rel=0.01)


def test_what_is_slow_is_given_up_and_int8_says_so(tried):
    found, _ = tried(dict(zip(KINDS, [12_000, 18_000, 1_500, 2_000, 1_000], strict=True)))
    assert found["torch", "fp32"].texts <= 64
    assert found["torch", "fp32"].refused == ""
    assert found["openvino", "int8"].refused.startswith("given up as slower after ")


def test_seconds_of_scoring_stay_near_the_pilots_own(tried):
    for rates in itertools.permutations([3_000, 5_000, 8_000, 20_000, 9_000]):
        _, scoring_s = tried(dict(zip(KINDS, rates, strict=True)), times=1)
        assert scoring_s <= 2 * trials.PILOT_S


def test_a_long_job_compares_more_texts(tried):
    rates = dict(zip(KINDS, [12_000, 18_000, 11_000, 6_000, 13_000], strict=True))
    short, _ = tried(rates, times=1)
    long, _ = tried(rates, times=1000)
    assert long["native", "int8"].texts > 2 * short["native", "int8"].texts


def test_texts_too_slow_for_the_least_comparison_end_in_time_and_leave_fp32(tried):
    found, scoring_s = tried(dict.fromkeys(KINDS, 200.0), times=1)
    assert all("too few to trust int8" in trial.refused for kind, trial in found.items() if kind[1] == "int8")
    assert not found["openvino", "fp32"].refused
    assert scoring_s < 6 * trials.PILOT_S


def test_a_limit_is_over_in_time_or_once_too_slow():
    limit = Limit(2.0, least_texts=64, most_s=5.0, tokens_per_s=100.0)
    assert not limit.is_over(1.9, 100, 200.0)
    assert limit.is_over(2.1, 64, 200.0)
    assert not limit.is_over(2.1, 60, 200.0)
    assert limit.is_over(5.1, 60, 200.0)
    assert not limit.is_over(0.9, 8, 50.0), "the first second tells too little"
    assert limit.is_over(1.1, 8, 50.0)
