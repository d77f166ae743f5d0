"""Every format and kind of source gives the same rows, in bounded record batches, with only the columns asked for."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from datetime import date
from decimal import Decimal
from pathlib import Path

import duckdb
import fsspec
import pyarrow as pa
import pytest
from pyarrow import csv, feather, ipc, parquet

from conftest import merged
from postgres_server import shared
from windrow.errors import SourceError, WarehouseError
from windrow.job import Job
from windrow.sources import open_source, sql
from windrow.sources.base import BATCH_ROWS

ROWS = [
    {"id": 1, "body": "good, film", "stars": 5},
    {"id": 2, "body": 'two\nlines and a "quote"', "stars": 1},
    {"id": 3, "body": "naïve 文 🙂", "stars": None},
]
TABLE = pa.Table.from_pylist(ROWS)


@pytest.fixture
def read(job_fields):
    """Open a source and return its rows, columns in the order key, keep, text."""

    def run(partition=None, **source):
        fields = merged(job_fields, {"source": {"path": None, "key": "id", **source}})
        job = Job(**fields)
        opened = open_source(job, partition)
        batches = list(opened.batches(job.source.columns))
        assert all(batch.schema.names == list(job.source.columns) for batch in batches)
        assert all(batch.num_rows <= BATCH_ROWS for batch in batches)
        return pa.Table.from_batches(batches).to_pylist() if batches else []

    return run


def _written(path: Path) -> None:
    """Write `TABLE` in the format of the ending."""
    name = path.name
    if name.startswith("stream"):
        with ipc.new_stream(str(path), TABLE.schema) as writer:
            writer.write_table(TABLE)
    elif name.endswith((".parquet", ".pq")):
        parquet.write_table(TABLE, path)
    elif name.endswith((".arrow", ".ipc", ".feather")):
        feather.write_feather(TABLE, str(path), compression="zstd" if name.endswith(".feather") else "uncompressed")
    else:
        path.write_bytes(_packed(name, _text(name)))


def _text(name: str) -> bytes:
    if ".json" in name or ".ndjson" in name:
        import json

        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    sink = pa.BufferOutputStream()
    csv.write_csv(TABLE, sink, csv.WriteOptions(delimiter="\t" if ".tsv" in name else ","))
    text = sink.getvalue().to_pybytes()
    text = b"\xef\xbb\xbf" + text if name.startswith("bom") else text
    return text.replace(b"\n", b"\r\n") if name.startswith("crlf") else text


def _packed(name: str, text: bytes) -> bytes:
    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    return packers.get(Path(name).suffix, bytes)(text)


@pytest.mark.parametrize(
    "name",
    [
        *("rows.parquet", "rows.pq", "rows.arrow", "stream.arrow", "rows.ipc", "rows.feather"),
        *("rows.csv", "bom.csv", "rows.tsv", "rows.csv.gz", "rows.csv.bz2", "rows.tsv.xz"),
        *("rows.jsonl", "rows.ndjson", "rows.json", "rows.jsonl.gz", "odd[1]*.csv", "ROWS.CSV"),
    ],
)
def test_every_format_gives_the_same_rows(read, tmp_path, name):
    _written(tmp_path / name)
    found = read(path=str(tmp_path / name))
    assert sorted(found, key=lambda row: row["id"]) == [
        {name: row[name] for name in ("id", "stars", "body")} for row in ROWS
    ]


def test_carriage_returns_end_lines_too(read, tmp_path):
    _written(tmp_path / "crlf.csv")
    assert [row["stars"] for row in read(path=str(tmp_path / "crlf.csv"))] == [5, 1, None]


def test_long_files_come_in_bounded_batches_and_in_their_order(read, tmp_path):
    rows = 3 * BATCH_ROWS + 5
    table = pa.table({"id": range(rows), "stars": [1] * rows, "body": [f"text {i}" for i in range(rows)]})
    for ending, write in {"parquet": parquet.write_table, "arrow": feather.write_feather}.items():
        write(table, str(tmp_path / f"long.{ending}"))
        assert [row["id"] for row in read(path=str(tmp_path / f"long.{ending}"))] == list(range(rows))


def test_batches_hold_fewer_rows_where_rows_are_long(tmp_path):
    from windrow.sources.files import FileSource

    path = tmp_path / "long.parquet"
    parquet.write_table(pa.table({"id": range(400), "body": [os.urandom(50_000).hex() for _ in range(400)]}), path)
    sizes = [batch.nbytes for batch in FileSource(str(path)).batches(["id", "body"])]
    assert len(sizes) > 1
    assert max(sizes) < 64 << 20


@pytest.mark.parametrize("text", ["x" * 2_000_000, "y\n" * 2_900_000])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_rows_longer_than_a_block_are_read_whole(read, tmp_path, text, ending):
    import json

    rows = [
        {"id": 1, "stars": 1, "body": "first"},
        {"id": 2, "stars": 2, "body": text},
        {"id": 3, "stars": 3, "body": "last"},
    ]
    path = tmp_path / f"big.{ending}"
    if ending == "csv":
        csv.write_csv(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read(path=str(path)) == rows


def test_a_glob_reads_its_files_by_name_and_fits_their_types(read, tmp_path):
    parts = [
        pa.table({"id": pa.array([1], pa.int32()), "stars": pa.nulls(1), "body": ["a"]}),
        pa.table(
            {"body": pa.array(["b"]).dictionary_encode(), "id": pa.array([2**40]), "stars": pa.array([1], pa.int8())}
        ),
        pa.table(
            {"id": pa.array([3], pa.int64()), "stars": pa.array([2.5]), "body": pa.array(["c"], pa.large_string())}
        ),
    ]
    for number, part in enumerate(parts):
        parquet.write_table(part, tmp_path / f"part-{number}.parquet")
    found = read(path=str(tmp_path / "part-*.parquet"))
    assert found == [
        {"id": 1, "stars": None, "body": "a"},
        {"id": 2**40, "stars": 1.0, "body": "b"},
        {"id": 3, "stars": 2.5, "body": "c"},
    ]


def test_a_glob_mixes_formats_and_skips_empty_files(read, tmp_path):
    _written(tmp_path / "day-1.csv")
    (tmp_path / "day-2.csv").touch()
    _written(tmp_path / "day-3.parquet")
    assert [row["id"] for row in read(path=str(tmp_path / "day-*"))] == [1, 2, 3, 1, 2, 3]


def test_files_whose_types_cannot_be_reconciled_are_refused_by_name(read, tmp_path):
    (tmp_path / "a.csv").write_text("id,stars,body\n1,5,x\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("id,stars,body\n1,five,x\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"b\.csv.*other column types"):
        read(path=str(tmp_path / "?.csv"))
    assert len(read(path=str(tmp_path / "?.csv"), types={"stars": "string"})) == 2


def test_a_file_of_a_glob_that_lacks_a_column_is_named(read, tmp_path):
    _written(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("id,body\n1,x\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"Column 'stars' is not in file .*b\.csv"):
        read(path=str(tmp_path / "?.csv"))


def test_texts_of_a_csv_are_text_even_where_they_look_like_numbers(read, tmp_path):
    (tmp_path / "n.csv").write_text("id,stars,body\n1,,12\n2,3,\n3,NA,NA\n", encoding="utf-8")
    found = read(path=str(tmp_path / "n.csv"))
    assert [(row["stars"], row["body"]) for row in found] == [(None, "12"), (3, ""), (None, "NA")]


def test_any_fsspec_url_is_a_source(read):
    with fsspec.open("memory://windrow-sources/rows.csv.gz", "wb") as file:
        file.write(gzip.compress(_text("rows.csv")))
    assert [row["id"] for row in read(path="memory://windrow-sources/*.csv.gz")] == [1, 2, 3]
    assert [row["id"] for row in read(path="memory://windrow-sources/rows.csv.gz")] == [1, 2, 3]


def test_a_partition_stands_in_a_path(read, tmp_path):
    (tmp_path / "2026-11-23").mkdir()
    _written(tmp_path / "2026-11-23" / "rows.csv")
    place = f"{tmp_path}/{{partition}}/rows.csv"
    assert len(read("2026-11-23", path=place)) == 3
    with pytest.raises(SourceError, match="does not exist"):
        read("2026-11-24", path=place)


def test_the_bundled_samples_repeat_every_week(read):
    source = {"key": "review_id", "keep": None}
    week = [
        len(read(f"2026-11-{day}", path="windrow://reviews/{partition}.parquet", **source)) for day in range(23, 30)
    ]
    assert all(week)
    assert len(read(None, path="windrow://reviews/*.parquet", **source)) == sum(week)


@pytest.fixture
def database(tmp_path):
    """A DuckDB file with a table `reviews`."""
    path = tmp_path / "source.duckdb"
    with duckdb.connect(str(path)) as con:
        con.execute("CREATE TABLE reviews (id INT, body VARCHAR, stars DECIMAL(4, 2), day VARCHAR)")
        con.execute("INSERT INTO reviews VALUES (1, 'good', 4.5, '2026-11-23'), (2, 'bad', NULL, 'O''Neil')")
    return f"duckdb:///{path}"


@pytest.mark.parametrize(
    "query", ["SELECT * FROM reviews", "FROM reviews -- all of them", "FROM reviews;", "FROM reviews ; \n"]
)
def test_a_duckdb_query_is_a_source(read, database, query):
    assert read(url=database, query=query)[0] == {"id": 1, "stars": Decimal("4.50"), "body": "good"}


@pytest.mark.parametrize("where", ["day = {partition}", "day = '{partition}'"])
def test_a_partition_stands_in_a_query_as_a_literal(read, database, where):
    query = f"SELECT * FROM reviews WHERE {where}"
    assert [row["id"] for row in read("2026-11-23", url=database, query=query)] == [1]
    assert [row["id"] for row in read("O'Neil", url=database, query=query)] == [2]
    assert read("x' OR 1 = 1 --", url=database, query=query) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT 1 AS id", "Column 'stars' is not in the query"),
        ("SELEC 1", "The query failed"),
        (
            "SELECT id, 'x' AS body, IF(id > 50000, error('late'), 1) AS stars FROM range(90000) t(id)",
            "late",
        ),
    ],
)
def test_a_query_that_fails_says_why(read, database, query, words):
    with pytest.raises(SourceError, match=words):
        read(url=database, query=query)


class Stopped:
    """A connection whose first rows end as DuckDB's sometimes do, where another thread has failed."""

    def __init__(self, con):
        self.con, self.reads = con, 0

    def __getattr__(self, name):
        return getattr(self.con, name)

    def execute(self, statement):
        self.reads += "LIMIT 0" not in statement and "SET" not in statement
        if self.reads != 1:
            self.con.execute(statement)
        return self

    def to_arrow_reader(self, rows):
        if self.reads == 1:  # nothing was run
            raise OSError("INTERRUPT Error: Interrupted!")
        return self.con.to_arrow_reader(rows)


@pytest.mark.parametrize(
    ("query", "words"),
    [("SELECT IF(id > 5, error('late'), id) AS id FROM range(9) t(id)", "late"), ("SELECT 1 AS id", "Interrupted")],
)
def test_a_query_whose_threads_stop_each_other_says_why_the_first_did(monkeypatch, query, words):
    monkeypatch.setattr(sql, "connect_patiently", lambda *_: Stopped(duckdb.connect()))
    with pytest.raises(SourceError, match=words):
        list(sql.DuckDBQuery(query, "").batches(["id"]))


def test_a_database_that_is_missing_or_of_no_known_kind_is_refused(read, tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        read(url=f"duckdb:///{tmp_path}/none.duckdb", query="SELECT 1")
    with pytest.raises(SourceError, match="did you mean 'postgresql'"):
        read(url="postgresq://x", query="SELECT 1")


@pytest.fixture(scope="session")
def postgres():
    """The url of a PostgreSQL server of the tests' own."""
    return shared().url


def test_a_postgresql_query_is_a_source(read, postgres):
    query = """SELECT n AS id, 'text ' || n AS body, n * 2 AS stars
        FROM generate_series(1, 20000) n WHERE '{partition}' = 'O''Neil'"""
    found = read("O'Neil", url=postgres, query=query)
    assert (len(found), found[-1]) == (20_000, {"id": 20_000, "stars": 40_000, "body": "text 20000"})


def test_postgresql_types_are_carried(read, postgres):
    query = """SELECT 1 AS id, 'x' AS body, 2.50::numeric(10, 2) AS exact, 12345678901234567890.5::numeric AS bare,
        '{"a": 1}'::jsonb AS doc, ARRAY[1, 2] AS many, date '2026-01-01' AS day, NULL::numeric(4, 1) AS none"""
    row = read(url=postgres, query=query, keep=["exact", "bare", "doc", "many", "day", "none"])[0]
    assert row["exact"] == Decimal("2.50")
    assert row["bare"] == "12345678901234567890.5"
    assert (row["doc"], row["many"], row["day"], row["none"]) == ('{"a": 1}', [1, 2], date(2026, 1, 1), None)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT 1 AS id, 'x' AS body, '1.2.3.4'::inet AS stars", "type inet.*\n.*::text"),
        ("SELECT 1 AS id, 'x' AS body, 1 / (n - 9000) AS stars FROM generate_series(1, 10000) n", "division by zero"),
        ("SELECT nope", 'column "nope" does not exist'),
        ("SELECT 1; DROP TABLE x", "syntax error"),
    ],
)
def test_a_postgresql_query_that_fails_says_why(read, postgres, query, words):
    with pytest.raises(SourceError, match=words):
        read(url=postgres, query=query)


def test_a_server_that_is_not_there_may_come_back_and_no_password_is_shown(read):
    with pytest.raises(WarehouseError, match="cannot be reached") as raised:
        read(url="postgresql://ann:s3cret@127.0.0.1:1/x", query="SELECT 1")
    assert "s3cret" not in str(raised.value)
    assert raised.value.retryable
