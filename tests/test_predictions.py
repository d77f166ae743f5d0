"""Predictions by content: found by hash, whole or not at all, merged and healed while others read."""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections import Counter

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import merged
from windrow import Job, run
from windrow.errors import StoreError
from windrow.infer import infer
from windrow.load import load
from windrow.predictions import Predictions
from windrow.publish import publish
from windrow.receipt import utc_now
from windrow.store import Store

COLUMNS = pa.schema([("label", pa.string()), ("score", pa.float32())])


def hashes(*numbers):
    return [hashlib.sha256(str(number).encode()).digest()[:16] for number in numbers]


def table(*numbers, label="good", columns=COLUMNS):
    count = len(numbers)
    return pa.table(
        {
            "windrow_hash": pa.array(hashes(*numbers), pa.binary(16)),
            "label": [label] * count,
            "score": pa.array([0.5] * count, pa.float32()),
            "windrow_tokens": pa.array([3] * count, pa.int32()),
            "windrow_truncated": [False] * count,
            "windrow_scored_at": pa.array([utc_now()] * count, pa.timestamp("us", tz="UTC")),
            "windrow_scored_by": ["run"] * count,
            "windrow_reason": pa.nulls(count, pa.string()),
            "windrow_detail": pa.nulls(count, pa.string()),
        }
    )


@pytest.fixture
def predictions(tmp_path):
    return Predictions(Store(str(tmp_path / "store")), "f" * 64, COLUMNS)


@pytest.fixture
def select(predictions):
    """Return the labels that are found for some numbers, by number."""

    def run_select(*numbers, columns=None):
        with predictions.store.scratch() as folder, predictions.store.connect(folder) as con:
            con.register("wanted", pa.table({"windrow_hash": pa.array(hashes(*numbers), pa.binary())}))
            predictions.select(con, "wanted", "found", columns)
            found = con.execute("SELECT * FROM found").to_arrow_table()
        by_hash = dict(zip(hashes(*numbers), numbers, strict=True))
        assert len(found.column_names) == (len(predictions.schema) if columns is None else 1 + len(columns))
        return Counter(by_hash[value] for value in found["windrow_hash"].to_pylist())

    return run_select


@pytest.fixture
def files(predictions, tmp_path):
    return lambda: sorted(path.name for path in (tmp_path / "store" / predictions.folder).iterdir())


def test_only_the_wanted_hashes_are_found(predictions, select):
    assert select(1, 2) == {}
    predictions.write(table(1, 2, 3), "a")
    predictions.write(table(4), "b")
    assert select(2, 4, 9) == {2: 1, 4: 1}
    assert select(2, columns=[]) == {2: 1}
    assert select(2, columns=["label"]) == {2: 1}


def test_one_hash_among_many_equal_rows_is_found(predictions, tmp_path):
    """A join's filter on few distinct hashes must not lose rows of a Parquet file."""
    numbers = [n % 3 for n in range(60_000)]
    for first in range(200):
        one = hashes(f"only {first}")[0]
        if one[0] > 0x7F:
            break
    path = tmp_path / "rows.parquet"
    duckdb.execute(
        f"COPY (SELECT ?::BLOB AS windrow_hash FROM range({len(numbers)})) TO '{path}' (FORMAT parquet)", [one]
    )
    with predictions.store.scratch() as folder, predictions.store.connect(folder) as con:
        con.register("one", pa.table({"windrow_hash": pa.array([one], pa.binary())}))
        con.execute("CREATE TABLE found AS FROM one")
        joined = con.execute(f"SELECT count(*) FROM read_parquet('{path}') JOIN found USING (windrow_hash)").fetchall()
    assert joined == [(60_000,)]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"\0" * 5000, None], ids=["empty", "stub", "zeros", "cut"])
def test_a_broken_file_is_set_aside_and_the_others_are_read(predictions, select, files, tmp_path, caplog, content):
    for number in range(3):
        predictions.write(table(number), f"file-{number}")
    broken = tmp_path / "store" / predictions.folder / "file-1.parquet"
    broken.write_bytes(broken.read_bytes()[:-20] if content is None else content)
    with caplog.at_level(logging.WARNING):
        assert select(0, 1, 2) == {0: 1, 2: 1}
    assert "file-1.parquet is broken and was set aside" in caplog.text
    assert files() == ["file-0.parquet", "file-1.parquet.broken", "file-2.parquet"]
    assert select(0, 1, 2) == {0: 1, 2: 1}


def test_a_file_broken_in_a_column_that_load_does_not_read_is_found_by_publish(home, job_fields, tmp_path):
    job = Job(**job_fields)
    first = run(job)
    (file,) = (tmp_path / "store" / "predictions").rglob("*.parquet")
    content = bytearray(file.read_bytes())
    place = parquet.ParquetFile(file).metadata.row_group(0).column(1)
    start = place.dictionary_page_offset or place.data_page_offset
    content[start : start + place.total_compressed_size] = b"\xff" * place.total_compressed_size
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"5 texts of run .* have no prediction yet") as raised:
        run(job)
    assert raised.value.retryable
    again = run(job)
    assert (again.texts_scored, again.labels) == (5, first.labels)


def test_a_broken_file_costs_one_run_only_its_own_texts(home, job_fields, tmp_path, monkeypatch):
    monkeypatch.setattr("windrow.load.SHARD_TEXTS", 1)
    monkeypatch.setattr("windrow.load._READ_TEXTS", 1)
    job = Job(**job_fields)
    first = run(job)
    file = sorted((tmp_path / "store" / "predictions").rglob("*.parquet"))[2]
    file.write_bytes(file.read_bytes()[:-9])
    again = run(job)
    assert (again.texts_scored, again.texts_reused, again.labels) == (1, 4, first.labels)


def test_small_files_are_merged_and_say_the_same(predictions, select, files):
    for number in range(6):
        predictions.write(table(number, 100), f"file-{number}")
    before = select(*range(6), 100)
    assert predictions.compact(above_files=6) == 0
    assert predictions.compact(above_files=5) == 6
    (merged_file,) = files()
    assert merged_file.startswith("merged-")
    assert select(*range(6), 100) == before
    assert predictions.compact(above_files=1) == 0


def test_merging_leaves_all_files_where_one_is_broken(predictions, select, files, tmp_path):
    for number in range(4):
        predictions.write(table(number), f"file-{number}")
    (tmp_path / "store" / predictions.folder / "file-2.parquet").write_bytes(b"broken")
    assert predictions.compact(above_files=1) == 0
    assert files() == ["file-0.parquet", "file-1.parquet", "file-2.parquet.broken", "file-3.parquet"]
    assert predictions.compact(above_files=1) == 3
    assert select(0, 1, 2, 3) == {0: 1, 1: 1, 3: 1}


def test_files_that_vanish_while_they_are_read_are_looked_for_again(predictions, select, monkeypatch):
    for number in range(3):
        predictions.write(table(number), f"file-{number}")
    listed = predictions.store.listed
    stale = listed(predictions.folder)
    predictions.compact(above_files=1)
    answers = [stale]
    monkeypatch.setattr(predictions.store, "listed", lambda *a: answers.pop() if answers else listed(*a))
    assert select(0, 1, 2) == {0: 1, 1: 1, 2: 1}
    assert not answers


def test_a_file_that_goes_while_broken_ones_are_looked_for_is_no_error(predictions, files):
    predictions.write(table(0), "whole")
    predictions._set_broken_aside([f"{predictions.folder}/gone.parquet", f"{predictions.folder}/whole.parquet"])
    assert files() == ["whole.parquet"]


def test_readers_find_everything_while_others_write_and_merge(predictions, select):
    for number in range(8):
        predictions.write(table(number), f"first-{number}")
    failures, done = [], threading.Event()

    def merge():
        chance = random.Random(5)
        try:
            for number in range(12):
                predictions.write(table(100 + number), f"more-{number}")
                if chance.random() < 0.7:
                    predictions.compact(above_files=1)
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threads = [threading.Thread(target=merge) for _ in range(2)]
    for thread in threads:
        thread.start()
    while not done.is_set():
        assert set(select(*range(8))) == set(range(8))
    for thread in threads:
        thread.join()
    assert failures == []
    assert set(select(*range(8), *range(100, 112))) == {*range(8), *range(100, 112)}


def test_a_hash_in_two_files_is_published_once_and_the_first_wins(home, job_fields, tmp_path):
    job = Job(**job_fields)
    first = run(job)
    (file,) = (tmp_path / "store" / "predictions").rglob("*.parquet")
    twice = parquet.read_table(file)
    later = twice["windrow_scored_at"].to_pylist()[0].replace(year=2099)
    place = twice.schema.get_field_index("windrow_scored_at")
    twice = twice.set_column(place, "windrow_scored_at", pa.array([later] * 5, pa.timestamp("us", tz="UTC")))
    twice = twice.set_column(twice.schema.get_field_index("label"), "label", pa.array(["other"] * 5))
    parquet.write_table(twice, file.with_name("again.parquet"))
    again = run(job)
    assert (again.rows_published, again.labels) == (5, first.labels)


def test_what_another_run_has_scored_meanwhile_is_not_scored_again(home, job_fields, tmp_path):
    job = Job(**job_fields)
    one, two = load(job, "a"), load(job, "b")
    assert (one.texts_to_score, two.texts_to_score) == (5, 5)
    assert infer(job, one.ref).texts == 5
    assert infer(job, two.ref).texts == 0
    receipt = publish(job, two.ref)
    assert (receipt.rows_published, receipt.texts_scored, receipt.texts_reused, receipt.tokens) == (5, 0, 5, 0)
    assert publish(job, one.ref).tokens > 0
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as con:
        assert con.execute("SELECT count(*) FROM analytics.review_sentiment").fetchall() == [(10,)]


def test_publish_before_infer_says_what_is_missing(home, job_fields):
    manifest = load(Job(**merged(job_fields, {})), "a")
    with pytest.raises(StoreError, match=r"5 texts of run .* have no prediction yet"):
        publish(Job(**job_fields), manifest.ref)
