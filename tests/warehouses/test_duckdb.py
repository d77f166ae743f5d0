"""What a run leaves in DuckDB: names and types, values unchanged, one partition replaced in one transaction."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

import windrow.publish
from conftest import merged
from windrow import Job, run
from windrow.errors import FencedError, SchemaError, WarehouseError
from windrow.infer import infer
from windrow.load import load
from windrow.publish import publish
from windrow.warehouses.base import TableName
from windrow.warehouses.duckdb import DuckDBWarehouse
from windrow.warehouses.evolution import can_hold, widened


@pytest.fixture
def job(home, tmp_path, job_fields):
    """A sound job with changes; a table is written to a file of its own and becomes the source."""

    def make(table=None, **changes):
        if table is not None:
            path = tmp_path / "table.parquet"
            parquet.write_table(table, path)
            changes = merged({"source": {"path": str(path)}}, changes)
        return Job(**merged(job_fields, changes))

    return make


@pytest.fixture
def query(tmp_path):
    def ask(statement):
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
            con.execute("SET schema = 'analytics'; SET TimeZone = 'UTC'")
            return con.execute(statement).fetchall()

    return ask


def _types(query, table):
    return {name: kind for name, kind, *_ in query(f"DESCRIBE {table}")}


def test_the_three_tables_have_the_columns_that_are_promised(job, query):
    run(job(), "2026-11-23")
    assert _types(query, "review_sentiment") == {
        "review_id": "VARCHAR",
        "stars": "TINYINT",
        "label": "VARCHAR",
        "score": "FLOAT",
        "windrow_partition": "VARCHAR",
        "windrow_run_id": "VARCHAR",
        "windrow_model": "VARCHAR",
        "windrow_fingerprint": "VARCHAR",
        "windrow_tokens": "INTEGER",
        "windrow_truncated": "BOOLEAN",
        "windrow_scored_at": "TIMESTAMP WITH TIME ZONE",
    }
    assert _types(query, "review_sentiment__rejects") == {
        "review_id": "VARCHAR",
        "reason": "VARCHAR",
        "detail": "VARCHAR",
        "windrow_partition": "VARCHAR",
        "windrow_run_id": "VARCHAR",
        "rejected_at": "TIMESTAMP WITH TIME ZONE",
    }
    ledger = _types(query, "windrow_runs")
    assert list(ledger)[:6] == ["job", "task", "partition", "run_id", "model", "revision"]
    assert (ledger["rows_in"], ledger["labels"]) == ("BIGINT", "MAP(VARCHAR, BIGINT)")
    assert ledger["finished_at"] == "TIMESTAMP WITH TIME ZONE"


def test_the_ledger_row_is_the_receipt(job, query):
    receipt = run(job(), "2026-11-23")
    row = query(
        'SELECT job, partition, run_id, rows_in, rows_published, labels, seconds.total, "table" FROM windrow_runs'
    )[0]
    assert row[:5] == ("review_sentiment", "2026-11-23", receipt.run_id, 5, 5)
    assert row[5] == receipt.labels
    assert row[6] == pytest.approx(receipt.seconds.total)
    assert row[7] == "analytics.review_sentiment"


def test_kept_columns_of_every_type_arrive_unchanged(job, query):
    moment = dt.datetime(2026, 11, 23, 1, 2, 3, 456789)
    columns = {
        "exact": pa.array([Decimal("12345678901234567890.12"), None], pa.decimal128(38, 2)),
        "parts": pa.array(
            [[{"name": "a", "n": 1}, {"name": None, "n": 2}], None],
            pa.list_(pa.struct([("name", pa.string()), ("n", pa.int64())])),
        ),
        "kind": pa.array(["x", "y"]).dictionary_encode(),
        "zoned": pa.array([moment, None], pa.timestamp("us", tz="Europe/Berlin")),
        "plain": pa.array([moment, None], pa.timestamp("us")),
        "nanos": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
        "raw": pa.array([b"\x00\xff", b""], pa.binary()),
        "wide": pa.array(["ü" * 1000, None], pa.large_string()),
        "huge": pa.array([2**64 - 1, 0], pa.uint64()),
        "day": pa.array([dt.date(1900, 2, 28), None]),
        "clock": pa.array([dt.time(23, 59, 59, 999999), None], pa.time64("us")),
        "flag": pa.array([True, None]),
        "half": pa.array([1.5, float("nan")], pa.float32()),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "fixed": pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)),
        "view": pa.array(["seen", None], pa.string_view()),
        "nothing": pa.nulls(2),
        "nested_kind": pa.StructArray.from_arrays([pa.array(["a", "b"]).dictionary_encode()], ["k"]),
    }
    table = pa.table({"review_id": ["r0", "r1"], "body": ["good", "bad"], **columns})
    receipt = run(job(table, source={"keep": list(columns)}))
    assert receipt.rows_published == 2
    types = _types(query, "review_sentiment")
    assert {name: types[name] for name in columns} == {
        "exact": "DECIMAL(38,2)",
        "parts": 'STRUCT("name" VARCHAR, n BIGINT)[]',
        "kind": "VARCHAR",
        "zoned": "TIMESTAMP WITH TIME ZONE",
        "plain": "TIMESTAMP",
        "nanos": "TIMESTAMP_NS",
        "raw": "BLOB",
        "wide": "VARCHAR",
        "huge": "UBIGINT",
        "day": "DATE",
        "clock": "TIME",
        "flag": "BOOLEAN",
        "half": "FLOAT",
        "map": "MAP(VARCHAR, BIGINT)",
        "fixed": "DOUBLE[]",
        "view": "VARCHAR",
        "nothing": "VARCHAR",
        "nested_kind": "STRUCT(k VARCHAR)",
    }
    names = ", ".join(f'"{name}"' for name in columns)
    first, second = query(f"SELECT {names} FROM review_sentiment ORDER BY review_id")
    found = dict(zip(columns, first, strict=True))
    assert found.pop("zoned").astimezone(dt.UTC).replace(tzinfo=None) == moment
    assert found.pop("nanos") == dt.datetime(2023, 11, 14, 22, 13, 20, 123456)
    assert query("SELECT epoch_ns(nanos) FROM review_sentiment ORDER BY review_id")[0] == (1_700_000_000_123_456_789,)
    assert found == {
        "exact": Decimal("12345678901234567890.12"),
        "parts": [{"name": "a", "n": 1}, {"name": None, "n": 2}],
        "kind": "x",
        "plain": moment,
        "raw": b"\x00\xff",
        "wide": "ü" * 1000,
        "huge": 2**64 - 1,
        "day": dt.date(1900, 2, 28),
        "clock": dt.time(23, 59, 59, 999999),
        "flag": True,
        "half": 1.5,
        "map": {"k": 1},
        "fixed": [1.0, 2.0],
        "view": "seen",
        "nothing": None,
        "nested_kind": {"k": "a"},
    }
    assert second[list(columns).index("raw")] == b""
    assert run(job(table, source={"keep": list(columns)})).texts_scored == 0


@pytest.mark.parametrize(
    "kind",
    [pa.decimal256(60, 2), pa.duration("us"), pa.list_(pa.struct([("x", pa.duration("s"))]))],
    ids=str,
)
def test_a_type_that_cannot_be_carried_unchanged_is_refused_before_scoring(job, tmp_path, kind):
    table = pa.table({"review_id": ["r0"], "body": ["good"], "far": pa.nulls(1, kind)})
    with pytest.raises(SchemaError, match=r"cannot be carried|span of time"):
        run(job(table, source={"keep": ["far"]}))
    assert not list((tmp_path / "store").rglob("predictions/**/*.parquet"))


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([1.5, float("nan"), float("nan"), None]),
        pa.array([[1, 2], [1], [1], None]),
        pa.array([{"a": 1}, {"a": 2}, {"a": 2}, None]),
        pa.array([2**63, 2**64 - 1, 2**64 - 1, None], pa.uint64()),
        pa.array(["é", "e\u0301", "e\u0301", None]),
        pa.array(["a\x00b", "a\x00c", "a\x00c", None]),
        pa.array([b"\xff\x00", b"\xff\x01", b"\xff\x01", None]),
        pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(9999, 12, 31), None]),
    ],
    ids=["float", "list", "struct", "huge", "unicode", "nul", "binary", "date"],
)
def test_keys_of_every_type_are_told_apart(job, query, keys):
    table = pa.table({"id": keys, "body": ["good"] * 4})
    receipt = run(job(table, source={"key": "id", "keep": []}))
    assert receipt.rejects == {"duplicate_key": 1, "null_key": 1}
    assert query("SELECT count(*), count(DISTINCT id) FROM review_sentiment") == [(2, 2)]
    assert query("SELECT count(*) FROM review_sentiment JOIN review_sentiment__rejects USING (id)") == [(1,)]


def test_a_column_may_be_key_kept_and_text_at_once(job, query):
    table = pa.table({"body": ["good", "bad", "good"]})
    receipt = run(job(table, source={"key": ["body", "body"], "keep": ["body"], "text": ["body"]}))
    assert receipt.rejects == {"duplicate_key": 1}
    assert query("SELECT body FROM review_sentiment ORDER BY 1") == [("bad",), ("good",)]


def test_many_rows_of_one_text_all_get_its_prediction(job, query):
    table = pa.table({"review_id": range(20_000), "body": ["good film"] * 20_000})
    receipt = run(job(table, source={"keep": []}))
    assert (receipt.texts_scored, receipt.rows_published) == (1, 20_000)
    assert query("SELECT count(DISTINCT review_id), count(DISTINCT score) FROM review_sentiment") == [(20_000, 1)]


def test_a_second_run_scores_nothing_and_leaves_the_same_rows(job, query):
    first = run(job(), "a")
    columns = "* EXCLUDE (windrow_run_id)"
    before = query(f"SELECT {columns} FROM review_sentiment ORDER BY 1")
    again = run(job(), "a")
    assert (again.texts_scored, again.texts_reused, again.tokens) == (0, 5, 0)
    assert again.run_id > first.run_id
    assert query(f"SELECT {columns} FROM review_sentiment ORDER BY 1") == before
    assert query("SELECT count(*), count(DISTINCT windrow_run_id) FROM review_sentiment") == [(5, 1)]
    assert query("SELECT run_id FROM windrow_runs ORDER BY run_id") == [(first.run_id,), (again.run_id,)]


def test_a_run_replaces_its_own_partition_and_no_other(job, query):
    run(job(), "a")
    run(job(), "b")
    fewer = pa.table({"review_id": ["r0", "r7"], "body": ["good", None], "stars": pa.array([1, 2], pa.int8())})
    run(job(fewer), "a")
    assert query("SELECT windrow_partition, count(*) FROM review_sentiment GROUP BY 1 ORDER BY 1") == [
        ("a", 1),
        ("b", 5),
    ]
    assert query("SELECT review_id, windrow_partition FROM review_sentiment__rejects") == [("r7", "a")]
    run(job(), "a")
    assert query("SELECT count(*) FROM review_sentiment__rejects") == [(0,)]


def test_new_columns_are_added_and_vanished_ones_stay_empty(job, query):
    run(job(), "a")
    table = pa.table({"review_id": ["x"], "body": ["good"], "product": ["phone"], "Stars2": [1]})
    run(job(table, source={"keep": ["product", "Stars2"]}), "b")
    rows = query(
        "SELECT review_id, stars, product, Stars2 FROM review_sentiment WHERE review_id IN ('x', 'r0') ORDER BY 1"
    )
    assert rows == [("r0", 5, None, None), ("x", None, "phone", 1)]


@pytest.mark.parametrize(
    ("first", "then", "held"),
    [
        (pa.int8(), pa.int64(), "BIGINT"),
        (pa.int64(), pa.int16(), "BIGINT"),
        (pa.float32(), pa.float64(), "DOUBLE"),
        (pa.uint8(), pa.int16(), "SMALLINT"),
        (pa.decimal128(5, 2), pa.decimal128(9, 4), "DECIMAL(9,4)"),
        (pa.decimal128(9, 0), pa.decimal128(6, 5), "DECIMAL(14,5)"),
    ],
    ids=str,
)
def test_numbers_are_widened_and_never_narrowed(job, query, first, then, held):
    for kind, partition in ((first, "a"), (then, "b"), (first, "c")):
        table = pa.table({"review_id": ["x"], "body": ["good"], "stars": pa.array([1]).cast(pa.float64()).cast(kind)})
        run(job(table), partition)
    assert _types(query, "review_sentiment")["stars"] == held
    assert query("SELECT count(*) FROM review_sentiment WHERE stars = 1") == [(3,)]


def test_lists_are_widened_with_the_numbers_in_them(job, query):
    for kind, partition in ((pa.float32(), "a"), (pa.float64(), "b"), (pa.float32(), "c")):
        table = pa.table({"review_id": ["x"], "body": ["good"], "stars": pa.array([[1.5, 2.5]], pa.list_(kind))})
        run(job(table), partition)
    assert _types(query, "review_sentiment")["stars"] == "DOUBLE[]"
    assert query("SELECT count(*) FROM review_sentiment WHERE stars = [1.5, 2.5]") == [(3,)]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (pa.int64(), pa.float64()),
        (pa.int64(), pa.string()),
        (pa.string(), pa.int64()),
        (pa.date32(), pa.timestamp("us")),
    ],
    ids=str,
)
def test_other_changes_of_a_type_are_refused_before_scoring(job, query, tmp_path, first, then):
    tables = [
        pa.table(
            {
                "review_id": ["x"],
                "body": [text],
                "stars": pa.array([1], pa.int32()).cast(kind)
                if kind != pa.timestamp("us")
                else pa.array([dt.datetime(2026, 1, 1)]),
            }
        )
        for kind, text in ((first, "good"), (then, "new text"))
    ]
    run(job(tables[0]), "a")
    with pytest.raises(SchemaError, match=r"(?s)'stars'.*ALTER TABLE"):
        run(job(tables[1]), "b")
    assert query("SELECT count(*) FROM windrow_runs") == [(1,)]
    assert len(list((tmp_path / "store" / "predictions").rglob("*.parquet"))) == 1


def test_the_statement_that_a_refusal_gives_does_fix_it(job, query):
    run(job(pa.table({"review_id": ["x"], "body": ["good"], "stars": [1]})), "a")
    other = pa.table({"review_id": ["y"], "body": ["good"], "stars": ["many"]})
    with pytest.raises(SchemaError) as raised:
        run(job(other), "b")
    query(raised.value.fix[raised.value.fix.index("ALTER TABLE") :])
    assert run(job(other), "b").rows_published == 1
    assert query("SELECT stars FROM review_sentiment ORDER BY review_id") == [("1",), ("many",)]


def test_an_older_run_cannot_overwrite_a_later_one(job, query):
    old, new = load(job(), "a"), load(job(), "a")
    infer(job(), old.ref)
    publish(job(), new.ref)
    before = query("SELECT * FROM review_sentiment ORDER BY 1")
    with pytest.raises(FencedError, match="nothing was changed") as raised:
        publish(job(), old.ref)
    assert not raised.value.retryable
    with pytest.raises(FencedError):
        publish(job(warehouse={"table": '"ANALYTICS".Review_Sentiment'}), old.ref)
    assert query("SELECT * FROM review_sentiment ORDER BY 1") == before
    assert publish(job(), new.ref).run_id == new.ref.run_id
    assert query("SELECT count(*) FROM windrow_runs") == [(1,)]


def test_a_publish_that_fails_at_any_statement_changes_nothing(job, query, monkeypatch):
    run(job(), "a")
    before = [query(f"SELECT * FROM {table} ORDER BY ALL") for table in ("review_sentiment", "windrow_runs")]
    manifest = load(job(pa.table({"review_id": ["x"], "body": ["good"], "stars": pa.array([1], pa.int8())})), "a")
    infer(job(), manifest.ref)
    whole = windrow.publish._replacement

    def breaking(part):
        def cut():
            yield pa.record_batch({"review_id": ["x"]})
            raise RuntimeError("the stream breaks off")

        def replacement(*args):
            new = whole(*args)
            reader = pa.RecordBatchReader.from_batches(pa.schema([("review_id", pa.string())]), cut())
            return dataclasses.replace(new, **{part: lambda: reader})

        return replacement

    for part in ("rows", "reject_rows"):
        monkeypatch.setattr(windrow.publish, "_replacement", breaking(part))
        with pytest.raises((RuntimeError, WarehouseError)):
            publish(job(), manifest.ref)
        after = [query(f"SELECT * FROM {table} ORDER BY ALL") for table in ("review_sentiment", "windrow_runs")]
        assert after == before


def test_a_reader_leaves_a_missing_warehouse_missing(tmp_path):
    path = tmp_path / "none.duckdb"
    with DuckDBWarehouse(f"duckdb:///{path}", TableName(None, "t"), writes=False) as warehouse:
        statements = warehouse.plan(pa.schema([("a", pa.int64())]), pa.schema([("a", pa.int64())]))
    assert [statement.split(" (")[0].split()[0] for statement in statements] == ["CREATE"] * 3
    assert not path.exists()


@pytest.mark.parametrize(
    "file", ["analytics.duckdb", "main.duckdb", "temp.duckdb", "v2.1.duckdb", "o'neil {x}.duckdb", "no ending"]
)
def test_a_file_may_have_any_name_even_the_schemas(job, tmp_path, file):
    url = {"url": f"duckdb:///{tmp_path}/{file}"}
    for _ in range(2):
        assert run(job(warehouse=url)).rows_published == 5
    with duckdb.connect(str(tmp_path / file)) as con:
        tables = con.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'analytics'"
        ).fetchall()
    assert tables == [(3,)]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_query_over_the_warehouse_itself_is_a_source(job, query, tmp_path):
    run(job())
    url = f"duckdb:///{tmp_path}/warehouse.duckdb"
    rows = "SELECT review_id, label AS body, stars FROM analytics.review_sentiment"
    again = job(source={"path": None, "query": rows, "url": url}, warehouse={"table": "analytics.second"})
    assert run(again).rows_published == 5
    assert query("SELECT count(*) FROM second JOIN review_sentiment USING (review_id, stars)") == [(5,)]


@pytest.mark.parametrize(
    ("table", "asked", "found"),
    [
        ("INTEGER", "BIGINT", "BIGINT"),
        ("HUGEINT", "UBIGINT", "HUGEINT"),
        ("DECIMAL(38,0)", "DECIMAL(10,10)", None),
        ("DOUBLE", "INTEGER", None),
        ("VARCHAR", "BLOB", None),
        ("FLOAT[]", "DOUBLE[]", "DOUBLE[]"),
        ("BIGINT[][]", "INTEGER[][]", "BIGINT[][]"),
        ("FLOAT[]", "VARCHAR[]", None),
        ("FLOAT[]", "FLOAT", None),
    ],
)
def test_types_are_widened_as_the_table_says(table, asked, found):
    assert widened(table, asked) == found
    assert found is None or (can_hold(found, table) and can_hold(found, asked))
