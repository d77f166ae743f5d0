"""Texts that are missing, odd or huge: each row is published or rejected with its reason, never lost or doubled."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet


@pytest.fixture
def score(tmp_path, write_job, published):
    """Score texts given as a list; return the receipt."""

    def run(texts, **changes):
        path = tmp_path / "texts.parquet"
        keys = pa.array([f"k{number}" for number in range(len(texts))])
        body = texts if isinstance(texts, pa.Array) else pa.array(texts, pa.string())
        parquet.write_table(pa.table({"id": keys, "body": body}), path)
        source = {"path": str(path), "key": "id", "keep": None}
        return published(write_job(source=source, **changes))

    return run


def test_null_empty_and_blank_texts_are_rejects_with_their_reasons(score, tables):
    receipt = score([None, "", " \t\r\n", "\u00a0\u2003\u3000", "\u200b\ufeff", "\x00", "good"])
    assert receipt["rejects"] == {"empty_text": 5, "null_text": 1}
    assert tables("SELECT id, reason, windrow_partition FROM {r} ORDER BY id")[0] == ("k0", "null_text", "all")
    assert tables("SELECT id, label IS NOT NULL FROM {t}") == [("k6", True)]


def test_a_text_of_two_megabytes_is_too_large_and_the_limit_can_be_raised(score, tables):
    texts = ["good film " * 200_000, "bad"]
    assert score(texts)["rejects"] == {"too_large": 1}
    assert tables("SELECT detail FROM {r}") == [("2000000 bytes; limits.max_text_bytes is 1048576",)]
    assert score(texts, limits={"max_text_bytes": 3_000_000})["rows_published"] == 2
    assert tables("SELECT windrow_tokens, windrow_truncated FROM {t} WHERE id = 'k0'") == [
        (pytest.approx(400_000, rel=0.02), False)
    ]


def test_nul_bytes_and_emoji_and_combining_marks_are_scored(score, tables):
    texts = ["good\x00film", "\x00\x00bad", "👍🏽 great 🏳️‍🌈", "cafe\u0301 was good", "\U0010ffff fine", "‮good‬"]
    receipt = score(texts)
    assert receipt["rows_published"] == 6
    assert receipt["texts_distinct"] == 6
    assert tables("SELECT count(*) FROM {t} WHERE label IS NULL OR isnan(score)") == [(0,)]


def test_bytes_that_are_no_utf8_are_rejects_and_say_where(score, tables):
    raw = pa.array([b"good", b"lone \xed\xa0\x80 surrogate", b"cut \xe2\x82", b"latin \xe9", b"bad"], pa.binary())
    receipt = score(pa.Array.from_buffers(pa.string(), len(raw), raw.buffers()))
    assert receipt["rejects"] == {"invalid_utf8": 3}
    assert tables("SELECT id, detail FROM {r} ORDER BY id") == [
        ("k1", "column 'body' is not UTF-8 at byte 5"),
        ("k2", "column 'body' is not UTF-8 at byte 4"),
        ("k3", "column 'body' is not UTF-8 at byte 6"),
    ]


def test_a_lone_surrogate_in_json_lines_is_one_reject(tmp_path, write_job, published, tables):
    path = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"id": 1, "body": "good"}),
        '{"id": 2, "body": "lone \\ud800 surrogate"}',
        json.dumps({"id": 3, "body": "😀"}),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    receipt = published(write_job(source={"path": str(path), "key": "id", "keep": None}))
    assert receipt["rejects"] == {"malformed_row": 1}
    assert tables("SELECT id FROM {t} ORDER BY id") == [(1,), (3,)]
    assert "line 2" in tables("SELECT detail FROM {r}")[0][0]


def test_the_same_text_in_many_rows_is_scored_once(score, tables):
    receipt = score(["good", "bad", "good", "good"])
    assert (receipt["texts_distinct"], receipt["texts_scored"], receipt["rows_published"]) == (2, 2, 4)
    assert tables("SELECT count(DISTINCT score) FROM {t} WHERE id IN ('k0', 'k2', 'k3')") == [(1,)]


def test_texts_that_differ_in_a_blank_are_different_texts(score):
    assert score(["good", "good ", " good", "Good"])["texts_distinct"] == 4


def test_a_run_whose_texts_are_all_rejects_publishes_none(score, tables):
    receipt = score([None, "", "  "])
    assert (receipt["rows_published"], receipt["texts_distinct"]) == (0, 0)
    assert tables("SELECT count(*) FROM {t}") == [(0,)]


def test_other_scripts_are_rejects_under_an_english_only_model(score, tables):
    texts = [
        "a great film",
        "это был хороший фильм",
        "映画はとても良かった",
        "c'était très bien à Zürich",
        "🙂🙂🙂",
        "Ωραία ταινία but fine",
    ]
    receipt = score(texts, model="windrow/minilm-sentiment")
    assert receipt["rejects"] == {"unsupported_script": 3}
    assert [row[0] for row in tables("SELECT id FROM {r} ORDER BY id")] == ["k1", "k2", "k5"]


def test_other_scripts_are_scored_by_a_model_that_does_not_declare_a_language(score):
    assert score(["это был хороший фильм", "映画"])["rows_published"] == 2


def test_a_text_over_the_model_length_is_read_in_windows_and_not_cut(score, tables):
    receipt = score(["good film " * 2000, "bad phone"])
    assert receipt["rows_truncated"] == 0
    assert tables("SELECT windrow_tokens > 4000, windrow_truncated FROM {t} WHERE id = 'k0'") == [(True, False)]


def test_a_job_may_cut_long_texts_and_then_says_so(score, tables):
    receipt = score(["good film " * 2000, "bad phone"], task={"name": "sentiment", "truncate": True})
    assert receipt["rows_truncated"] == 1
    assert tables("SELECT id, windrow_tokens FROM {t} WHERE windrow_truncated") == [("k0", 512)]


def test_several_text_columns_are_joined_and_null_only_if_all_are(tmp_path, write_job, published, tables):
    path = tmp_path / "texts.jsonl.gz"
    rows = [("good", "film"), (None, "film"), (None, None), ("", ""), ("good\n\nfilm", None)]
    with gzip.open(path, "wt", encoding="utf-8") as file:
        for number, (title, body) in enumerate(rows):
            file.write(json.dumps({"id": number, "title": title, "body": body}) + "\n")
    receipt = published(write_job(source={"path": str(path), "key": "id", "keep": None, "text": ["title", "body"]}))
    assert receipt["rejects"] == {"empty_text": 1, "null_text": 1}
    assert receipt["texts_distinct"] == 2
    assert tables("SELECT count(DISTINCT windrow_run_id) FROM {t}") == [(1,)]
