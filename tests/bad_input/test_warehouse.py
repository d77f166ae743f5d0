"""Warehouses and stores that cannot be written: a few lines, the fix, the right exit code, and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

MAIN = "from windrow.cli import main; main()"
WITHOUT_ROOTS_POWERS = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--"]


@pytest.fixture
def before(call, write_job, tables):
    """The table after a good run, to compare with."""
    assert call("run", write_job("first.yaml")).returncode == 0
    return tables("SELECT * FROM {t} ORDER BY review_id")


@pytest.fixture
def other(tmp_path):
    """A source with other rows than `before`."""
    path = tmp_path / "other.parquet"
    stars = pa.array([1, 2], pa.int8())
    parquet.write_table(
        pa.table({"review_id": ["x1", "x2"], "body": ["great camera", "bad plot"], "stars": stars}), path
    )
    return {"path": str(path)}


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "s.odd",
        'analytics."odd.name"',
        '"sch ""x"" ema"."ta;ble"',
        "warehouse.warehouse",
        "ünï.文",
        "{t}.{table}",
    ],
)
def test_a_table_of_any_name_is_made_and_replaced(call, write_job, tmp_path, name):
    job = write_job(warehouse={"table": name})
    for _ in range(2):
        result = call("run", job)
        assert result.returncode == 0, result.stderr
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
        found = con.execute("SELECT table_name FROM information_schema.tables ORDER BY 1").fetchall()
        assert len(found) == 3
        schema = con.execute("SELECT DISTINCT table_schema FROM information_schema.tables").fetchall()
        assert len(schema) == 1
    assert call("explain", job, "--key", "r0", "--json").returncode == 0
    told = call("explain", job, "--key", "r0")
    assert told.returncode == 0
    assert " ".join(told.stderr.split()).count("published + 0 rejected") == 2


@pytest.mark.parametrize(
    "name", ["a.b.c", "", ".x", 'un"closed', "windrow_runs", "x.Windrow_Runs", "t__rejects", "a..b"]
)
def test_a_table_name_that_is_none_or_ours_is_refused(call, refused, write_job, tmp_path, name):
    refused(call("run", write_job(warehouse={"table": name})), 2, "table")
    assert not (tmp_path / "warehouse.duckdb").exists()


@pytest.fixture
def warehouse(tmp_path):
    """Run statements in the job's warehouse."""

    def run(*statements):
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
            return [con.execute(statement).fetchall() for statement in statements][-1]

    return run


def test_a_table_that_is_not_windrows_is_left_alone(call, refused, write_job, warehouse):
    warehouse("CREATE SCHEMA analytics", "CREATE TABLE analytics.review_sentiment AS SELECT 'r0' AS review_id")
    refused(call("run", write_job()), 2, "is not Windrow's", "name a table that does not exist yet")
    assert warehouse("SELECT * FROM analytics.review_sentiment") == [("r0",)]
    assert warehouse("SELECT count(*) FROM information_schema.tables") == [(1,)]


def test_a_view_is_not_written(call, refused, write_job, warehouse):
    warehouse("CREATE SCHEMA analytics", "CREATE VIEW analytics.review_sentiment AS SELECT 1 AS windrow_partition")
    refused(call("run", write_job()), 2, "is a view")


def test_a_column_of_another_type_is_refused_before_scoring(call, refused, before, write_job, tables, tmp_path):
    path = tmp_path / "text_stars.parquet"
    parquet.write_table(pa.table({"review_id": ["r9"], "body": ["never scored"], "stars": ["five"]}), path)
    scored = sorted((tmp_path / "store" / "predictions").rglob("*.parquet"))
    refused(call("run", write_job(source={"path": str(path)})), 2, "'stars'", "TINYINT", "VARCHAR", "ALTER TABLE")
    assert sorted((tmp_path / "store" / "predictions").rglob("*.parquet")) == scored
    assert tables("SELECT * FROM {t} ORDER BY review_id") == before


@pytest.mark.parametrize("content", [b"", b"not a database", b"x" * 20_000])
def test_a_file_that_is_no_duckdb_file_is_refused_and_left(call, refused, write_job, tmp_path, content):
    (tmp_path / "warehouse.duckdb").write_bytes(content)
    refused(call("run", write_job()), 2, "warehouse.duckdb", "name another file")
    assert (tmp_path / "warehouse.duckdb").read_bytes() == content


def test_a_warehouse_that_is_a_folder_or_under_a_file_is_refused(call, refused, write_job, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    refused(call("run", write_job(warehouse={"url": f"duckdb:///{tmp_path}/folder"})), 1, "it is a folder")
    refused(call("run", write_job(warehouse={"url": f"duckdb:///{tmp_path}/file/w.duckdb"})), 1, "w.duckdb")
    refused(call("run", write_job(warehouse={"url": "duckdb:///:memory:"})), 2, "names no DuckDB file")
    refused(call("run", write_job(store=str(tmp_path / "file" / "store"))), 1, "Store")
    refused(call("run", write_job(store="weird://store")), 2, "weird")


@pytest.fixture
def held(tmp_path):
    """A process that holds the warehouse open until its standard input ends."""
    code = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path / "warehouse.duckdb")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.communicate()


def test_a_locked_warehouse_says_who_may_hold_it(windrow, before, held, refused, write_job, other, tables):
    result = windrow("run", write_job(source=other), env={"WINDROW_LOCK_WAIT_S": "0.5"})
    refused(result, 1, "is locked by another process", "Fix: close the program")
    held.communicate()
    assert tables("SELECT * FROM {t} ORDER BY review_id") == before


def test_a_run_waits_for_a_warehouse_that_is_let_go(before, held, write_job, other, tables, home):
    command = [sys.executable, "-c", MAIN, "run", str(write_job(source=other))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(timeout=6)
        held.communicate()
        _, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, err
    assert tables("SELECT review_id FROM {t} ORDER BY 1") == [("x1",), ("x2",)]


def _run_without_roots_powers(job, home):
    prefix = WITHOUT_ROOTS_POWERS if os.geteuid() == 0 else []
    if prefix and not shutil.which(prefix[0]):
        pytest.skip("setpriv is not here, and root may write anywhere")
    environment = {**os.environ, "WINDROW_HOME": str(home)}
    command = [*prefix, sys.executable, "-c", MAIN, "run", str(job)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)


@pytest.mark.parametrize("place", ["warehouse", "store"])
def test_a_read_only_folder_is_named_and_nothing_is_scored(refused, write_job, tmp_path, home, place):
    folder = tmp_path / "sealed"
    folder.mkdir()
    folder.chmod(0o555)
    inside = {"warehouse": {"url": f"duckdb:///{folder}/w.duckdb"}} if place == "warehouse" else {"store": str(folder)}
    refused(_run_without_roots_powers(write_job(**inside), home), 1, "cannot be written", str(folder))
    assert not list(folder.iterdir())
    assert not list(tmp_path.glob("store/predictions/*"))


def test_a_read_only_source_and_warehouse_file_are_told_apart(before, refused, write_job, tmp_path, home, reviews):
    (tmp_path / "warehouse.duckdb").chmod(0o444)
    refused(_run_without_roots_powers(write_job(), home), 1, "warehouse.duckdb", "read-only")
    (tmp_path / "warehouse.duckdb").chmod(0o644)
    reviews.chmod(0)
    refused(_run_without_roots_powers(write_job(), home), 2, "reviews.parquet", "ermission denied")


FULL = """
mount -t tmpfs -o size={size} none {folder} || exit 77
cp {warehouse} {folder}/ 2>/dev/null
{python} -c '{main}' run {job}
code=$?
{python} -c '{look}' >&2
exit $code
"""


@pytest.fixture
def on_a_small_disk(tmp_path, home):
    """Run a job with `folder` on a small disk; returns its result and what `look` printed at the end."""

    def run(job, size, look="print()"):
        folder = tmp_path / "small"
        folder.mkdir(exist_ok=True)
        names = {"folder": folder, "warehouse": tmp_path / "warehouse.duckdb", "python": sys.executable}
        script = FULL.format(**names, size=size, main=MAIN, job=job, look=look.replace("FOLDER", str(folder)))
        command = ["unshare", "-m", "sh", "-c", script] if os.geteuid() == 0 else ["unshare", "-rm", "sh", "-c", script]
        environment = {**os.environ, "WINDROW_HOME": str(home)}
        result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
        if result.returncode == 77 or "unshare failed" in result.stderr:
            pytest.skip("no file system can be mounted here")
        return result

    return run


@pytest.fixture
def much(tmp_path):
    """A source of 20,000 rows whose kept column does not compress."""
    path = tmp_path / "much.parquet"
    blobs = pa.array([os.urandom(400) for _ in range(20_000)])
    table = pa.table({"review_id": [f"m{i}" for i in range(20_000)], "body": ["good film"] * 20_000, "noise": blobs})
    parquet.write_table(table, path)
    return {"path": str(path), "keep": ["noise"]}


def test_a_full_disk_under_the_store_leaves_the_table(
    on_a_small_disk, before, refused, write_job, tables, much, tmp_path
):
    job = write_job(source=much, store=str(tmp_path / "small" / "store"))
    refused(on_a_small_disk(job, "2m"), 1, "free some space")
    assert tables("SELECT * FROM {t} ORDER BY review_id") == before


def test_a_full_disk_under_the_warehouse_leaves_the_table(on_a_small_disk, before, refused, write_job, much, tmp_path):
    look = (
        'import duckdb; con = duckdb.connect("FOLDER/warehouse.duckdb"); '
        'print(con.execute("SELECT count(*), any_value(stars) > 0 FROM analytics.review_sentiment").fetchall()); '
        'print(con.execute("SELECT count(*) FROM analytics.windrow_runs").fetchall())'
    )
    job = write_job(source=much, warehouse={"url": f"duckdb:///{tmp_path}/small/warehouse.duckdb"})
    result = on_a_small_disk(job, "6m", look)
    assert result.returncode == 1, result.stderr
    told, counts = result.stderr.split("[", 1)
    assert "cannot be written" in told
    assert "Fix: free some space" in told
    assert "Traceback" not in result.stderr
    assert "[" + counts.strip() == "[(5, True)]\n[(1,)]"


def test_two_processes_publish_different_partitions_at_once(write_job, tables, home):
    job = write_job()
    environment = {**os.environ, "WINDROW_HOME": str(home)}
    commands = [[sys.executable, "-c", MAIN, "run", str(job), "--partition", day, "--json"] for day in ("a", "b", "c")]
    running = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) for c in commands]
    results = [process.communicate(timeout=200) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], results
    assert all(json.loads(out)["rows_published"] == 5 for out, _ in results)
    assert tables("SELECT windrow_partition, count(*) FROM {t} GROUP BY 1 ORDER BY 1") == [("a", 5), ("b", 5), ("c", 5)]
    assert tables("SELECT count(*) FROM {l}") == [(3,)]
