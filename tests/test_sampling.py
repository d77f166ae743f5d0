"""Sample rows of a run: kept only where the job asks for them, without what is to be hidden."""

import json

import pytest

from windrow import Job, run
from windrow.errors import JobError
from windrow.forget import forget
from windrow.sampling import REDACTED


@pytest.fixture
def sampled(home, job_fields):
    """Run the sound job with changes; return it and the sample rows it kept."""

    def play(**samples):
        job = Job(**{**job_fields, "samples": samples})
        run(job)
        found = [json.loads(file.read_text()) for file in home.parent.glob("store/runs/**/samples.json")]
        return job, found

    return play


def test_a_job_that_does_not_ask_keeps_no_sample_rows(sampled):
    assert sampled()[1] == []


def test_a_job_that_asks_keeps_so_many_rows_with_keys_kept_and_task_columns(sampled):
    (found,) = sampled(rows=3)[1]
    assert [list(row) for row in found["rows"]] == [["review_id", "stars", "label", "score"]] * 3
    assert found["rejects"] == []


def test_redacted_columns_never_reach_the_store(sampled):
    (found,) = sampled(rows=5, redact=["review_id", "label"])[1]
    assert {row["review_id"] for row in found["rows"]} == {row["label"] for row in found["rows"]} == {REDACTED}
    assert all(row["stars"] != REDACTED for row in found["rows"])


def test_a_misspelt_column_is_refused_before_anything_is_scored(sampled, home):
    with pytest.raises(JobError, match=r"samples.redact names 'reviewid', which the table does not have\."):
        sampled(rows=5, redact=["reviewid"])
    assert not list(home.parent.glob("store/predictions/*/*.parquet"))


def test_sample_rows_go_when_one_of_their_run_is_forgotten(sampled, home):
    job, found = sampled(rows=5)
    assert len(found) == 1
    forget(job, [("r1",)])
    assert not list(home.parent.glob("store/runs/**/samples.json"))


def test_rejects_are_sampled_too_and_their_details_hidden_with_any_column(home, job_fields, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"review_id": ["a", "b"], "body": ["good film", None], "stars": pa.array([1, 2], pa.int8())})
    parquet.write_table(table, tmp_path / "some.parquet")
    source = {**job_fields["source"], "path": str(tmp_path / "some.parquet")}
    run(Job(**{**job_fields, "source": source, "samples": {"rows": 2, "redact": "stars"}}))
    (file,) = tmp_path.glob("store/runs/**/samples.json")
    (reject,) = json.loads(file.read_text())["rejects"]
    assert (reject["review_id"], reject["reason"]) == ("b", "null_text")
    assert reject["detail"] in {None, REDACTED}
