"""What is Redshift's own: its url, its stage in S3, refusals; over PostgreSQL behind a relay."""

from __future__ import annotations

import datetime as dt
import time

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi

from warehouses.places import RedshiftPlace
from warehouses.test_contract import TABLE, ids, new, publish
from windrow.errors import JobError, SchemaError, WarehouseError
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.redshift import RedshiftWarehouse

ROWS = {"id": ["a"], "label": ["x"]}
STAGE = "stage=s3://rows/stage"


@pytest.fixture
def place(tmp_path):
    return RedshiftPlace(tmp_path)


def opened(url, **options):
    return open_url(url, TableName.parse(TABLE), **options)


def test_comments_say_what_table_and_columns_mean(place):
    asked = new(ROWS)
    told = pa.schema(
        [f.with_metadata({"comment": "It's a key."}) if f.name == "id" else f for f in asked.table],
        {"comment": "Reviews; scored."},
    )
    with opened(place.url) as warehouse:
        for statement in warehouse.plan(told, asked.rejects):
            warehouse.run(statement)
        assert warehouse.plan(told, asked.rejects) == []
    query = "SELECT obj_description('analytics.reviews'::regclass), col_description('analytics.reviews'::regclass, 1)"
    assert place.server.rows(query, place.database) == [("Reviews; scored.", "It's a key.")]


def test_names_are_found_in_whatever_case(place):
    publish(place, {"id": ["a"], "Label": ["x"]})
    with open_url(place.url, TableName.parse("Analytics.REVIEWS"), writes=False) as warehouse:
        assert warehouse.read("table", {"ID": ["a"]}, ["LABEL"]).to_pydict() == {"LABEL": ["x"]}


def test_a_time_of_day_and_a_moment_of_another_zone_arrive_unchanged(place):
    at = dt.datetime(2026, 11, 23, 6, 30, tzinfo=dt.UTC)
    columns = {
        "id": ["a"],
        "day": pa.array([dt.time(6, 30, 0, 5)]),
        "at": pa.array([at], pa.timestamp("us", "Asia/Tokyo")),
    }
    publish(place, columns)
    with opened(place.url, writes=False) as warehouse:
        (row,) = warehouse.read("table", {}, ["day", "at"]).to_pylist()
    assert row == {"day": dt.time(6, 30, 0, 5), "at": at}


def test_a_wrong_password_is_told_and_not_shown(place):
    with (
        pytest.raises(JobError, match="password authentication failed") as refused,
        opened(place.redshift.at(place.database, "guarded", "wr0ng")),
    ):
        pass
    assert "wr0ng" not in str(refused.value)


def test_a_database_that_is_not_there_is_a_mistake_in_the_job(place):
    with pytest.raises(JobError, match="does not exist"), opened(place.redshift.at("nowhere")):
        pass


def test_a_missing_privilege_is_told(place):
    publish(place, ROWS)
    url = place.redshift.at(place.database, "guarded", "s3cret")
    with pytest.raises(JobError, match="permission denied"), opened(url) as warehouse:
        warehouse.replace(new(ROWS, run_id="run-2"))
    assert ids(place) == ["a"]


def test_a_bucket_that_is_not_there_changes_nothing(place):
    url = place.redshift.at(place.database, stage="s3://elsewhere/stage")
    with pytest.raises(WarehouseError, match="cannot be written"), opened(url) as warehouse:
        warehouse.replace(new(ROWS))
    assert place.rows("reviews").num_rows == 0


def test_a_text_that_is_too_long_stops_the_publish(place):
    with pytest.raises(SchemaError, match="too long"):
        publish(place, {"id": ["a"], "label": ["x" * 70_000]})
    assert ids(place) == []


def test_a_host_that_cannot_be_reached_is_given_up_within_seconds():
    began = time.monotonic()
    with pytest.raises(WarehouseError, match="cannot be reached"), opened(f"redshift://u:p@127.0.0.1:9/db?{STAGE}"):
        pass
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redshift://host/db", "names no stage"),
        (f"redshift://host/db?{STAGE}&regoin=x", "did you mean 'region'"),
        (f"redshift://host/?{STAGE}", "cannot be read"),
        (f"redshift://u:p@ss@host/db?{STAGE}", "cannot be read"),
    ],
)
def test_a_miswritten_url_is_refused_without_repeating_it(url, problem):
    with pytest.raises(JobError, match=problem) as refused:
        opened(url)
    assert "p@ss" not in str(refused.value)


def test_a_ledger_that_another_session_holds_is_waited_for_and_then_told(place):
    publish(place, ROWS)
    with dbapi.connect(place.server.at(place.database)) as con, con.cursor() as cursor:
        cursor.execute("LOCK TABLE analytics.windrow_runs")
        with (
            RedshiftWarehouse(place.url, TableName.parse(TABLE), lock_wait_s=0) as warehouse,
            pytest.raises(WarehouseError, match="Another session holds"),
        ):
            warehouse.replace(new(ROWS, run_id="run-2"))
        con.rollback()
    assert place.rows("windrow_runs").num_rows == 1
