"""Kept columns of every type, through a whole run: in the table as the source had them, or refused by name before."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import merged
from warehouses.places import PLACES
from warehouses.test_contract import KEPT, NOW
from windrow import Job, run
from windrow.errors import SchemaError
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName

SPAN = pa.struct([("word", pa.string()), ("at", pa.int32()), ("sure", pa.float64())])
MORE = {
    "berlin": pa.array([NOW, None, NOW], pa.timestamp("us", tz="Europe/Berlin")),
    "seconds": pa.array([1_700_000_000, None, 0], pa.timestamp("s", tz="UTC")),
    "nanos": pa.array([1_700_000_000_123_456_000, None, 1000], pa.timestamp("ns")),
    "nanozoned": pa.array([1_700_000_000_123_456_789, None, 1], pa.timestamp("ns", tz="UTC")),
    "nanolists": pa.array([[1_700_000_000_123_456_000], None, []], pa.list_(pa.timestamp("ns", tz="UTC"))),
    "wholly": pa.array([1_700_000_000_123_456_000, None, 1000], pa.timestamp("ns", tz="UTC")),
    "halves": pa.array([1.5, None, 0.25], pa.float32()).cast(pa.float16()),
    "clock": pa.array([dt.time(23, 59, 59, 999_999), None, dt.time(0)], pa.time64("us")),
    "exact": pa.array([Decimal("12345678901234567890.12"), None, Decimal(-1)], pa.decimal128(38, 2)),
    "exacter": pa.array([Decimal(1), None, Decimal(2)], pa.decimal256(60, 2)),
    "unsigned": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "byte": pa.array([255, None, 0], pa.uint8()),
    "blob": pa.array([b"\x00\xff" * 5000, None, b""], pa.large_binary()),
    "four": pa.array([b"abcd", None, b"\x00\x01\x02\x03"], pa.binary(4)),
    "story": pa.array(["ü" * 500_000, None, ""], pa.large_string()),
    "view": pa.array(["seen", None, ""], pa.string_view()),
    "codes": pa.array([7, None, 9]).dictionary_encode(),
    "kinds": pa.array([["a", "b"], None, ["a"]], pa.list_(pa.string())).cast(
        pa.list_(pa.dictionary(pa.int32(), pa.string()))
    ),
    "many": pa.array([[1, None], None, []], pa.large_list(pa.int64())),
    "vector": pa.array([[0.5, 1.5], None, [2.5, 3.5]], pa.list_(pa.float32(), 2)),
    "one": pa.array([{"word": "Ada", "at": 3, "sure": 0.5}, None, {"word": None, "at": None, "sure": 1.0}], SPAN),
    "deep": pa.array([[[1, 2], []], None, [[3]]], pa.list_(pa.list_(pa.int64()))),
    "counts": pa.array([[("x", 1)], None, [("y", 2), ("z", 3)]], pa.map_(pa.string(), pa.int64())),
    "span": pa.array([1, None, 2], pa.duration("us")),
    "nothing": pa.nulls(3),
}
ALL = KEPT | MORE


def plain(value):
    """Return a value in the form in which any driver's can be compared."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        value = dict(value)
    if isinstance(value, dict):
        return {name: plain(part) for name, part in sorted(value.items())}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, dt.datetime) and value.tzinfo:
        return value.astimezone(dt.UTC)
    return int(value) if isinstance(value, Decimal) and value == int(value) else value


@pytest.mark.parametrize("kind", list(PLACES))
def test_kept_columns_arrive_unchanged_or_are_refused_by_name_before_scoring(home, job_fields, tmp_path, kind):
    place = PLACES[kind](tmp_path)
    path, left, refused = tmp_path / "kept.parquet", dict(ALL), set()
    while True:
        rows = {"review_id": ["a", "b", "c"], "body": ["good", "bad", "film"], **left}
        parquet.write_table(pa.table(rows), path, store_decimal_as_integer=False)
        source = {"path": str(path), "keep": list(left)}
        try:
            run(Job(**merged(job_fields, {"source": source, "warehouse": {"url": place.url}})))
        except SchemaError as error:
            (name,) = (name for name in left if f"'{name}'" in error.problem)
            assert not list((tmp_path / "store").glob("predictions/*/*"))
            refused.add(name)
            del left[name]
        else:
            break
    with open_url(place.url, TableName("analytics", "review_sentiment"), writes=False) as warehouse:
        rows = sorted(warehouse.read("table", {}).to_pylist(), key=lambda row: row["review_id"])
    if kind == "postgresql":
        assert rows[0]["nanolists"] == ["2023-11-14 22:13:20.123456+00"]
        del left["nanolists"]  # moments in JSON are texts
    for name, values in left.items():
        wanted = [plain(value) for value in pa.table({name: values})[name].to_pylist()]
        assert [plain(row.get(name)) for row in rows] == wanted, name
    assert refused <= {"exacter", "span", "nanozoned", "unsigned", "clock", "nanos"}, refused
