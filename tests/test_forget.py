"""A person's rows are removed from table, rejects, runs and predictions, and a receipt says how many they were."""

from __future__ import annotations

import json
import os
import zlib
from contextlib import suppress

import duckdb
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from conftest import merged
from warehouses.places import PLACES
from windrow import Job, run
from windrow.cli import app
from windrow.errors import JobError, StoreError
from windrow.forget import forget, given_keys
from windrow.history import explain_row
from windrow.infer import infer
from windrow.load import load
from windrow.publish import publish

LINES = [("a", "good film"), ("b", "a secret of b"), ("c", ""), ("d", "bad film"), ("e", "a secret of b")]


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "people.jsonl"

    def write(lines=LINES):
        file.write_text("\n".join(json.dumps({"id": key, "body": body}) for key, body in lines))

    write()
    return write


@pytest.fixture(params=list(PLACES))
def place(request, tmp_path):
    return PLACES[request.param](tmp_path)


@pytest.fixture
def job(home, job_fields, tmp_path, source, place):
    given = {"path": str(tmp_path / "people.jsonl"), "key": "id", "keep": None}
    return Job(**merged(job_fields, {"source": given, "warehouse": {"url": place.url}}))


def everything(folder):
    """Return the bytes of every file under a folder, runs of readable text and Parquet's columns alike."""
    import pyarrow.parquet as pq

    texts = []
    for file in (file for file in folder.rglob("*") if file.is_file()):
        texts.append(str(pq.read_table(file).to_pylist()) if file.suffix == ".parquet" else file.read_bytes().hex())
    return texts


def test_a_forgotten_key_is_nowhere_and_all_else_is_as_it_was(job, place, tmp_path):
    run(job, "p1")
    run(job, "p2")
    before = {row["id"]: row for row in place.rows("review_sentiment").to_pylist()}
    told = forget(job, [("b",), ("c",)])
    assert (told["keys"], told["rows"], told["rejects"], told["runs"], told["run_files"]) == (2, 2, 2, 0, 4)
    assert (told["predictions"], told["prediction_files"], told["unknown_texts"]) == (1, 1, 0)
    rows = place.rows("review_sentiment").to_pylist()
    assert sorted(row["id"] for row in rows) == ["a", "a", "d", "d", "e", "e"]
    assert all(row["score"] == before[row["id"]]["score"] for row in rows)
    assert place.rows("review_sentiment__rejects").num_rows == 0
    kept = everything(tmp_path / "store" / "runs")
    assert not any("'b'" in text or "'c'" in text for text in kept)
    (receipt,) = (tmp_path / "store" / "forgotten").glob("*.json")
    assert json.loads(receipt.read_text()) == told
    with pytest.raises(JobError, match="No row"):
        explain_row(job, ["b"])


def files_with(folder, secret):
    """Return the files under a folder that hold a text: as bytes, in a Parquet file's rows, in Avro's packed blocks."""
    import pyarrow.parquet as pq

    files = [file for file in folder.rglob("*") if file.is_file()]
    found = {file for file in files if secret.encode() in file.read_bytes()}
    found |= {f for f in files if f.suffix == ".parquet" and secret in str(pq.read_table(f).to_pylist())}
    return found | {file for file in files if file.suffix == ".avro" and secret.encode() in unpacked(file.read_bytes())}


def unpacked(data):
    """Return whatever of some bytes can be inflated."""
    parts = []
    for start in range(len(data)):
        with suppress(zlib.error):
            parts.append(zlib.decompressobj(-15).decompress(data[start:]))
    return b"".join(parts)


SECRET = "~7Kq2 nobody"
"""Greater than the other keys, and so short that bounds of columns hold it whole."""


def test_no_file_of_warehouse_or_store_holds_what_is_forgotten(job_fields, home, place, source, tmp_path):
    given = {"path": str(tmp_path / "people.jsonl"), "key": "id", "keep": ["body"]}
    job = Job(**merged(job_fields, {"source": given, "warehouse": {"url": place.url}}))
    source([*LINES, (SECRET, f"a film {SECRET}")])
    run(job, "p1")
    source([*LINES, (SECRET, f"another film {SECRET}")])
    for partition in ("p1", "p2"):
        run(job, partition)
    waiting = load(job, "p3").ref
    assert files_with(tmp_path / "store", SECRET)
    source()
    assert forget(job, [(SECRET,)])["rows"] == 2
    assert not (tmp_path / "store" / waiting.folder).exists()
    left = [file for file in files_with(tmp_path, SECRET) if file.suffix not in (".duckdb", ".ducklake")]
    assert [str(file.relative_to(tmp_path)) for file in left] == []
    assert sorted(place.rows("review_sentiment")["id"].to_pylist()) == sorted(["a", "b", "d", "e"] * 2)


def test_a_duckdb_file_is_written_anew_where_rows_are_forgotten(home, job_fields, tmp_path):
    import pyarrow.parquet as pq

    mine, times = b"I am the one to be forgotten", 20_000
    path, file = tmp_path / "people.parquet", tmp_path / "warehouse.duckdb"
    long = b"".join(mine + os.urandom(40) for _ in range(times))
    notes = pa.array([long, *(os.urandom(50) for _ in range(2000))])
    ids = ["me", *(f"k{number}" for number in range(2000))]
    pq.write_table(pa.table({"id": ids, "body": ["good film"] * len(ids), "note": notes}), path)
    job = Job(**merged(job_fields, {"source": {"path": str(path), "key": "id", "keep": ["note"]}}))
    run(job)
    with duckdb.connect(str(file)) as con:
        con.execute("CREATE TABLE analytics.behind AS SELECT random() AS x FROM range(200_000)")
    assert file.read_bytes().count(mine) > times * 0.9
    assert forget(job, [("me",)])["rows"] == 1
    assert file.read_bytes().count(mine) < times // 100
    with duckdb.connect(str(file), read_only=True) as con:
        assert con.execute("SELECT count(*), count(note) FROM analytics.review_sentiment").fetchall() == [(2000, 2000)]
        assert con.execute("SELECT count(*) FROM duckdb_tables()").fetchall() == [(4,)]


def test_the_same_text_of_another_is_scored_again(job, place, source):
    run(job, "p1")
    forget(job, [("b",)])
    source([line for line in LINES if line[0] != "b"])
    receipt = run(job, "p1")
    assert (receipt.texts_scored, receipt.texts_reused, receipt.rows_published) == (1, 2, 3)
    assert forget(job, [("b",)])["rows"] == 0


def test_a_run_that_holds_a_forgotten_key_and_is_not_published_begins_again(job, place, tmp_path):
    run(job, "p1")
    waiting = load(job, "p2").ref
    infer(job, waiting)
    assert forget(job, [("a",)])["runs"] == 1
    assert not (tmp_path / "store" / waiting.folder).exists()
    with pytest.raises(StoreError, match="run it again from load"):
        publish(job, waiting)
    assert "a" not in place.rows("review_sentiment")["id"].to_pylist()


def test_rows_whose_run_was_pruned_are_told_as_unknown_texts(job, tmp_path):
    receipt = run(job)
    (tmp_path / "store" / f"runs/{job.name}/all/{receipt.run_id}/rows.parquet").unlink()
    told = forget(job, [("a",), ("d",)])
    assert (told["rows"], told["unknown_texts"], told["predictions"]) == (2, 2, 0)


def test_the_command_takes_keys_from_options_and_from_a_file(home, write_job, tmp_path, source):
    given = {"path": str(tmp_path / "people.jsonl"), "key": ["id", "body"], "keep": None}
    job = write_job(source=given)
    assert CliRunner().invoke(app, ["run", str(job)]).exit_code == 0
    (tmp_path / "keys.csv").write_text("body,id\na secret of b,b\nbad film,d\n")
    command = ["forget", str(job), "--key", "a", "--key", "good film", "--keys", str(tmp_path / "keys.csv"), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["rows"] == 3
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("values", "lines", "words"),
    [
        (["a", "b", "c"], None, "no whole number of keys"),
        ([], "id\na\n", "no column 'body'"),
        ([], "id,body\na\n", "too short"),
        ([], "id,body\n", "has 2 parts"),
        ([], b"\xff\xfe", "cannot be read"),
    ],
)
def test_keys_that_are_none_are_refused_before_anything_is_removed(job_fields, tmp_path, values, lines, words):
    job = Job(**merged(job_fields, {"source": {"key": ["id", "body"], "keep": None}}))
    file = None
    if lines is not None:
        file = tmp_path / "keys.csv"
        file.write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    with pytest.raises(JobError, match=words):
        forget(job, given_keys(job, values, file))


def test_explain_tells_the_text_hash_who_scored_it_and_what_was_there_before(job):
    from hashlib import sha256

    first, second = run(job, "p1"), run(job, "p1")
    found = explain_row(job, ["a"])
    (row,) = found["rows"]
    assert row["windrow_hash"] == sha256(b"good film").hexdigest()[:32]
    assert (row["windrow_run_id"], row["windrow_scored_by"]) == (second.run_id, first.run_id)
    assert [run["run_id"] for run in found["history"]] == [second.run_id, first.run_id]
    assert {run["revision"] for run in found["history"]} == {first.revision}
