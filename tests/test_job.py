import pickle
from datetime import timedelta

import pytest
from pydantic import ValidationError

from windrow.errors import JobError, ModelError, WindrowError, nearest
from windrow.job import Job, redacted
from windrow.schedule import Schedule


def told(job_fields, **changes):
    from conftest import merged

    with pytest.raises(JobError) as error:
        Job(**merged(job_fields, changes))
    return error.value


def test_a_task_may_be_a_name_or_a_mapping(job_fields):
    assert Job(**job_fields).task == Job(**{**job_fields, "task": {"name": "sentiment"}}).task


def test_columns_may_be_one_or_a_list(job_fields):
    source = Job(**job_fields).source
    assert (source.text, source.key) == (("body",), ("review_id",))


def test_a_job_cannot_be_changed(job_fields):
    with pytest.raises(Exception, match="frozen"):
        Job(**job_fields).name = "other"


def test_an_unknown_field_names_the_nearest_one(job_fields):
    assert "did you mean 'warehouse'?" in told(job_fields, warehous={}).problem
    assert "Unknown field 'source.txt'; did you mean 'text'?" in told(job_fields, source={"txt": "a"}).problem


def test_a_missing_field_is_named_with_its_path(job_fields):
    assert "'warehouse.table' is missing" in told(job_fields, warehouse={"table": None}).problem


def test_a_wrong_choice_names_the_choices(job_fields):
    error = told(job_fields, precision="bf61")
    assert "precision" in error.problem
    assert "did you mean 'bf16'?" in error.fix


def test_a_name_has_lower_case_letters_digits_and_underscores(job_fields):
    error = told(job_fields, name="Review Sentiment")
    assert "'name'" in error.problem
    assert "lower-case" in error.fix


def test_exactly_one_place_is_asked_for(job_fields):
    assert "exactly one of path, hub, query" in told(job_fields, source={"hub": "a/b"}).problem
    assert "url, connection" in told(job_fields, warehouse={"connection": "c"}).problem


def test_passwords_are_never_shown(job_fields):
    secret = "postgresql://ann:s3cret@db/sales"
    job = Job(**{**job_fields, "source": {"query": "SELECT 1", "url": secret, "text": "t", "key": "k"}})
    assert "s3cret" not in repr(job)
    assert "s3cret" not in redacted(secret)


def test_an_error_about_a_url_does_not_show_its_password(job_fields):
    error = told(job_fields, source={"url": "postgresql://ann:s3cret@db/sales"})
    assert "s3cret" not in str(error)


def test_environment_variables_are_filled_in_late(job_fields, monkeypatch):
    monkeypatch.setenv("WHERE", "/somewhere")
    job = Job(**{**job_fields, "store": "${WHERE}/store"})
    assert job.store == "${WHERE}/store"
    assert job.store_url == "/somewhere/store"
    monkeypatch.delenv("WHERE")
    with pytest.raises(JobError, match="WHERE is not set"):
        _ = job.store_url


def test_an_environment_can_name_the_store_of_all_jobs_that_name_none(job_fields, home, monkeypatch):
    unnamed = Job(**{**job_fields, "store": None})
    assert unnamed.store_url == str(home / "store")
    monkeypatch.setenv("WINDROW_STORE", "s3://bucket/store")
    assert unnamed.store_url == "s3://bucket/store"
    assert Job(**{**job_fields, "store": "/mine"}).store_url == "/mine"


def test_relative_paths_start_at_the_job_file(write_job, tmp_path):
    job = Job.from_file(write_job(source={"path": "data/x.csv"}))
    assert job.located(job.source.path) == str(tmp_path / "data/x.csv")


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(ModelError("No weights.", "save them.")))  # noqa: S301
    assert isinstance(error, WindrowError)
    assert (error.problem, error.fix, error.exit_code, error.retryable) == ("No weights.", "save them.", 2, False)


def test_nothing_near_is_not_guessed():
    assert nearest("xyzzy", ["model", "task"]) == ""


@pytest.mark.parametrize(
    ("told", "hours"), [(2, 2), (0.5, 0.5), ("PT2H30M", 2.5), (timedelta(minutes=15), 0.25), ("P1D", 24)]
)
def test_a_deadline_is_hours_or_iso_8601(told, hours):
    assert Schedule(deadline=told).deadline == timedelta(hours=hours)


@pytest.mark.parametrize("told", [0, -1, True, 1e300, float("nan"), "soon", "-PT1H"])
def test_a_deadline_that_is_no_time_is_refused(told):
    with pytest.raises(ValidationError):
        Schedule(deadline=told)
