"""One run a partition over a span of time."""

from __future__ import annotations

import json

import duckdb
import pytest
from typer.testing import CliRunner

from windrow import Job
from windrow.backfill import backfill
from windrow.cli import app
from windrow.errors import JobError, SourceError
from windrow.partitions import partitions_between


@pytest.fixture
def job_file(home, write_job, tmp_path):
    for day in ("2026-11-21", "2026-11-22", "2026-11-23"):
        line = json.dumps({"review_id": day, "body": f"a film of {day}", "stars": 3})
        (tmp_path / f"{day}.jsonl").write_text(line)
    return write_job(source={"path": str(tmp_path / "{partition}.jsonl")})


@pytest.fixture
def partitions(tmp_path):
    def partitions():
        with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
            query = "SELECT windrow_partition, count(*) FROM analytics.review_sentiment GROUP BY ALL ORDER BY ALL"
            return con.execute(query).fetchall()

    return partitions


def called(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_every_partition_gets_a_run_and_none_is_doubled(job_file, partitions):
    for _ in range(2):
        result = called("backfill", job_file, "--from", "2026-11-21", "--to", "2026-11-23", "--json")
        assert result.exit_code == 0, result.output
        receipts = [json.loads(line) for line in result.stdout.splitlines()]
        assert [receipt["partition"] for receipt in receipts] == ["2026-11-21", "2026-11-22", "2026-11-23"]
    assert partitions() == [("2026-11-21", 1), ("2026-11-22", 1), ("2026-11-23", 1)]
    assert [receipt["texts_scored"] for receipt in receipts] == [0, 0, 0]


def test_missing_leaves_out_what_is_published(job_file, partitions):
    job = Job.from_file(job_file)
    backfill(job, ["2026-11-22"])
    days = list(partitions_between("2026-11-21", "2026-11-23"))
    done = [receipt.partition for receipt in backfill(job, days, missing=True)]
    assert done == ["2026-11-21", "2026-11-23"]
    assert backfill(job, days, missing=True) == []


def test_a_partition_that_fails_is_named_and_those_before_it_stay(job_file, partitions):
    with pytest.raises(SourceError, match=r"Partition 2026-11-24 \(1 of 2 are published\)"):
        backfill(Job.from_file(job_file), ["2026-11-23", "2026-11-24"])
    assert partitions() == [("2026-11-23", 1)]


def test_a_source_that_is_the_same_for_every_partition_is_refused(home, write_job):
    with pytest.raises(JobError, match="same for every partition"):
        backfill(Job.from_file(write_job()), ["2026-11-23"])


@pytest.mark.parametrize(
    ("first", "last", "every", "found"),
    [
        ("2026-11-23T23:00", "2026-11-24T01:00", "hour", ["2026-11-23T2300Z", "2026-11-24", "2026-11-24T0100Z"]),
        ("2026-11-01", "2026-11-20", "week", ["2026-11-01", "2026-11-08", "2026-11-15"]),
        ("2026-12-15", "2027-02-20", "month", ["2026-12-15", "2027-01-15", "2027-02-15"]),
        ("2024-02-28", "2024-03-01", "day", ["2024-02-28", "2024-02-29", "2024-03-01"]),
        ("2026-11-23T02:00+02:00", "2026-11-23", "day", ["2026-11-23"]),
    ],
)  # fmt: skip
def test_partitions_are_named_as_a_schedule_names_them(first, last, every, found):
    assert list(partitions_between(first, last, every)) == found


@pytest.mark.parametrize(
    ("first", "last", "every", "words"),
    [
        ("2026-11-24", "2026-11-23", "day", "comes before the first"),
        ("yesterday", "2026-11-23", "day", "no day or moment"),
        ("2026-11-23", "2026-11-23", "fortnight", "no length"),
        ("2026-01-31", "2026-03-31", "month", "Not every month"),
    ],
)
def test_a_span_that_is_none_is_refused(first, last, every, words):
    with pytest.raises(JobError, match=words):
        list(partitions_between(first, last, every))
