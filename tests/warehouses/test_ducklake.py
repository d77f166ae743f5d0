"""What is DuckLake's own: publishers that meet in a conflict, catalogs of three kinds, fewer types, history dropped."""

from __future__ import annotations

import dataclasses
import datetime as dt
import os
import re
import signal
import subprocess
import sys
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import REPOSITORY, merged
from postgres_server import shared
from warehouses.places import DuckLakePlace
from warehouses.test_contract import TABLE, held, ids, new, publish
from windrow import Job, run
from windrow.errors import FencedError, JobError, SchemaError, WarehouseError
from windrow.history import explain_row
from windrow.warehouses import ducklake, open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.ducklake import DuckLakeWarehouse

ROWS = {"id": ["a", "b", "c", "d"], "label": ["x"] * 4}
KILLED = """
import os, signal, sys
import pyarrow as pa
sys.path[:0] = sys.argv[2:]
from warehouses.test_contract import TABLE, new
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName
import dataclasses
asked = new({"id": ["z"] * 5000, "label": ["new"] * 5000}, "p1", "run-2")
def rows():
    reader = asked.rows()
    def batches():
        for number, batch in enumerate(reader):
            if number == 2400:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch
    return pa.RecordBatchReader.from_batches(reader.schema, batches())
with open_url(sys.argv[1], TableName.parse(TABLE)) as warehouse:
    warehouse.replace(dataclasses.replace(asked, rows=rows))
"""


@pytest.fixture
def place(tmp_path):
    return DuckLakePlace(tmp_path)


@pytest.fixture
def shared_lake(place, monkeypatch):
    """Let all connections of this process be of one DuckDB, so that they meet in the lake and not at its file."""
    with DuckLakeWarehouse(place.url, TableName.parse(TABLE)) as lake:

        def connect(_):
            con = lake.con.cursor()
            con.execute("USE lake")
            return con

        monkeypatch.setattr(DuckLakeWarehouse, "connect", connect)
        yield place


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog(request, tmp_path):
    """A lake whose catalog many processes may use at once."""
    if request.param == "sqlite":
        pytest.importorskip("duckdb_extension_sqlite_scanner")
        return DuckLakePlace(tmp_path, "+sqlite", f"/{tmp_path / 'catalog.sqlite'}")
    pytest.importorskip("duckdb_extension_postgres_scanner")
    server = shared()
    return DuckLakePlace(tmp_path, "+postgresql", server.at(server.database()).partition("://")[2])


def meanwhile(replacement, work):
    """Let `work` be done when the rows of a replacement are halfway, the first time they are read."""
    waiting = [work]

    def rows():
        reader = replacement.rows()

        def batches():
            yield reader.read_next_batch()
            if waiting:
                waiting.pop()()
            yield from reader

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    return dataclasses.replace(replacement, rows=rows)


def replaced(place, replacement):
    with open_url(place.url, TableName.parse(TABLE)) as warehouse:
        return warehouse.replace(replacement)


@pytest.mark.parametrize("partition", ["p1", "p2"])
@pytest.mark.parametrize("earlier", [False, True])
def test_of_two_publishers_at_once_the_second_begins_again(shared_lake, partition, earlier):
    if earlier:
        publish(shared_lake, ROWS, "p1", "run-0")
    other = {"id": ["e"], "label": ["other"]}
    late = meanwhile(new(ROWS, "p1", "run-2", ["r"]), lambda: publish(shared_lake, other, partition, "run-1", ["q"]))
    replaced(shared_lake, late)
    assert ids(shared_lake) == (["a", "b", "c", "d"] if partition == "p1" else ["a", "b", "c", "d", "e"])
    assert ids(shared_lake, "reviews__rejects") == (["r"] if partition == "p1" else ["q", "r"])
    runs = ["run-0", "run-1", "run-2"][not earlier :]
    assert sorted(shared_lake.rows("windrow_runs")["run_id"].to_pylist()) == runs


@pytest.mark.parametrize("mode", ["replace", "upsert", "append"])
def test_a_run_that_its_successor_overtakes_changes_nothing(shared_lake, mode):
    other = {"id": ["e"], "label": ["later"]}
    late = meanwhile(new(ROWS, "p1", "run-1", ["r"], mode=mode), lambda: publish(shared_lake, other, "p1", "run-2"))
    with pytest.raises(FencedError, match="run-2"):
        replaced(shared_lake, late)
    assert held(shared_lake) == {"e": ("later", "p1")}
    assert ids(shared_lake, "reviews__rejects") == []


def test_a_reader_sees_the_old_rows_until_the_new_ones_are_whole(shared_lake):
    publish(shared_lake, ROWS, "p1", "run-1", ["r"])
    seen = []

    def look():
        seen.append((ids(shared_lake), ids(shared_lake, "reviews__rejects")))

    replaced(shared_lake, meanwhile(new({"id": ["e", "f", "g"], "label": ["y"] * 3}, "p1", "run-2"), look))
    assert seen == [(["a", "b", "c", "d"], ["r"])]
    assert ids(shared_lake) == ["e", "f", "g"]


def test_who_is_always_second_is_told_so(shared_lake, monkeypatch):
    monkeypatch.setenv("WINDROW_LOCK_WAIT_S", "0")
    late = meanwhile(new(ROWS, "p1", "run-2"), lambda: publish(shared_lake, ROWS, "p2", "run-1"))
    with pytest.raises(WarehouseError, match="written by others"):
        replaced(shared_lake, late)


def test_a_killed_publisher_leaves_the_old_rows(place):
    publish(place, ROWS, "p1", "run-1", ["r"])
    before = place.rows("reviews").to_pylist()
    roots = [str(REPOSITORY / "operators"), str(REPOSITORY / "tests")]
    command = [sys.executable, "-c", KILLED, place.url, *roots]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert place.rows("reviews").to_pylist() == before
    publish(place, {"id": ["z"], "label": ["new"]}, "p1", "run-2")
    assert (ids(place), ids(place, "reviews__rejects")) == (["z"], [])


def test_a_whole_run_is_published_explained_and_published_again(home, tmp_path, job_fields, place):
    fields = merged(job_fields, {"warehouse": {"url": "ducklake:///lakes/my.ducklake?data=lakes/files"}})
    job = Job(**fields, folder=str(tmp_path))
    first = run(job, "2026-11-23")
    again = run(job, "2026-11-23")
    assert (first.rows_published, again.rows_published, again.texts_scored) == (5, 5, 0)
    assert explain_row(job, ["r3"])["rows"][0]["windrow_run_id"] == again.run_id
    assert (tmp_path / "lakes" / "my.ducklake").exists()
    with DuckLakeWarehouse(f"ducklake:///{tmp_path}/lakes/my.ducklake", TableName.parse(TABLE), writes=False) as lake:
        query = "SELECT value FROM __ducklake_metadata_lake.ducklake_metadata WHERE key = 'data_path'"
        assert lake.con.execute(query).fetchall() == [(f"{tmp_path}/lakes/files/",)]


def test_kept_columns_of_every_type_arrive_unchanged(home, tmp_path, job_fields, place):
    moment = dt.datetime(2026, 11, 23, 1, 2, 3, 456789)
    columns = {
        "exact": pa.array([Decimal("12345678901234567890.12"), None], pa.decimal128(38, 2)),
        "parts": pa.array(
            [[{"name": "a", "n": 1}, {"name": None, "n": 2}], None],
            pa.list_(pa.struct([("name", pa.string()), ("n", pa.int64())])),
        ),
        "zoned": pa.array([moment, None], pa.timestamp("us", tz="UTC")),
        "nanos": pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns")),
        "raw": pa.array([b"\x00\xff", b""], pa.binary()),
        "huge": pa.array([2**64 - 1, 0], pa.uint64()),
        "clock": pa.array([dt.time(23, 59, 59, 999999), None], pa.time64("us")),
        "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
        "fixed": pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)),
        "nothing": pa.nulls(2, pa.string()),
    }
    table = pa.table({"review_id": ["r0", "r1"], "body": ["good", "bad"], **columns})
    parquet.write_table(table, tmp_path / "table.parquet")
    source = {"path": str(tmp_path / "table.parquet"), "keep": list(columns)}
    run(Job(**merged(job_fields, {"source": source, "warehouse": {"url": place.url}})))
    found = place.rows("review_sentiment").sort_by("review_id").select(list(columns))
    for name, values in columns.items():
        assert found[name].cast(values.type).to_pylist() == values.to_pylist(), name


def test_a_column_without_values_takes_any_type_and_one_with_values_is_refused(place):
    publish(place, {"id": ["a"], "value": pa.array([None], pa.null())}, "p1", "run-1")
    publish(place, {"id": ["b"], "value": [7]}, "p2", "run-2")
    assert sorted(place.rows("reviews")["value"].to_pylist(), key=str) == [7, None]
    with pytest.raises(SchemaError, match=r"(?s)'value'.*only widen"):
        publish(place, {"id": ["c"], "value": ["seven"]}, "p3", "run-3")


def test_a_type_that_a_lake_writes_as_a_float_is_refused_by_name(place):
    publish(place, {"id": ["a"], "value": [7]}, "p1", "run-1")
    with DuckLakeWarehouse(place.url, TableName.parse(TABLE)) as lake:
        lake.con.execute(f"ALTER TABLE {lake.sql['table']} ALTER COLUMN value TYPE HUGEINT")
    with pytest.raises(SchemaError, match="'value' is HUGEINT"):
        publish(place, {"id": ["b"], "value": [2**62 + 1]}, "p2", "run-2")


def test_forgotten_rows_are_in_no_file_and_no_snapshot(place):
    rows = {"id": [f"k{i}" for i in range(50)], "label": [f"SECRET{i}END" for i in range(50)]}
    publish(place, rows, "p1", "run-1", ["k1", "k2"])
    publish(place, {"id": ["k1"], "label": ["SECRET1END"]}, "p2", "run-2")
    with open_url(place.url, TableName.parse(TABLE)) as lake:
        assert lake.forget(pa.table({"id": ["k1"]})) == {"table": 2, "rejects": 1}
        assert lake.con.execute("SELECT count(*) FROM lake.snapshots()").fetchall() == [(1,)]
    left = [row for file in place.folder.rglob("*.parquet") for row in parquet.read_table(file).to_pylist()]
    assert any("k2" in row.values() for row in left)
    assert not any({"k1", "SECRET1END"} & set(map(str, row.values())) for row in left)
    assert "k1" not in ids(place)


def test_catalogs_that_are_shared_do_the_same(catalog):
    publish(catalog, ROWS, "p1", "run-1", ["r"])
    late = new({"id": ["e"] * 3, "label": ["y"] * 3}, "p1", "run-3")
    if "sqlite" in catalog.url:  # its writers wait for each other instead
        publish(catalog, ROWS, "p1", "run-2")
    else:
        late = meanwhile(late, lambda: publish(catalog, ROWS, "p1", "run-2"))
    replaced(catalog, late)
    assert (ids(catalog), ids(catalog, "reviews__rejects")) == (["e"] * 3, [])
    publish(catalog, {"id": ["f"], "label": ["z"]}, "p2", "run-4", mode="upsert")
    with open_url(catalog.url, TableName.parse(TABLE)) as lake:
        assert lake.forget(pa.table({"id": ["e"]})) == {"table": 3, "rejects": 0}
    assert held(catalog) == {"f": ("z", "p2")}


def test_processes_publish_into_one_lake_at_once(catalog, write_job, home, tmp_path):
    job = write_job(warehouse={"url": catalog.url})
    environment = {**os.environ, "WINDROW_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    main = "from windrow.cli import main; main()"
    commands = [[sys.executable, "-c", main, "run", str(job), "--partition", day] for day in ("a", "b", "b")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, env=environment) for command in commands]
    told = [process.communicate(timeout=200)[1].decode() for process in running]
    assert running[0].returncode == 0, told
    assert 0 in {running[1].returncode, running[2].returncode}, told
    found = catalog.rows("review_sentiment")
    assert sorted(found["windrow_partition"].to_pylist()) == ["a"] * 5 + ["b"] * 5
    assert len(set(found["windrow_run_id"].to_pylist())) == 2


def test_a_lake_whose_file_another_process_holds_says_so(place, monkeypatch):
    publish(place, ROWS)
    monkeypatch.setenv("WINDROW_LOCK_WAIT_S", "0.2")
    file = re.search(r"///(/.*)\?", place.url)[1]
    code = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, file]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WarehouseError, match="written by others"):
            publish(place, ROWS)
        process.communicate()


@pytest.mark.parametrize(
    "url",
    ["ducklake:", "ducklake:///", "ducklake+mysql://host/db", "ducklake:///c.ducklake?dta=x", "ducklake+sqlite://x"],
)
def test_a_url_that_names_no_catalog_is_refused(url):
    with pytest.raises(JobError, match="names no DuckLake catalog"):
        open_url(url, TableName.parse(TABLE))


def test_a_file_that_is_no_catalog_or_has_other_files_is_refused(place, tmp_path):
    publish(place, ROWS)
    with pytest.raises(JobError, match="files elsewhere"), open_url(f"{place.url}2", TableName.parse(TABLE)):
        pass
    (tmp_path / "text").write_text("no database" * 100, encoding="utf-8")
    with pytest.raises(JobError, match="no catalog"), open_url(f"ducklake://{tmp_path}/text", TableName.parse(TABLE)):
        pass
    with pytest.raises(WarehouseError, match="cannot be written"):
        open_url(f"ducklake://{tmp_path}/text/under.ducklake", TableName.parse(TABLE)).__enter__()


@pytest.mark.parametrize(
    ("address", "kind", "words"),
    [
        ("checked:wr0ng@/{database}?host={folder}", JobError, "authentication failed"),
        ("windrow:wr0ng@/missing?host={folder}", JobError, "does not exist"),
        ("windrow:wr0ng@127.0.0.1:1/db", WarehouseError, "cannot be reached"),
    ],
)
def test_a_catalog_that_refuses_is_told_without_its_password(tmp_path, address, kind, words):
    pytest.importorskip("duckdb_extension_postgres_scanner")
    server = shared()
    full = address.format(database=server.database(), folder=server.folder)
    url = f"ducklake+postgresql://{full}{'&' if '?' in full else '?'}data={tmp_path}"
    with pytest.raises(kind, match=words) as raised:
        open_url(url, TableName.parse(TABLE)).__enter__()
    assert "wr0ng" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


def test_a_lake_that_is_to_be_made_needs_a_folder(tmp_path):
    pytest.importorskip("duckdb_extension_sqlite_scanner")
    with pytest.raises(JobError, match="no lake") as raised:
        open_url(f"ducklake+sqlite://{tmp_path}/c.sqlite", TableName.parse(TABLE)).__enter__()
    assert "?data=" in raised.value.fix


def test_without_the_extension_the_wheel_is_named(place, monkeypatch):
    monkeypatch.setattr("windrow.duck_extensions.find_spec", lambda _: None)
    monkeypatch.setattr("windrow.warehouses.ducklake._CONFIG", {"extension_directory": str(place.folder)})
    with pytest.raises(JobError, match="cannot be loaded") as raised:
        open_url(place.url, TableName.parse(TABLE)).__enter__()
    assert f"duckdb-extension-ducklake=={duckdb.__version__}" in raised.value.fix


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ('Failed to initialize DuckLake: Failed to execute query "CREATE TABLE x": database is locked', True),
        ('Failed to initialize DuckLake: table "ducklake_metadata" already exists', True),
        ("Could not set lock on file", True),
        ("Failed to initialize DuckLake: disk I/O error", False),
    ],
)
def test_an_attach_waits_for_those_who_make_the_catalog_right_now(said, passes):
    assert ducklake._passes(duckdb.Error(said)) is passes


def test_a_few_doubles_keep_their_last_place(catalog):
    """DuckLake would write so few rows into its catalog as decimals, and read 0.9999899864196776."""
    publish(catalog, {"id": ["a"], "share": [0.9999899864196777]}, "p1", "run-1")
    assert catalog.rows("reviews")["share"].to_pylist() == [0.9999899864196777]


def test_rows_that_an_earlier_version_left_in_the_catalog_are_read_replaced_and_forgotten(catalog, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr(ducklake, "_WHOLE_ROWS", "DATA_INLINING_ROW_LIMIT 10")
        publish(catalog, {"id": ["a", "b"], "label": ["SECRETaEND", "y"]}, "p1", "run-1")
        publish(catalog, {"id": ["c"], "label": ["z"]}, "p2", "run-2")
    assert not list(catalog.folder.rglob("*.parquet"))
    publish(catalog, {"id": ["d"], "label": ["w"]}, "p2", "run-3")
    assert ids(catalog) == ["a", "b", "d"]
    with open_url(catalog.url, TableName.parse(TABLE)) as lake:
        assert lake.forget(pa.table({"id": ["a"]})) == {"table": 1, "rejects": 0}
    assert ids(catalog) == ["b", "d"]
    files = list(catalog.folder.rglob("*.parquet"))
    assert files
    assert not any("SECRETaEND" in str(parquet.read_table(file).to_pylist()) for file in files)
    assert not any(b"SECRETaEND" in file.read_bytes() for file in catalog.folder.rglob("*.sqlite"))
