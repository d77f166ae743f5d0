import json
import time
from datetime import UTC, datetime

import jsonschema
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from windrow import Job, run
from windrow.engines.several import open_on
from windrow.errors import JobError, ModelError, SchemaError, SourceError
from windrow.history import explain_row
from windrow.inspect import bundled_models, check_job, job_schema, plan_job
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.pilot import rehearsal
from windrow.pilot.timing import timed
from windrow.tasks import TASKS

README_JOB = """
name: review_sentiment
source:
  path: data/reviews/*.parquet
  text: body
  key: review_id
  keep: [product, stars]
task: sentiment
model: windrow/minilm-sentiment
warehouse:
  url: duckdb:///warehouse.duckdb
  table: analytics.review_sentiment
limits: {max_reject_share: 0.01}
"""


@pytest.fixture
def job(job_fields, home):
    return Job(**job_fields)


def written(store):
    """Files under a store, scratch left out."""
    return sorted(str(file) for part in ("runs", "predictions") for file in (store / part).rglob("*") if file.is_file())


def test_check_tells_what_a_run_would_use_and_writes_nothing(job, tmp_path):
    facts = check_job(job)
    assert facts["columns"] == "review_id (string), stars (int8)"
    assert facts["task"] == "sentiment: label, score"
    assert (facts["table"], facts["partition"]) == ("analytics.review_sentiment", "all")
    assert facts["engine"].startswith("auto, ")
    assert not (tmp_path / "store").exists()
    assert not (tmp_path / "warehouse.duckdb").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "problem"),
    [
        ({"engine": "torhc"}, JobError, "did you mean 'torch'"),
        ({"task": "sentimant"}, JobError, "did you mean 'sentiment'"),
        ({"model": "nowhere/at/all"}, ModelError, "does not exist"),
        ({"source": {"path": "nothing.parquet", "text": "body", "key": "review_id"}}, SourceError, "nothing.parquet"),
        ({"warehouse": {"url": "oracle://x/y", "table": "t"}}, JobError, "oracle"),
    ],
)
def test_check_finds_what_is_wrong_before_anything_runs(changes, kind, problem, job_fields, home, tmp_path):
    with pytest.raises(kind, match=problem):
        check_job(Job(**{**job_fields, **changes, "folder": str(tmp_path)}))


def test_check_refuses_a_table_that_cannot_be_filled(job, job_fields):
    import duckdb

    run(job)
    with duckdb.connect(job_fields["warehouse"]["url"].removeprefix("duckdb:///")) as con:
        con.execute("ALTER TABLE analytics.review_sentiment ALTER stars TYPE VARCHAR")
    with pytest.raises(SchemaError, match="stars"):
        check_job(job)


def test_plan_counts_and_estimates_and_keeps_no_prediction(job, tmp_path):
    facts = plan_job(job)
    assert (facts["rows_in"], facts["rows_rejected"], facts["texts_distinct"]) == (5, 0, 5)
    assert (facts["texts_reused"], facts["texts_to_score"]) == (0, 5)
    texts = parquet.read_table(job.source.path)["body"].to_pylist()
    assert facts["tokens"] == int(Tokens(resolve(job)).windows(texts).lengths.sum())
    assert facts["texts_per_s"] > 0
    assert facts["estimated_s"] > 0
    assert facts["rows_per_s"] > 0
    assert written(tmp_path / "store") == []
    assert not (tmp_path / "warehouse.duckdb").exists()


def test_plan_tells_rows_a_second_and_when_a_run_that_begins_now_would_be_done(job, monkeypatch):
    now = datetime(2026, 11, 23, 23, 59, tzinfo=UTC)
    monkeypatch.setattr("windrow.inspect.utc_now", lambda: now)
    facts = plan_job(job)
    done = datetime.fromisoformat(facts["finished_at"])
    assert abs((done - now).total_seconds() - facts["estimated_s"]) <= 1.1
    assert 5 / facts["rows_per_s"] == pytest.approx(facts["estimated_s"], abs=0.06)  # told to a tenth of a second


def test_plan_counts_the_seconds_until_the_model_is_open(job, monkeypatch):
    def slowly(*args):
        time.sleep(1.5)
        return open_on(*args)

    monkeypatch.setattr(rehearsal, "open_on", slowly)
    facts = plan_job(job)
    assert facts["interval_s"][0] >= 1.5
    assert facts["estimated_s"] >= 1.5


def test_plan_takes_fewer_texts_of_a_partition_with_long_ones(job_fields, home, tmp_path, monkeypatch):
    rows = pa.table({"review_id": list(map(str, range(200))), "body": [f"good film {n} " * 40 for n in range(200)]})
    parquet.write_table(rows, tmp_path / "long.parquet")
    taken = []

    def spied(task, engine, tokens, texts, limit):
        taken.append(sum(len(text) for text in texts))
        return timed(task, engine, tokens, texts, limit)

    monkeypatch.setattr(rehearsal, "timed", spied)
    monkeypatch.setattr(rehearsal, "_BYTES", 20_000)
    source = {"path": str(tmp_path / "long.parquet"), "text": "body", "key": "review_id"}
    facts = plan_job(Job(**{**job_fields, "source": source}))
    assert facts["texts_to_score"] == 200
    assert 10_000 <= taken[0] <= 40_000


def test_plan_after_a_run_finds_nothing_left_to_score(job):
    run(job)
    facts = plan_job(job)
    assert (facts["texts_reused"], facts["texts_to_score"], facts["tokens"]) == (5, 0, 0)


def test_plan_of_an_empty_source_scores_nothing(job_fields, home, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    source = {**job_fields["source"], "path": str(tmp_path / "empty.jsonl")}
    facts = plan_job(Job(**{**job_fields, "source": source}))
    assert (facts["rows_in"], facts["texts_to_score"]) == (0, 0)


def test_explain_names_the_run_that_made_a_row(job):
    receipt = run(job, partition="2026-11-23")
    found = explain_row(job, ["r1"])
    [row] = found["rows"]
    assert (row["review_id"], row["windrow_partition"], row["windrow_run_id"]) == ("r1", "2026-11-23", receipt.run_id)
    assert (row["revision"], row["engine"], row["task"]) == (receipt.revision, "torch", "sentiment")
    assert isinstance(row["finished_at"], datetime)
    assert found["rejects"] == []


def test_explain_finds_the_reason_of_a_reject(job_fields, home, tmp_path):
    (tmp_path / "rows.csv").write_text("review_id,body,stars\n1,good film,5\n2,  ,1\n")
    job = Job(**{**job_fields, "source": {**job_fields["source"], "path": str(tmp_path / "rows.csv")}})
    run(job)
    found = explain_row(job, ["2"])
    assert found["rows"] == []
    assert [row["reason"] for row in found["rejects"]] == ["empty_text"]


def test_explain_of_an_unknown_or_incomplete_key_is_an_error(job):
    run(job)
    with pytest.raises(JobError, match=r"No row of .* has the key r9"):
        explain_row(job, ["r9"])
    with pytest.raises(JobError, match=r"The key has 1 columns \(review_id\), but 2 values were given"):
        explain_row(job, ["r1", "r2"])


def test_explain_keeps_odd_column_names_apart_from_the_statement(job_fields, home, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({'a "b" {c}': "x'y", "body": "good film"}))
    source = {"path": str(tmp_path / "rows.jsonl"), "text": "body", "key": 'a "b" {c}'}
    job = Job(**{**job_fields, "source": source})
    run(job)
    assert explain_row(job, ["x'y"])["rows"][0]["label"] in {"negative", "positive"}


def test_bundled_models_are_listed_with_the_state_of_their_bytes():
    listed = {model["model"]: model for model in bundled_models()}
    assert set(listed) == {"windrow/minilm-sentiment", "windrow/minilm-extractive", "windrow/minilm-embed"}
    assert listed["windrow/minilm-extractive"]["bytes"] == "verified"
    assert all(model["licence"] == "Apache-2.0" for model in listed.values())


def valid(fields):
    jsonschema.Draft202012Validator(job_schema()).validate(fields)


def test_the_schema_accepts_the_example_of_the_readme():
    jsonschema.Draft202012Validator.check_schema(job_schema())
    valid(yaml.safe_load(README_JOB))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": {"name": "summarise", "max_words": 60}},
        {"source": {"hub": "org/name@main", "split": "test", "text": ["title", "body"], "key": ["a", "b"]}},
        {"warehouse": {"connection": "warehouse", "table": "t"}},
        {"precision": "bf16", "device": "cuda:1", "store": "s3://bucket/windrow", "adapter": "org/adapter"},
    ],
)
def test_the_schema_accepts_what_a_job_accepts(changes):
    fields = yaml.safe_load(README_JOB) | changes
    valid(fields)
    Job(**fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"modle": "x"},
        {"folder": "/"},
        {"source": {"path": "x", "text": "body", "key": "id", "keys": "id"}},
        {"source": {"path": "x", "text": "body"}},
        {"limits": {"max_reject_share": 2}},
        {"precision": "fp8"},
        {"name": "Not A Name"},
        {"task": 3},
    ],
)
def test_the_schema_rejects_what_a_job_rejects(changes):
    with pytest.raises(jsonschema.ValidationError):
        valid(yaml.safe_load(README_JOB) | changes)


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_a_schema_of_its_parameters(task):
    schema = job_schema(task)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    assert all(parameter.get("description") for parameter in schema["properties"].values())


def test_the_schema_of_an_unknown_task_is_an_error():
    with pytest.raises(JobError, match="did you mean 'summarise'"):
        job_schema("summarize")


def test_the_commands_print_one_json_object_each(windrow, write_job):
    told = {}
    for command in (["plan", write_job(), "--json"], ["schema"]):
        result = windrow(*command)
        assert result.returncode == 0, result.stderr
        assert len(result.stdout.splitlines()) == 1
        told[command[0]] = json.loads(result.stdout)
    assert told["plan"]["texts_to_score"] == 5
    assert told["schema"] == job_schema()
