"""What goes wrong at every warehouse, through the command line: the fix, the exit code, and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import duckdb
import pyarrow as pa
import pytest

from bad_input.test_warehouse import MAIN, WITHOUT_ROOTS_POWERS
from postgres_server import shared
from warehouses.places import PLACES

TABLES = ("review_sentiment", "review_sentiment__rejects", "windrow_runs")
FOLDERS = ["ducklake", "iceberg", "delta", "parquet"]
"""Kinds that lie in a folder of their own; DuckDB's file has its tests in `test_warehouse`."""


@pytest.fixture(params=list(PLACES))
def place(request, tmp_path):
    return PLACES[request.param](tmp_path)


@pytest.fixture
def held(place, tmp_path):
    """Return what the tables hold and which texts are scored, to compare with."""

    def look():
        rows = [place.rows(name) for name in TABLES]
        told = [sorted(map(repr, table.to_pylist())) for table in rows]
        return told, sorted((tmp_path / "store" / "predictions").rglob("*.parquet"))

    return look


@pytest.fixture
def job(write_job, place, tmp_path):
    """Write a job over some rows into the place."""

    def write(rows, keep=(), table="analytics.review_sentiment", **changes):
        path = tmp_path / f"rows-{time.monotonic_ns()}.arrow"
        given = pa.table(rows)
        with pa.ipc.new_file(path, given.schema) as writer:
            writer.write_table(given)
        source = {"path": str(path), "keep": list(keep)}
        return write_job(source=source, warehouse={"url": place.url, "table": table}, **changes)

    return write


def rows(count=3, **columns):
    return {"review_id": [f"r{n}" for n in range(count)], "body": [f"good film {n}" for n in range(count)], **columns}


def test_a_column_of_another_type_is_refused_before_scoring_with_nothing_changed(call, refused, job, held):
    assert call("run", job(rows(stars=[1, 2, 3]), ["stars"])).returncode == 0
    before = held()
    texts = {**rows(stars=["one", "two", "three"]), "body": ["never", "to be", "scored"]}
    refused(call("run", job(texts, ["stars"])), 2, "'stars'")
    assert held() == before


@pytest.mark.parametrize("partition", ["it's", 'say "x"; DROP TABLE analytics.review_sentiment; --', "a/../b%'{x}"])
def test_a_partition_with_quotes_is_only_a_name(call, job, place, partition):
    for count in (3, 2):
        assert call("run", job(rows(count)), "--partition", partition).returncode == 0
    assert place.rows("review_sentiment")["windrow_partition"].to_pylist() == [partition] * 2


@pytest.mark.parametrize("name", ["select", "order", "x" * 54, "x" * 55, "x" * 63, "ü" * 40, "y" * 120])
def test_a_reserved_or_long_name_is_made_or_refused_before_scoring(call, refused, job, place, held, name):
    before, written = held(), job(rows(), table=f"analytics.{name}")
    result = call("run", written)
    if place.url.startswith("postgresql") and len(f"{name}__rejects".encode()) > 63:
        refused(result, 2, "PostgreSQL keeps 63", "choose a shorter name")
        assert held() == before
    else:
        assert result.returncode == 0, result.stderr
        assert place.rows(name).num_rows == 3
        assert call("explain", written, "--key", "r0").returncode == 0


LACKING = {
    "duckdb": pa.array([1, 2, 3], pa.duration("us")),
    "ducklake": pa.array([1, 2, 3], pa.duration("us")),
    "postgresql": pa.array([1, 2, 3]).cast(pa.decimal128(38, 0)).cast(pa.decimal256(50, 0)),
    "iceberg": pa.array([1, 2, 3], pa.uint64()),
    "delta": pa.array([1, 2, 3], pa.time64("us")),
    "parquet": pa.array([1, 2, 3], pa.time64("ns")),
}


def test_a_kept_type_that_the_warehouse_lacks_is_refused_by_name_before_scoring(call, refused, job, place, held):
    before, kind = held(), place.url.partition(":")[0].partition("+")[0]
    refused(call("run", job(rows(odd=LACKING[kind]), ["odd"])), 2, "'odd'")
    assert held() == before


def test_keys_that_repeat_numbers_that_are_none_and_texts_of_10_mb_are_told_apart(call, job, place):
    large = "".join(chr(97 + n % 26) for n in range(10_000_000))
    given = {
        "review_id": ["r0", "r1", "r0", "r2", None],
        "body": ["good film", "bad film", "again", large, "no key"],
        "number": [float("nan"), float("inf"), 1.0, 2.0, 3.0],
        "story": [large, None, "", "x", "y"],
    }
    result = call("run", job(given, ["number", "story"]), "--json")
    assert json.loads(result.stdout)["rejects"] == {"duplicate_key": 1, "null_key": 1, "too_large": 1}
    found = sorted(place.rows("review_sentiment").to_pylist(), key=lambda row: row["review_id"])
    assert [(row["review_id"], repr(row["number"]), row["story"]) for row in found] == [
        ("r0", "nan", large), ("r1", "inf", None)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "moments",
    [
        pa.array([2**62, 0, None], pa.timestamp("s")),
        pa.array([-(2**62), 0, None], pa.timestamp("us")),
        pa.array([2**62, 0, None], pa.timestamp("ms", tz="UTC")),
        pa.array([2**31 - 1, 0, None], pa.date32()),
    ],
    ids=["seconds", "early", "zoned", "day"],
)
def test_moments_out_of_range_arrive_unchanged_or_are_refused_by_name(call, refused, job, place, held, moments):
    before, written = held()[0], job(rows(moment=moments), ["moment"])
    result = call("run", written)
    if result.returncode == 0:
        table = place.rows("review_sentiment").sort_by("review_id")
        kind = pa.int32() if pa.types.is_date(moments.type) else pa.int64()
        found = table["moment"].combine_chunks()
        assert found.cast(moments.type).cast(kind).to_pylist() == moments.cast(kind).to_pylist()
    else:
        refused(result, 2, "moment")
        assert [table for table in held()[0] if table] == [table for table in before if table]


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_that_may_not_be_written_is_named_and_nothing_is_scored(refused, write_job, tmp_path, home, kind):
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    place = PLACES[kind](sealed)
    sealed.chmod(0o555)
    job = write_job(warehouse={"url": place.url})
    prefix = WITHOUT_ROOTS_POWERS if os.geteuid() == 0 else []
    if prefix and not shutil.which(prefix[0]):
        pytest.skip("setpriv is not here, and root may write anywhere")
    command = [*prefix, sys.executable, "-c", MAIN, "run", str(job)]
    environment = {**os.environ, "WINDROW_HOME": str(home)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    refused(result, 1, str(sealed), "permission")
    assert not list(sealed.iterdir())
    assert not list(tmp_path.glob("store/predictions/*"))


@pytest.mark.parametrize("kind", ["postgresql", "ducklake"])
def test_a_view_is_refused_and_stays(call, refused, write_job, tmp_path, kind):
    place = PLACES[kind](tmp_path)
    assert call("run", write_job(warehouse={"url": place.url, "table": "analytics.first"})).returncode == 0
    made = "CREATE VIEW {}analytics.review_sentiment AS SELECT 1 AS windrow_partition"
    if kind == "postgresql":
        place.server.run(made.format(""), place.database)
    else:
        from windrow.warehouses import TableName, open_url

        with open_url(place.url, TableName("analytics", "first")) as lake:
            lake.con.execute(made.format("lake."))
    refused(call("run", write_job(warehouse={"url": place.url})), 2, "is a view")


NOBODY = "127.0.0.1:9"
"""The discard port, where nobody listens."""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://ann:s3cret@{NOBODY}/db", "cannot be reached"),
        (f"ducklake+postgresql://ann:s3cret@{NOBODY}/db?data=/tmp/lake", "cannot be reached"),
        (f"iceberg+rest+http://ann:s3cret@{NOBODY}/catalog", "does not answer"),
        (f"iceberg+sql+postgresql+psycopg://ann:s3cret@{NOBODY}/db", "Iceberg"),
        (f"delta+s3://bucket/lake?endpoint=http://{NOBODY}&access_key_id=me&secret_access_key=s3cret"
         "&allow_http=true&region=x", "Delta Lake"),
    ],
    ids=lambda value: value.partition(":")[0] if "://" in value else "",
)  # fmt: skip
def test_a_host_that_nobody_listens_at_is_told_in_seconds_without_the_secret(call, refused, write_job, url, words):
    began = time.monotonic()
    result = call("run", write_job(warehouse={"url": url}))
    refused(result, 1, words)
    assert "s3cret" not in result.stderr
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("scheme", ["postgresql", "ducklake+postgresql"])
def test_a_wrong_password_fails_at_once_and_is_not_shown(call, refused, write_job, tmp_path, scheme):
    server = shared()
    url = server.at(server.database(), "checked:wr0ng").replace("postgresql", scheme, 1) + f"&data={tmp_path}/lake"
    if scheme == "postgresql":
        url = url.partition("&data=")[0]
    result = call("run", write_job(warehouse={"url": url}))
    refused(result, 2, "refuses the connection", "password")
    assert "wr0ng" not in result.stderr


def test_a_role_without_rights_is_told_which_to_grant_and_nothing_is_scored(call, refused, write_job, tmp_path):
    server = shared()
    url = server.at(server.database(), "checked:s3cret")
    result = call("run", write_job(warehouse={"url": url}))
    refused(result, 2, "lacks a privilege", "GRANT CREATE")
    assert not list(tmp_path.glob("store/predictions/*"))


def test_reserved_columns_are_refused_where_the_warehouse_keeps_them(call, refused, write_job, tmp_path):
    place = PLACES["postgresql"](tmp_path)
    path = tmp_path / "system.parquet"
    duckdb.execute(f"COPY (SELECT 'r0' AS review_id, 'good' AS body, 1 AS xmin) TO '{path}'")
    job = write_job(source={"path": str(path), "keep": ["xmin"]}, warehouse={"url": place.url})
    refused(call("run", job), 2, "keeps the name 'xmin' for itself")
