"""Jobs and calls that are wrong: exit 2, what and the fix, nothing written."""

from __future__ import annotations

import json

import pytest


def test_a_job_file_that_is_missing_or_no_yaml_is_refused(call, refused, tmp_path):
    refused(call("run", tmp_path / "nowhere.yaml"), 2, "nowhere.yaml", "cannot be read")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [a\nsource: }", encoding="utf-8")
    refused(call("run", broken), 2, "not valid YAML at line 2")
    broken.write_bytes(b"\xff\xfe\x00name")
    refused(call("run", broken), 2, "cannot be read")
    broken.write_text("", encoding="utf-8")
    refused(call("run", broken), 2, "holds no fields")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"limit": 3}, ["Unknown field 'limit'", "did you mean 'limits'"]),
        ({"source": {"keys": "id"}}, ["Unknown field 'source.keys'", "did you mean 'key'"]),
        ({"task": "sentimant"}, ["Unknown task 'sentimant'", "did you mean 'sentiment'"]),
        ({"task": {"name": "sentiment", "max_words": 3}}, ["max_words"]),
        ({"task": {"name": "sentiment", "truncate": "perhaps"}}, ["task.truncate"]),
        ({"engine": "torsh"}, ["Unknown engine 'torsh'", "did you mean 'torch'"]),
        ({"precision": "fp8"}, ["precision"]),
        ({"limits": {"max_reject_share": 1.5}}, ["limits.max_reject_share"]),
        ({"model": "windrow/minilm-sentimant"}, ["does not exist", "did you mean 'windrow/minilm-sentiment'"]),
        ({"model": "/no/model/is/here"}, ["/no/model/is/here", "does not exist"]),
        ({"warehouse": {"url": "duckbd:///x.duckdb"}}, ["'duckbd'", "did you mean 'duckdb'"]),
        ({"warehouse": {"table": "a.b.c"}}, ["is no table name"]),
        ({"warehouse": {"url": None, "connection": "nobody"}}, ["Connection 'nobody'", "WINDROW_CONN_NOBODY"]),
        ({"store": "${NOT_SET_ANYWHERE}/store"}, ["NOT_SET_ANYWHERE is not set"]),
    ],
)
def test_a_wrong_field_is_named_with_the_nearest_choice(call, refused, write_job, tmp_path, changes, words):
    refused(call("run", write_job(**changes)), 2, *words)
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_a_call_that_is_wrong_is_refused(call, refused, write_job):
    refused(call("run", write_job(), "--partitoin", "x"), 2, "--partitoin")
    refused(call("runn"), 2, "runn")
    refused(call("run", write_job(), "--limit", "0"), 2, "limit")
    refused(call("run", write_job(), "--partition", ""), 2, "partition")


def test_a_source_with_a_partition_in_its_path_needs_one(call, refused, write_job):
    refused(call("run", write_job(source={"path": "data/{partition}.parquet"})), 2, "--partition")


def test_json_is_one_object_on_standard_output_and_nothing_else(call, write_job):
    result = call("run", write_job(), "--json")
    assert json.loads(result.stdout)["rows_published"] == 5
    assert result.stdout.count("\n") == 1


def test_the_receipt_shows_no_secret_of_the_environment(call, write_job, tmp_path, monkeypatch, home):
    monkeypatch.setenv("HUSH_FOLDER", str(tmp_path / "hush"))
    job = write_job(warehouse={"url": "duckdb:///${HUSH_FOLDER}/w.duckdb"})
    result = call("run", job, "--json")
    assert json.loads(result.stdout)["warehouse"] == "duckdb:///${HUSH_FOLDER}/w.duckdb"
    written = b"".join(file.read_bytes() for file in (tmp_path / "store").rglob("*.json"))
    assert b"hush" not in written


def test_the_audit_refuses_and_changes_nothing(call, refused, write_job, tables, tmp_path):
    assert call("run", write_job()).returncode == 0
    before = tables("SELECT * FROM {t} ORDER BY review_id")
    path = tmp_path / "bad.csv"
    path.write_text("review_id,body,stars\nr0,,1\nr1,good,2\n", encoding="utf-8")
    job = write_job(source={"path": str(path)}, limits={"max_reject_share": 0.1})
    refused(call("run", job), 3, "1 of 2 rows are rejects", "empty_text 1", "max_reject_share")
    assert tables("SELECT * FROM {t} ORDER BY review_id") == before
    assert tables("SELECT count(*) FROM {l}") == [(1,)]
