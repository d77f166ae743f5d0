"""Deadlines of a Dag run, as a lane in the middle of its work knows them; plain records stand for Airflow's runs."""

import logging
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference

from windrow.airflow.deadlines import LaneWatch, deadline, due_at, log_missed_deadline
from windrow.remaining import Forecast

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
pytestmark = pytest.mark.airflow


def context(*alerts, **changes):
    fields = {"logical_date": NOON - 2 * HOUR, "start_date": NOON, "run_after": NOON - HOUR}
    with DAG("dated", schedule=None, deadline=list(alerts)) as dag:
        return {"dag": dag, "dag_run": SimpleNamespace(**{**fields, **changes})}


def alert(reference, interval=HOUR):
    return DeadlineAlert(reference, interval, AsyncCallback(log_missed_deadline))


@pytest.mark.parametrize(
    ("alerts", "due"),
    [
        ([], None),
        ([deadline(HOUR)], NOON + HOUR),
        ([alert(DeadlineReference.DAGRUN_LOGICAL_DATE)], NOON - HOUR),
        ([alert(DeadlineReference.FIXED_DATETIME(NOON))], NOON + HOUR),
        ([alert(DeadlineReference.AVERAGE_RUNTIME())], None),
        ([deadline(HOUR), alert(DeadlineReference.FIXED_DATETIME(NOON), -HOUR)], NOON - HOUR),
    ],
    ids=["none", "queued", "logical date", "fixed", "average", "the earliest of two"],
)
def test_the_earliest_deadline_that_a_worker_can_know_counts(alerts, due):
    assert due_at(context(*alerts)) == due


def test_a_run_without_a_logical_date_has_no_deadline_by_it():
    assert due_at(context(alert(DeadlineReference.DAGRUN_LOGICAL_DATE), logical_date=None)) is None


def test_a_deadline_is_one_of_airflows_own():
    made = deadline(HOUR)
    assert made == alert(DeadlineReference.DAGRUN_QUEUED_AT)


def watched(within, caplog, shards=4, seconds=600.0):
    """Run a lane of a thousand texts a shard, `seconds` each, from noon on; return its log and whom it called."""
    caplog.set_level(logging.INFO, "windrow")
    times = [number * seconds for number in range(shards + 1)]
    forecast = Forecast(iter(times).__next__, iter([NOON + timedelta(seconds=time) for time in times[1:]]).__next__)
    called = []
    watch = LaneWatch(context(deadline(within)), 2, called.append, forecast, iter(times).__next__)
    for done in range(1, shards + 1):
        watch(done * 1000, shards * 1000)
    return [record.getMessage() for record in caplog.records], [r.levelname for r in caplog.records], called


def test_a_lane_in_time_says_how_much_is_left(caplog):
    lines, levels, called = watched(HOUR, caplog)
    assert len(lines) == 3
    assert set(levels) == {"INFO"}
    assert lines[0].startswith("Lane 2: 1,000 of 4,000 texts, 1.7/s, about 30 min left")
    assert all(line.endswith("20.0 minutes before the deadline.") for line in lines)
    assert called == []


def test_a_lane_that_will_be_late_warns_and_calls_once_while_there_is_time(caplog):
    lines, levels, called = watched(timedelta(minutes=30), caplog)
    assert levels[0] == "WARNING"
    assert lines[0].endswith("10.0 minutes after the deadline.")
    (told,) = called
    assert told["due"] == NOON + timedelta(minutes=30)
    assert told["remaining"].finish == NOON + timedelta(minutes=40)
    assert told["dag"].dag_id == "dated"


def test_a_dag_without_a_deadline_is_told_nothing(caplog):
    caplog.set_level(logging.INFO, "windrow")
    watch = LaneWatch(context(), 1)
    watch(10, 100)
    assert caplog.records == []
