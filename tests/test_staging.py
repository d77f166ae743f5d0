"""Staging gives every source row exactly one staged row, with the hash of its text or a reason."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest

from conftest import merged
from windrow import staging
from windrow.duck import quoted
from windrow.errors import SourceError
from windrow.job import Job
from windrow.staging import stage
from windrow.store import Store

TEXTS = ["good", None, "", "two\n\nlines", "👍 \x00 nul", "x" * 2000, "good"]


class Rows:
    """A source of record batches that are given."""

    def __init__(self, *batches, malformed=()):
        self.given, self.lines, self.asked = batches, list(malformed), None

    def schema(self):
        return self.given[0].schema

    def batches(self, columns):
        self.asked = tuple(columns)
        yield from (batch.select(list(columns)) for batch in self.given)

    def malformed(self):
        return self.lines


@pytest.fixture
def staged(job_fields, tmp_path):
    """Stage record batches; return the staged rows in their order."""

    def run(given, limit=None, english_only=False, **changes):
        fields = {"source": {"key": "id", "keep": [], "text": "body"}, "limits": {"max_text_bytes": 1000}}
        job = Job(**merged(merged(job_fields, fields), changes))
        carried = pa.schema([given.schema().field(name) for name in dict.fromkeys((*job.source.key, *job.source.keep))])
        store = Store(str(tmp_path / "store"))
        with store.scratch() as folder, store.connect(folder) as con:
            stage(con, job, given, carried, english_only, limit)
            return con.execute("SELECT * FROM staged ORDER BY windrow_row").to_arrow_table().to_pylist()

    return run


def batch(texts, start=0):
    return pa.record_batch(
        {"id": range(start, start + len(texts)), "body": pa.array(texts, pa.string()), "other": ["-"] * len(texts)}
    )


def test_every_row_is_staged_once_in_order_with_the_hash_of_its_text(staged):
    source = Rows(batch(TEXTS[:3]), batch(TEXTS[3:], 3), malformed=["line 9: broken"])
    rows = staged(source)
    assert source.asked == ("id", "body")
    assert [row["windrow_row"] for row in rows] == list(range(len(TEXTS) + 1))
    reasons = [None, "null_text", "empty_text", None, None, "too_large", None, "malformed_row"]
    assert [row["windrow_reason"] for row in rows] == reasons
    for row, text in zip(rows, TEXTS, strict=False):
        is_fine = row["windrow_reason"] is None
        assert row["windrow_hash"] == (hashlib.sha256(text.encode()).digest()[:16] if is_fine else None)
    assert (rows[-1]["id"], rows[-1]["windrow_detail"]) == (None, "line 9: broken")


def test_record_batches_of_any_size_are_staged_alike(staged, monkeypatch):
    monkeypatch.setattr(staging, "_ROWS", 3)
    texts = [f"text {number % 7}" for number in range(40)]
    in_ones = staged(Rows(*(batch([text], number) for number, text in enumerate(texts))))
    assert in_ones == staged(Rows(batch(texts)))
    assert len(in_ones) == 40


def test_a_source_without_a_record_batch_stages_nothing(staged):
    assert staged(Rows(batch([]))) == []


@pytest.mark.parametrize("limit", [1, 3, 4, 99])
def test_a_limit_reads_so_many_rows_and_closes_the_source(staged, limit):
    rows = staged(Rows(batch(["a", "b", "c"]), batch(["d", "e"], 3)), limit=limit)
    assert [row["id"] for row in rows] == list(range(min(limit, 5)))


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "b"]).dictionary_encode(),
        pa.array(["a", None, "b"], pa.large_string()),
        pa.array(["a", None, "b"], pa.string_view()),
        pa.chunked_array([["z", "a", None, "b"]]).chunk(0).slice(1),
    ],
    ids=["dictionary", "large", "view", "slice"],
)
def test_texts_of_every_string_type_hash_alike(staged, column):
    rows = staged(Rows(pa.record_batch({"id": [0, 1, 2], "body": column})))
    hashes = [hashlib.sha256(text).digest()[:16] for text in (b"a", b"b")]
    assert [row["windrow_hash"] for row in rows] == [hashes[0], None, hashes[1]]


@pytest.mark.parametrize("kind", [pa.int64(), pa.binary(), pa.list_(pa.string()), pa.bool_()], ids=str)
def test_a_text_column_of_another_type_is_refused(staged, kind):
    with pytest.raises(SourceError, match=f"has type {kind}, not text".replace("<", ".").replace(">", ".")):
        staged(Rows(pa.record_batch({"id": [1], "body": pa.nulls(1, kind)})))


def test_a_column_of_nulls_is_no_text_and_no_error(staged):
    assert staged(Rows(pa.record_batch({"id": [1], "body": pa.nulls(1)})))[0]["windrow_reason"] == "null_text"


def test_several_texts_are_joined_by_a_blank_line(staged):
    columns = {"id": [0, 1, 2, 3], "a": ["x", None, None, ""], "b": ["y", "y", None, "y"], "c": ["z", None, None, None]}
    rows = staged(Rows(pa.record_batch(columns)), source={"text": ["a", "b", "c"]})
    assert [row["windrow_text"] for row in rows] == ["x\n\ny\n\nz", "y", None, "\n\ny"]


def test_bytes_that_are_no_utf8_are_mended_in_a_kept_column_and_rejected(staged):
    raw = pa.array([b"fine", b"caf\xe9"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    rows = staged(Rows(pa.record_batch({"id": [1, 2], "body": ["a", "b"], "name": text})), source={"keep": ["name"]})
    assert [(row["name"], row["windrow_reason"]) for row in rows] == [("fine", None), ("caf\ufffd", "invalid_utf8")]


def test_an_error_of_the_source_is_raised_as_it_is(staged):
    class Broken(Rows):
        def batches(self, columns):
            yield from super().batches(columns)
            raise SourceError("File 7 is broken.", "mend it.")

    with pytest.raises(SourceError, match="File 7 is broken"):
        staged(Broken(batch(["a"])))


def test_one_of_two_equal_keys_stays_whatever_its_batch(staged):
    columns = {"id": ["k", "k", "l"], "body": ["a", "b", "c"]}
    rows = staged(Rows(pa.record_batch(columns), pa.record_batch(columns)))
    assert [row["windrow_reason"] for row in rows] == [None, "duplicate_key", None, *["duplicate_key"] * 3]
    assert rows[5]["windrow_detail"] == "row 6 repeats the key of row 3"


@pytest.mark.parametrize("name", ['a"b', "select", "{x}", "é", "windrow"])
def test_columns_of_any_name_are_staged(staged, name):
    assert quoted(name) == '"' + name.replace('"', '""') + '"'
    rows = staged(Rows(pa.record_batch({name: [1], "body": ["a"]})), source={"key": name})
    assert rows[0][name] == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("plain English", None),
        ("12:30, 5 %", None),
        ("🙂🙂", None),
        ("très bien", None),
        ("це добре", "unsupported_script"),
        ("とてもよい good", "unsupported_script"),
        ("the word Ωραία is Greek", None),
    ],
)
def test_an_english_only_model_gets_latin_letters(staged, text, reason):
    assert staged(Rows(batch([text])), english_only=True)[0]["windrow_reason"] == reason
    assert staged(Rows(batch([text])))[0]["windrow_reason"] is None
