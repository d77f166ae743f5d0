"""Hours and cost are estimated before anything is spent, and kept while a run goes on."""

from __future__ import annotations

import pytest

from windrow import Job, run
from windrow.errors import JobError, LimitError
from windrow.inspect import plan_job
from windrow.pilot.estimate import Estimate, estimate, refuse_beyond
from windrow.pilot.timing import Timing


def test_a_run_beyond_its_hours_scores_nothing(windrow, write_job, tmp_path):
    done = windrow("run", write_job(limits={"max_hours": 1e-9}))
    assert done.returncode == 2
    assert "its limits leave it 1e-09 hours" in done.stderr
    assert "Fix: raise limits.max_hours" in done.stderr
    assert not list((tmp_path / "store").rglob("*.parquet"))
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_a_run_beyond_its_cost_scores_nothing_and_names_the_cost(job_fields, home):
    job = Job(**job_fields, price_per_hour=3.0, limits={"max_cost": 1e-9})
    with pytest.raises(LimitError, match=r"hours and 0\.\d+; its limits"):
        run(job)
    assert plan_job(job)["within_limits"] is False


def test_a_run_within_its_limits_is_published(job_fields, home):
    job = Job(**job_fields, price_per_hour=3.0, limits={"max_cost": 100, "max_hours": 1})
    facts = plan_job(job)
    assert facts["within_limits"] is True
    assert 0 < facts["cost_interval"][0] <= facts["cost"] <= facts["cost_interval"][1]
    assert run(job).rows_published == 5


def test_a_cost_needs_a_price(job_fields):
    with pytest.raises(JobError, match=r"max_cost needs price_per_hour"):
        Job(**job_fields, limits={"max_cost": 1})


def test_a_lane_that_uses_up_its_hours_stops_and_keeps_what_is_scored(job_fields, home, monkeypatch):
    job = Job(**job_fields, limits={"max_hours": 1e-9})
    monkeypatch.setattr("windrow.load.refuse_beyond", lambda *_: None)
    with pytest.raises(LimitError, match=r"Scoring has taken .*\n.*what is scored is kept"):
        run(job)
    receipt = run(Job(**job_fields))
    assert (receipt.texts_reused, receipt.texts_scored) == (5, 0)


def test_the_interval_widens_with_the_spread_of_the_chunks():
    even = Timing(100, 1000, ((50, 500, 1.0), (50, 500, 1.0), (50, 500, 1.0)))
    rough = Timing(100, 1000, ((50, 500, 0.5), (50, 500, 2.0), (50, 500, 0.5)))
    job = Job.model_construct(price_per_hour=None)
    narrow, wide = (estimate(job, 60_000, 0, timing) for timing in (even, rough))
    assert (narrow.seconds, wide.seconds) == (120, 120)
    assert (narrow.low_s, narrow.high_s) == (pytest.approx(108), pytest.approx(132))
    assert wide.high_s - wide.low_s > 2 * (narrow.high_s - narrow.low_s)


def test_nothing_left_to_score_costs_nothing(job_fields):
    assert estimate(Job(**job_fields), 0, 0, None).seconds == 0
    refuse_beyond(Job(**job_fields, limits={"max_hours": 1}), Estimate(10, 5, 20))
