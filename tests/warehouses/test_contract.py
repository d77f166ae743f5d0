"""What every warehouse does alike: partitions replaced whole, upserted, appended once; rows read back, forgotten."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import time
from decimal import Decimal

import pyarrow as pa
import pytest

from test_receipt import RECEIPT
from warehouses.places import PLACES, STAND_INS, IcebergRestPlace
from windrow import Job
from windrow.errors import FencedError, JobError, SchemaError
from windrow.quality.previous import Reference, reference
from windrow.receipt import LEDGER_SCHEMA
from windrow.schema import RUN_COLUMNS
from windrow.warehouses import open_url
from windrow.warehouses.base import Replacement, TableName

TABLE = "analytics.reviews"
REJECTS = pa.schema(
    [
        ("id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("windrow_partition", pa.string()),
        ("windrow_run_id", pa.string()),
        ("rejected_at", pa.timestamp("us", tz="UTC")),
    ]
)
NOW = dt.datetime(2026, 11, 23, 6, 30, 15, 123456, dt.UTC)


ALL = {**PLACES, **STAND_INS, "iceberg+rest": IcebergRestPlace}


@pytest.fixture(params=list(ALL))
def place(request, tmp_path):
    made = ALL[request.param](tmp_path)
    yield made
    getattr(made, "close", lambda: None)()


def new(rows, partition="2026-11-23", run_id="run-1", rejected=(), columns=None, **others):
    """A partition's new content: rows as ``{column: values}`` with ``id``, and rejected ids."""
    kept = pa.table(rows) if isinstance(rows, dict) else rows
    columns = columns or kept.schema
    count = kept.num_rows
    facts = [[partition], [run_id], ["model"], ["mark"], [7], [False], [NOW]]
    told = {f.name: pa.array(v * count, f.type) for f, v in zip(RUN_COLUMNS, facts, strict=True)}
    table = pa.table({**{name: kept[name] for name in kept.column_names}, **told})
    ids = list(rejected)
    marks = {"reason": "empty", "detail": "no text", "windrow_partition": partition, "windrow_run_id": run_id}
    rejects = pa.table({"id": ids, **{k: [v] * len(ids) for k, v in marks.items()}, "rejected_at": [NOW] * len(ids)})
    receipt = dataclasses.replace(
        RECEIPT, partition=partition, run_id=run_id, table=TABLE,
        rows_in=count + len(ids), rows_published=count, rows_rejected=len(ids),
    )  # fmt: skip
    return Replacement(
        table=pa.schema([*columns, *RUN_COLUMNS]), rejects=REJECTS, rows=lambda: table.to_reader(2),
        reject_rows=lambda: rejects.cast(REJECTS).to_reader(2), receipt=receipt, began=time.monotonic(),
        keys=("id",), **others,
    )  # fmt: skip


def publish(place, *args, **kwargs):
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        return warehouse.replace(new(*args, **kwargs))


def ids(place, table="reviews"):
    rows = place.rows(table)
    return sorted(rows["id"].to_pylist()) if rows.num_rows else []


def held(place):
    """Return ``{id: (label, partition)}`` of the table."""
    rows = place.rows("reviews").select(["id", "label", "windrow_partition"]).to_pylist()
    found = {row["id"]: (row["label"], row["windrow_partition"]) for row in rows}
    assert len(found) == len(rows), "a key is there twice"
    return found


def test_a_partition_is_replaced_whole_and_no_other_is_touched(place):
    publish(place, {"id": ["a", "b"], "label": ["x", "x"]}, "p1", "run-1", rejected=["r1"])
    publish(place, {"id": ["c"], "label": ["x"]}, "p2", "run-2", rejected=["r2"])
    publish(place, {"id": ["b", "d", "e"], "label": ["y", "y", "y"]}, "p1", "run-3", rejected=["r3"])
    assert held(place) == {"b": ("y", "p1"), "c": ("x", "p2"), "d": ("y", "p1"), "e": ("y", "p1")}
    assert ids(place, "reviews__rejects") == ["r2", "r3"]
    assert sorted(place.rows("windrow_runs")["run_id"].to_pylist()) == ["run-1", "run-2", "run-3"]


def test_a_run_published_twice_is_there_once(place):
    for _ in range(2):
        publish(place, {"id": ["a", "b"], "label": ["x", "x"]}, "p1", "run-1", rejected=["r1"])
    assert (ids(place), ids(place, "reviews__rejects")) == (["a", "b"], ["r1"])
    assert place.rows("windrow_runs").num_rows == 1


def test_the_ledger_row_is_the_receipt_that_is_returned(place):
    receipt = publish(place, {"id": ["a"], "label": ["x"]})
    assert receipt.quality["checks"]
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse:
        (row,) = warehouse.read("ledger", {"run_id": [receipt.run_id]}).to_pylist()
    assert (row["rows_published"], row["partition"], row["finished_at"]) == (1, "2026-11-23", receipt.finished_at)
    assert row["seconds"]["publish"] == pytest.approx(receipt.seconds.publish)
    assert dict(row["labels"]) == receipt.labels
    assert json.loads(row["quality"]) == receipt.quality


def test_a_ledger_of_an_earlier_version_gets_the_new_column(place, monkeypatch):
    older = pa.schema([field for field in LEDGER_SCHEMA if field.name != "quality"])
    with monkeypatch.context() as patch:
        for name in ("lake", "postgres", "duckdb_tables", "duckdb_catalog", "staged"):
            patch.setattr(f"windrow.warehouses.{name}.LEDGER_SCHEMA", older)
        patch.setattr("windrow.receipt.LEDGER_SCHEMA", older)
        publish(place, {"id": ["a"], "label": ["x"]}, "p1", "run-1")
        assert "quality" not in place.rows("windrow_runs").column_names
    publish(place, {"id": ["b"], "label": ["x"]}, "p2", "run-2")
    rows = {row["run_id"]: row["quality"] for row in place.rows("windrow_runs").to_pylist()}
    assert (rows["run-1"], json.loads(rows["run-2"])) == (None, RECEIPT.quality)


def test_the_labels_of_earlier_partitions_are_found_for_a_comparison(place):
    for day in (21, 22, 24):
        publish(place, {"id": [f"{day}"], "label": ["x"]}, f"2026-11-{day}", f"run-{day}")
    target = {"url": place.url, "table": 'analytics."reviews"'}
    job = Job(
        name="j", source={"path": "p.csv", "text": "t", "key": "id"}, task="sentiment", model="m", warehouse=target
    )
    found = reference(job, dataclasses.replace(RECEIPT, partition="2026-11-23", run_id="run-25"), 7)
    labels = {label: 2 * rows for label, rows in RECEIPT.labels.items()}
    assert found == Reference("run-22", ("2026-11-21", "2026-11-22"), labels, same_fingerprint=True)


def test_a_partition_without_rows_empties_it(place):
    publish(place, {"id": ["a"], "label": ["x"]}, run_id="run-1")
    empty = pa.table({"id": pa.array([], pa.string()), "label": pa.array([], pa.string())})
    publish(place, empty, run_id="run-2")
    assert ids(place) == []
    assert place.rows("windrow_runs").num_rows == 2


def test_an_older_run_changes_nothing_and_says_so(place):
    publish(place, {"id": ["a"], "label": ["new"]}, run_id="run-2")
    with pytest.raises(FencedError, match="later run run-2"):
        publish(place, {"id": ["b"], "label": ["old"]}, run_id="run-1")
    assert held(place) == {"a": ("new", "2026-11-23")}
    assert place.rows("windrow_runs")["run_id"].to_pylist() == ["run-2"]


def test_upsert_replaces_keys_in_whichever_partition_they_are(place):
    publish(place, {"id": ["a", "b", "c"], "label": ["x"] * 3}, "p1", "run-1", rejected=["r"], mode="upsert")
    publish(place, {"id": ["b", "r"], "label": ["y"] * 2}, "p2", "run-2", rejected=["c"], mode="upsert")
    assert held(place) == {"a": ("x", "p1"), "b": ("y", "p2"), "r": ("y", "p2")}
    assert ids(place, "reviews__rejects") == ["c"]


def test_upsert_removes_the_rows_whose_source_rows_are_gone(place):
    publish(place, {"id": ["a", "b"], "label": ["x"] * 2}, "p1", "run-1", rejected=["r"], mode="upsert")
    gone = pa.table({"id": ["b", "r", "never there"]})
    rows = {"id": ["c"], "label": ["y"]}
    publish(place, rows, "p2", "run-2", mode="upsert", gone=lambda: gone.to_reader())
    assert (ids(place), ids(place, "reviews__rejects")) == (["a", "c"], [])


def test_append_writes_a_partition_once(place):
    rows = {"id": ["a"], "label": ["x"]}
    for _ in range(2):
        publish(place, rows, "p1", "run-1", rejected=["r"], mode="append")
    publish(place, rows, "p2", "run-2", mode="append")
    with pytest.raises(FencedError, match="already appended by run run-1"):
        publish(place, rows, "p1", "run-3", mode="append")
    assert (ids(place), ids(place, "reviews__rejects")) == (["a", "a"], ["r"])


def test_a_stream_that_breaks_changes_nothing(place):
    publish(place, {"id": ["a"], "label": ["x"]}, run_id="run-1", rejected=["r"])
    before = [place.rows(name).to_pylist() for name in ("reviews", "reviews__rejects", "windrow_runs")]
    fine = new({"id": ["b", "c"], "label": ["y", "y"]}, run_id="run-2")

    def breaks(reader):
        yield reader.read_next_batch()
        raise RuntimeError("the disk is gone")

    for field in ("rows", "reject_rows"):
        start = getattr(new({"id": ["b"] * 3, "label": ["y"] * 3}, rejected=["q"], run_id="run-2"), field)
        broken = lambda start=start: pa.RecordBatchReader.from_batches(start().schema, breaks(start()))  # noqa: E731
        with (
            open_url(place.url, TableName.parse(TABLE)) as warehouse,
            pytest.raises(RuntimeError, match="is gone"),
        ):
            warehouse.replace(dataclasses.replace(fine, **{field: broken}))
    assert [place.rows(name).to_pylist() for name in ("reviews", "reviews__rejects", "windrow_runs")] == before


def test_new_columns_are_added_and_vanished_ones_stay_empty(place):
    publish(place, {"id": ["a"], "label": ["x"], "stars": pa.array([5], pa.int8())}, "p1", "run-1")
    publish(place, {"id": ["b"], "label": ["y"], "price": [2.5]}, "p2", "run-2")
    rows = {row["id"]: (row["stars"], row["price"]) for row in place.rows("reviews").to_pylist()}
    assert rows == {"a": (5, None), "b": (None, 2.5)}


@pytest.mark.parametrize(
    ("first", "then", "held"),
    [
        (pa.array([7], pa.int32()), pa.array([2**40], pa.int64()), [7, 2**40]),
        (pa.array([1.5], pa.float32()), pa.array([0.1], pa.float64()), [1.5, 0.1]),
        (pa.array([2**40], pa.int64()), pa.array([7], pa.int32()), [2**40, 7]),
        (
            pa.array([Decimal("1.25")], pa.decimal128(5, 2)),
            pa.array([Decimal("12345.25")], pa.decimal128(9, 2)),
            [Decimal("1.25"), Decimal("12345.25")],
        ),
    ],
)
def test_numbers_are_widened_and_never_narrowed(place, first, then, held):
    publish(place, {"id": ["a"], "value": first}, "p1", "run-1")
    publish(place, {"id": ["b"], "value": then}, "p2", "run-2")
    rows = sorted(place.rows("reviews").to_pylist(), key=lambda row: row["id"])
    assert [row["value"] for row in rows] == held


@pytest.mark.parametrize(
    ("first", "then"), [([7], ["seven"]), (["seven"], [7]), ([7], [0.5]), ([NOW], ["today"]), (["x"], [["x"]])]
)
def test_other_changes_of_a_type_are_refused_with_nothing_changed(place, first, then):
    publish(place, {"id": ["a"], "value": pa.array(first)}, "p1", "run-1")
    before = place.rows("reviews").to_pylist()
    asked = new({"id": ["b"], "value": pa.array(then)}, "p2", "run-2")
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse, pytest.raises(SchemaError) as refused:
        warehouse.plan(asked.table, asked.rejects)
    assert "'value'" in refused.value.problem
    with pytest.raises(SchemaError):
        publish(place, {"id": ["b"], "value": pa.array(then)}, "p2", "run-2")
    assert place.rows("reviews").to_pylist() == before


KEPT = {
    "small": pa.array([1, None, -3], pa.int8()),
    "whole": pa.array([2**62, None, -5], pa.int64()),
    "real": pa.array([0.1, float("nan"), float("inf")], pa.float64()),
    "flag": pa.array([True, None, False]),
    "price": pa.array([Decimal("12.34"), None, Decimal("-0.01")], pa.decimal128(9, 2)),
    "day": pa.array([dt.date(2026, 11, 23), None, dt.date(1970, 1, 1)]),
    "at": pa.array([NOW, None, dt.datetime(1969, 12, 31, 23, 59, 59, 1, dt.UTC)], pa.timestamp("us", tz="UTC")),
    "local": pa.array([dt.datetime(2026, 11, 23, 6, 30), None, dt.datetime(1, 1, 1)], pa.timestamp("us")),
    "words": pa.array(["naïve 日本 🎈", None, "quote ' and \" and \\ and \n"]),
    "large": pa.array(["x" * 1000, None, ""], pa.large_string()),
    "kind": pa.array(["toy", None, "book"]).dictionary_encode(),
    "raw": pa.array([b"\x00\xff", None, b""], pa.binary()),
    "tags": pa.array([["a", None], None, []], pa.list_(pa.string())),
    "spans": pa.array(
        [[{"word": "Ada", "score": 0.5}], None, []],
        pa.list_(pa.struct([("word", pa.string()), ("score", pa.float32())])),
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_column_arrives_unchanged_or_is_refused_by_name(place, name):
    asked = new({"id": ["a", "b", "c"], name: KEPT[name]})
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse:
        try:
            warehouse.plan(asked.table, asked.rejects)
        except SchemaError as refused:
            assert repr(name) in refused.problem  # noqa: PT017
            return
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        if name in getattr(place, "lacks", ()):
            with pytest.raises(SchemaError, match=repr(name)):
                warehouse.replace(asked)
            assert place.rows("reviews").num_rows == 0
            return
        warehouse.replace(asked)
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse:
        rows = sorted(warehouse.read("table", {}, ["id", name]).to_pylist(), key=lambda row: row["id"])
    assert repr([row[name] for row in rows]) == repr(KEPT[name].to_pylist())


@pytest.mark.parametrize("odd", ["it's", 'say "x"', "a;b--", "{x}", "üñí", "per%cent", "a b", "select"])
def test_odd_names_and_values_are_only_names_and_values(place, odd):
    name = odd
    try:
        publish(place, {"id": [odd], name: ["kept"]}, odd, "run-1")
    except SchemaError as refused:  # a warehouse may lack the name, but never the value
        assert repr(odd) in refused.problem  # noqa: PT017
        name = "plain"
    publish(place, {"id": [odd], name: ["kept"]}, odd, "run-2")
    (row,) = place.rows("reviews").to_pylist()
    assert (row["id"], row[name], row["windrow_partition"]) == (odd, "kept", odd)


def test_a_reader_changes_nothing_and_sees_missing_tables_as_empty(place):
    asked = new({"id": ["a"], "label": ["x"]})
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse:
        assert warehouse.plan(asked.table, asked.rejects)
        assert warehouse.read("table", {"id": ["a"]}).num_rows == 0
        assert warehouse.read("ledger", {"run_id": ["run-1"]}, ["run_id"]).num_rows == 0
    assert place.rows("reviews").num_rows == 0


def test_rows_are_read_by_the_text_of_any_column(place):
    publish(place, {"id": ["a", "b", "c"], "stars": [5, 3, 5], "label": ["x", "y", "z"]})
    with open_url(place.url, TableName.parse(TABLE), writes=False) as warehouse:
        found = warehouse.read("table", {"stars": ["5"], "id": ["a", "b"]}, ["label", "no such column"])
    assert found.to_pydict() == {"label": ["x"]}


def test_forgotten_keys_are_gone_from_every_partition(place):
    publish(place, {"id": ["a", "b"], "label": ["x", "x"]}, "p1", "run-1", rejected=["r"])
    publish(place, {"id": ["a", "c"], "label": ["x", "x"]}, "p2", "run-2", rejected=["s"])
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        assert warehouse.forget(pa.table({"id": ["a", "r", "never there"]})) == {"table": 2, "rejects": 1}
    assert (ids(place), ids(place, "reviews__rejects")) == (["b", "c"], ["s"])


def test_a_table_that_is_not_windrows_is_refused(place):
    publish(place, {"id": ["a"], "label": ["x"]})
    asked = new({"id": ["a"], "label": ["x"]})
    with (
        open_url(place.url, TableName("analytics", "windrow_runs"), writes=False) as warehouse,
        pytest.raises(SchemaError, match="not Windrow's"),
    ):
        warehouse.plan(asked.table, asked.rejects)


def test_what_a_table_and_its_columns_mean_is_planned_once(place):
    asked = new({"id": ["a"], "label": ["x"]})
    told = pa.schema([asked.table.field(0).with_metadata({"comment": "It's a key."}), *list(asked.table)[1:]])
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        warehouse.replace(dataclasses.replace(asked, table=told))
        assert warehouse.plan(told, asked.rejects) == []


def test_an_unknown_kind_of_warehouse_is_named(place):
    with pytest.raises(JobError, match="no known warehouse"):
        open_url("oracle://host/db", TableName.parse(TABLE))
