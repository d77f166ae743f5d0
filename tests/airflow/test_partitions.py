"""Which partition a run owns; plain records stand for Airflow's runs of every kind."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from windrow.airflow.partitions import default_partition
from windrow.errors import JobError

BERLIN = ZoneInfo("Europe/Berlin")
DAY = datetime(2026, 11, 23, tzinfo=UTC)
NOON = DAY + timedelta(hours=12, minutes=5, seconds=7)


def run(start=None, end=None, run_type="scheduled", **changes):
    fields = {"partition_key": None, "run_after": NOON, "consumed_asset_events": []}
    fields |= {"data_interval_start": start, "data_interval_end": end or start, "run_type": run_type}
    return SimpleNamespace(**{**fields, **changes})


def dag(zone=UTC, timetable=None):
    return SimpleNamespace(timezone=zone, timetable=timetable)


def event(partition=None, key=None):
    return SimpleNamespace(partition_key=key, extra={"partition": partition} if partition else {})


def test_a_partition_key_goes_first():
    assert default_partition(run(DAY, partition_key="eu"), dag()) == "eu"


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_a_daily_run_owns_the_day_that_its_interval_starts(run_type):
    assert default_partition(run(DAY, run_type=run_type), dag()) == "2026-11-23"
    assert default_partition(run(DAY, DAY + timedelta(days=1), run_type), dag()) == "2026-11-23"


def test_an_hourly_run_owns_its_minute_in_utc_without_a_colon():
    start = DAY + timedelta(hours=14, minutes=5)
    assert default_partition(run(start), dag()) == "2026-11-23T1405Z"
    assert default_partition(run(start), dag(BERLIN)) == "2026-11-23T1405Z"
    assert default_partition(run(start + timedelta(seconds=30)), dag()) == "2026-11-23T140530Z"


def test_days_begin_at_midnight_in_the_zone_of_the_dag():
    midnight = datetime(2026, 7, 1, tzinfo=BERLIN)
    assert default_partition(run(midnight.astimezone(UTC)), dag(BERLIN)) == "2026-07-01"
    assert default_partition(run(midnight.astimezone(UTC)), dag(UTC)) == "2026-06-30T2200Z"
    assert default_partition(run(midnight.astimezone(UTC)), dag(UTC, SimpleNamespace(timezone=BERLIN))) == "2026-07-01"


def test_a_manual_run_owns_its_day():
    assert default_partition(run(NOON, run_type="manual"), dag()) == "2026-11-23"
    late = datetime(2026, 11, 23, 23, 30, tzinfo=UTC)
    assert default_partition(run(late, run_type="manual"), dag(BERLIN)) == "2026-11-24"


def test_a_manual_run_with_an_interval_owns_its_start():
    assert default_partition(run(DAY - timedelta(days=1), DAY, "manual"), dag()) == "2026-11-22"


def test_a_run_without_a_date_owns_the_day_it_runs():
    assert default_partition(run(run_type="manual"), dag()) == "2026-11-23"


def test_a_run_that_an_asset_triggered_owns_the_partition_of_the_event():
    triggered = run(run_type="asset_triggered", consumed_asset_events=[event("2026-11-20"), event("2026-11-20")])
    assert default_partition(triggered, dag()) == "2026-11-20"
    keyed = run(run_type="asset_triggered", consumed_asset_events=[event(key="2026-11-19")])
    assert default_partition(keyed, dag()) == "2026-11-19"


def test_events_without_a_partition_leave_the_day_it_runs():
    assert default_partition(run(run_type="asset_triggered", consumed_asset_events=[event()]), dag()) == "2026-11-23"


def test_several_triggering_partitions_are_refused_where_the_source_depends_on_one():
    several = run(run_type="asset_triggered", consumed_asset_events=[event("2026-11-20"), event("2026-11-21")])
    assert default_partition(several, dag()) == "2026-11-23"
    with pytest.raises(JobError, match="2026-11-20, 2026-11-21"):
        default_partition(several, dag(), strict=True)
