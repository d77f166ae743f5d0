"""What is Databricks' own: its url, types, claims, refusals; over DuckDB behind the driver's own Thrift service."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from warehouses.places import DatabricksPlace
from warehouses.test_contract import TABLE, held, ids, new, publish
from windrow.errors import FencedError, JobError, SchemaError, WarehouseError
from windrow.warehouses import claimed, open_url
from windrow.warehouses.base import TableName

ROWS = {"id": ["a"], "label": ["x"]}
FINE = "http_path=/sql/1&volume=/Volumes/a/b/c"


@pytest.fixture
def place(tmp_path):
    return DatabricksPlace(tmp_path)


def opened(url, **options):
    return open_url(url, TableName.parse(TABLE), **options)


def test_nested_values_are_columns_of_nested_types(place):
    spans = pa.array(
        [[{"word": "it's", "score": 0.5}]], pa.list_(pa.struct({"word": pa.string(), "score": pa.float32()}))
    )
    publish(place, {"id": ["a"], "spans": spans, "vector": pa.array([[0.1]], pa.list_(pa.float32()))})
    with opened(place.url, writes=False) as warehouse:
        columns = warehouse.relations()["table"].columns
        found = warehouse.read("table", {}, ["spans", "vector"])
    assert columns["vector"].type == "array<float>"
    assert warehouse.dialect.arrow_type(columns["spans"].type) == spans.type
    assert found["spans"].to_pylist() == spans.to_pylist()
    assert found["vector"].type.value_type == pa.float32()


@pytest.mark.parametrize("kind", [pa.list_(pa.binary()), pa.struct({"at": pa.timestamp("us")}), pa.time64("us")])
def test_what_would_not_come_back_as_it_was_is_refused_by_name(place, kind):
    asked = new(pa.table({"id": ["a"], "odd": pa.nulls(1, kind)}))
    with opened(place.url, writes=False) as warehouse, pytest.raises(SchemaError, match="'odd'"):
        warehouse.plan(asked.table, asked.rejects)


def test_a_run_that_wakes_up_after_its_successor_changes_nothing(place, monkeypatch):
    late = new({"id": ["old"], "label": ["x"]}, run_id="run-1", rejected=["q"])
    slept = []

    def sleep_through_a_run(point):
        if point == "publish.claimed" and not slept:
            slept.append(point)
            publish(place, {"id": ["new"], "label": ["y"]}, run_id="run-2", rejected=["r"])

    with opened(place.url) as warehouse:
        monkeypatch.setattr(claimed, "reach", sleep_through_a_run)
        with pytest.raises(FencedError, match="later run run-2"):
            warehouse.replace(late)
    assert (held(place), ids(place, "reviews__rejects")) == ({"new": ("y", "2026-11-23")}, ["r"])


def test_a_run_that_is_shut_out_half_way_says_so(place, monkeypatch):
    late = new({"id": ["old"], "label": ["x"]}, run_id="run-1", rejected=["q"])
    slept = []

    def sleep_through_a_run(point):
        if point == "publish.table" and not slept:
            slept.append(point)
            publish(place, {"id": ["new"], "label": ["y"]}, run_id="run-2", rejected=["r"])

    with opened(place.url) as warehouse:
        monkeypatch.setattr(claimed, "reach", sleep_through_a_run)
        with pytest.raises(WarehouseError, match="took this one's place"):
            warehouse.replace(late)
    assert (held(place), ids(place, "reviews__rejects")) == ({"new": ("y", "2026-11-23")}, ["r"])
    assert place.rows("windrow_runs")["run_id"].to_pylist() == ["run-2"]


def test_a_wrong_token_is_told_and_not_shown(place):
    url = place.server.at(place.catalog, "wr0ng")
    with pytest.raises(JobError, match="refuses the connection") as refused, opened(url):
        pass
    assert "wr0ng" not in str(refused.value)


def test_a_missing_privilege_is_told(place):
    publish(place, ROWS)
    with opened(place.server.at(place.catalog, "reader")) as warehouse:
        assert warehouse.read("table", {}, ["id"]).num_rows == 1
        with pytest.raises(JobError, match="INSUFFICIENT_PERMISSIONS") as refused:
            warehouse.replace(new(ROWS, run_id="run-2"))
    assert "docs/warehouses/databricks.md" in refused.value.fix
    assert ids(place) == ["a"]


def test_a_host_that_cannot_be_reached_is_given_up_within_seconds():
    began = time.monotonic()
    url = f"databricks://token:t@127.0.0.1/main?{FINE}&connection_uri=http://127.0.0.1:9/sql/1"
    with pytest.raises(WarehouseError, match="cannot be reached"), opened(url):
        pass
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("databricks://token:t@host/main?http_path=/sql/1", "names no volume"),
        (f"databricks://token:t@host/?{FINE}", "no host, catalog or http_path"),
        (f"databricks://token:t@host/main?{FINE}&volum=x", "did you mean 'volume'"),
        (f"databricks://token:p@ss@host/main?{FINE}", "no host, catalog or http_path"),
    ],
)
def test_a_miswritten_url_is_refused_without_repeating_it(url, problem):
    with pytest.raises(JobError, match=problem) as refused:
        opened(url)
    assert "p@ss" not in str(refused.value)
