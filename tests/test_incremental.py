"""Sources that are read from where the last published run ended: late, changed and deleted rows reach the table."""

from __future__ import annotations

import datetime as dt
import os

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import merged
from warehouses.places import PLACES
from windrow import Job, run
from windrow.errors import FencedError, JobError, SourceError
from windrow.infer import infer
from windrow.load import load
from windrow.publish import publish

DAY = dt.datetime(2026, 11, 20, tzinfo=dt.UTC)


def moments(*days):
    return pa.array([None if day is None else DAY + dt.timedelta(days=day) for day in days], pa.timestamp("us", "UTC"))


def write(path, ids, bodies, changed, **columns):
    changed = changed if isinstance(changed, pa.Array) else moments(*changed)
    table = pa.table({"review_id": ids, "body": pa.array(bodies, pa.string()), "changed": changed, **columns})
    parquet.write_table(table, path, row_group_size=2)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "changing.parquet"


@pytest.fixture
def make(home, job_fields, file):
    def make(**changes):
        source = {"path": str(file), "keep": ["changed"], "since": "last_success", "watermark": "changed"}
        fields = merged(job_fields, {"source": source, "warehouse": {"mode": "upsert"}})
        return Job(**merged(fields, changes))

    return make


@pytest.fixture
def held(tmp_path):
    def held(table="review_sentiment", columns="review_id, windrow_partition"):
        with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
            return con.execute(f"SELECT {columns} FROM analytics.{table} ORDER BY ALL").fetchall()

    return held


def test_the_next_run_reads_what_is_new_or_changed_and_keeps_the_rest(make, file, held):
    write(file, ["a", "b", "c"], ["good film", "bad film", None], [0, 1, 1])
    assert run(make(), "p1").rows_in == 3
    write(file, ["a", "b", "c", "d", "e"], ["good film", "a changed film", None, "new one", None], [0, 3, 1, 2, 3])
    second = run(make(), "p2")
    assert (second.rows_in, second.rows_published, second.watermark) == (4, 2, "changed=2026-11-23 00:00:00.000000Z")
    assert held() == [("a", "p1"), ("b", "p2"), ("d", "p2")]
    assert held("review_sentiment__rejects") == [("c", "p2"), ("e", "p2")]


def test_an_increment_of_the_same_partition_keeps_its_earlier_rows_and_rejects(make, file, held):
    write(file, ["a", "b"], ["good film", None], [0, 0])
    run(make())
    write(file, ["a", "b", "c", "d"], ["good film", None, "another", None], [0, 0, 1, 1])
    assert run(make()).rows_in == 4
    write(file, ["a", "b", "c", "d", "e"], ["good film", None, "another", None, "third"], [0, 0, 1, 1, 2])
    assert run(make()).rows_in == 3
    assert [row[0] for row in held()] == ["a", "c", "e"]
    assert [row[0] for row in held("review_sentiment__rejects")] == ["b", "d"]
    assert run(make()).rows_in == 1
    assert [row[0] for row in held("review_sentiment__rejects")] == ["b", "d"]


def test_late_rows_within_the_lag_are_read(make, file, held):
    write(file, ["a", "b"], ["good film", "bad film"], [0, 5])
    run(make())
    write(file, ["a", "b", "late", "older"], ["good film", "bad film", "late", "too late"], [0, 5, 4, 1])
    assert run(make(source={"lag": "2d"})).rows_in == 2
    assert [row[0] for row in held()] == ["a", "b", "late"]
    assert run(make(), full=True).rows_in == 4
    assert [row[0] for row in held()] == ["a", "b", "late", "older"]


def test_rows_that_the_source_deleted_leave_table_and_rejects(make, file, held):
    write(file, ["a", "b", "c"], ["good film", "bad film", None], [0, 0, 0], gone=[False, False, None])
    run(make(source={"deleted": "gone"}))
    write(
        file,
        ["a", "b", "c", "d"],
        ["good film", "bad film", None, "never seen"],
        [0, 1, 1, 1],
        gone=[False, True, True, True],
    )
    receipt = run(make(source={"deleted": "gone"}), "p2")
    assert (receipt.rows_deleted, receipt.rows_in) == (3, 1)
    assert [row[0] for row in held()] == ["a"]
    assert held("review_sentiment__rejects") == []


def test_rows_without_a_watermark_are_never_left_out(make, file, held):
    write(file, ["a", "b"], ["good film", "bad film"], [0, None])
    run(make())
    write(file, ["a", "b", "c"], ["good film", "bad film", "unknown time"], [0, None, None])
    run(make())
    assert [row[0] for row in held()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("values", "lag", "rows"),
    [
        (pa.array([5, 8], pa.int32()), None, 1),
        (pa.array([5, 8], pa.uint8()), "9", 2),
        (pa.array([dt.date(2026, 1, 1), dt.date(2026, 1, 5)]), "3d", 1),
        (pa.array([dt.date(2026, 1, 1), dt.date(2026, 1, 5)]), "4d", 2),
        (pa.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_002], pa.timestamp("ns")), None, 1),
        (pa.array([1, 2], pa.timestamp("s")), "1s", 2),
    ],
)
def test_watermarks_of_each_type(make, file, values, lag, rows):
    write(file, ["a", "b"], ["good film", "bad film"], values)
    run(make(source={"keep": None}))
    assert run(make(source={"keep": None, "lag": lag})).rows_in == rows


def test_a_query_takes_the_condition_where_its_rows_lie(make, tmp_path, held):
    url = f"duckdb:///{tmp_path}/source.duckdb"
    with duckdb.connect(str(tmp_path / "source.duckdb")) as con:
        con.execute("CREATE TABLE r AS SELECT 'k' || i AS review_id, 'film ' || i AS body, i AS n FROM range(5) t(i)")
    source = {"path": None, "query": "SELECT * FROM r", "url": url, "keep": ["n"], "watermark": "n"}
    assert run(make(source=source)).watermark == "n=4"
    with duckdb.connect(str(tmp_path / "source.duckdb")) as con:
        con.execute("INSERT INTO r VALUES ('k5', 'film five', 5)")
    assert run(make(source=source)).rows_in == 2
    assert len(held()) == 6


def test_files_are_read_by_their_time_where_no_column_tells_it(make, tmp_path, file, held):
    folder = tmp_path / "days"
    folder.mkdir()
    source = {"path": f"{folder}/*.parquet", "watermark": None, "keep": None}
    for number, name in enumerate("ab"):
        write(folder / f"{name}.parquet", [name], [f"film {name}"], [0])
        os.utime(folder / f"{name}.parquet", (1000 + number, 1000 + number))
    first = run(make(source=source))
    assert (first.rows_in, first.watermark) == (2, "<files>=1970-01-01 00:16:41.000000Z")
    write(folder / "c.parquet", ["c"], ["film c"], [0])
    os.utime(folder / "c.parquet", (2000, 2000))
    assert run(make(source=source)).rows_in == 2
    assert [row[0] for row in held()] == ["a", "b", "c"]


def test_a_run_that_was_not_published_has_reached_nothing(make, file, held):
    write(file, ["a"], ["good film"], [0])
    job = make()
    load(job, "p1")
    write(file, ["a", "b"], ["good film", "bad film"], [0, 1])
    assert run(job, "p2").rows_in == 2
    assert len(held()) == 2


def test_a_limited_run_reaches_no_further_than_the_last_whole_one(make, file):
    write(file, ["a", "b"], ["good film", "bad film"], [0, 1])
    assert run(make(), limit=1).watermark is None
    assert run(make()).rows_in == 2


def test_an_older_run_may_not_publish_after_a_later_one_that_read_more(make, file, held):
    write(file, ["a"], ["good film"], [0])
    job = make()
    old = load(job, "p1").ref
    infer(job, old)
    write(file, ["a"], ["bad film"], [1])
    run(job, "p2")
    with pytest.raises(FencedError, match="later run"):
        publish(job, old)
    assert held() == [("a", "p2")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"warehouse": {"mode": "replace"}}, "needs warehouse.mode: upsert"),
        ({"source": {"since": None}}, "need `since: last_success`"),
        ({"source": {"lag": "two days"}}, "source.lag"),
        ({"source": {"since": "yesterday"}}, "source.since"),
    ],
)
def test_a_job_that_would_lose_rows_is_refused(make, changes, words):
    with pytest.raises(JobError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"watermark": "chnaged"}, "changed"),
        ({"watermark": "body"}, "order is not certain"),
        ({"deleted": "body"}, "not boolean"),
    ],
)
def test_a_column_that_cannot_be_a_watermark_or_a_mark_is_refused(make, file, source, words):
    write(file, ["a"], ["good film"], [0])
    with pytest.raises(SourceError) as raised:
        run(make(source=source))
    assert words in f"{raised.value} {raised.value.fix}"


def test_a_watermark_that_changed_its_column_or_type_is_told(make, file):
    write(file, ["a"], ["good film"], [0], n=[1])
    run(make())
    with pytest.raises(SourceError, match="reached 'changed=") as raised:
        run(make(source={"watermark": "n"}))
    assert "--full" in raised.value.fix
    with pytest.raises(SourceError, match=r"source\.lag"):
        run(make(source={"lag": "5"}))
    write(file, ["a"], ["good film"], pa.array([1], pa.int64()))
    with pytest.raises(SourceError, match="now of type int64"):
        run(make())
    assert run(make(source={"keep": None}), full=True).rows_in == 1


def test_an_empty_source_keeps_what_was_reached(make, file):
    write(file, ["a"], ["good film"], [3])
    reached = run(make()).watermark
    write(file, [], [], [])
    assert run(make()).watermark == reached


@pytest.mark.parametrize("kind", list(PLACES))
def test_increments_reach_every_warehouse(make, tmp_path, file, kind):
    place = PLACES[kind](tmp_path)

    def ids(table):
        rows = place.rows(table)
        return sorted(rows["review_id"].to_pylist()) if rows.num_rows else []

    job = make(source={"deleted": "gone"}, warehouse={"url": place.url})
    write(file, ["a", "b", "c"], ["good film", None, "bad film"], [0, 0, 1], gone=[False, False, False])
    run(job)
    bodies, days = ["good film", None, "bad film", "new", "newer", None], [0, 0, 2, 1, 2, 2]
    write(file, ["a", "b", "c", "d", "e", "f"], bodies, days, gone=[False, False, True, False, False, False])
    assert run(job).rows_deleted == 1
    assert (ids("review_sentiment"), ids("review_sentiment__rejects")) == (["a", "d", "e"], ["b", "f"])
    assert run(job).texts_scored == 0
    assert (ids("review_sentiment"), ids("review_sentiment__rejects")) == (["a", "d", "e"], ["b", "f"])
