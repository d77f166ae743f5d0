"""Gates over real runs: refused, warned of, approved; the table stays as it was until somebody says yes."""

import dataclasses
import json
import random

import duckdb
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import WORDS, merged
from test_receipt import RECEIPT
from windrow import Job, run
from windrow.errors import AuditError, JobError, ReviewError
from windrow.infer import infer
from windrow.load import load
from windrow.publish import publish
from windrow.quality.approval import Approval, approve
from windrow.quality.review import review
from windrow.store import Store

ASK = {"label_drift": {"on_breach": "ask"}, "min_rows": 20}
ROWS = 60


@pytest.fixture
def write_day(tmp_path):
    def write(day, bodies):
        table = pa.table({"review_id": [f"{day}-{n}" for n in range(len(bodies))], "body": bodies})
        parquet.write_table(table, tmp_path / f"{day}.parquet")

    return write


@pytest.fixture
def make(home, tmp_path, job_fields):
    source = {"path": f"{tmp_path}/{{partition}}.parquet", "keep": None}

    def make(**changes):
        return Job(**merged(merged(job_fields, {"source": source, "quality": ASK}), changes))

    return make


@pytest.fixture
def table(job_fields):
    """Ask the warehouse."""

    def ask(query):
        with duckdb.connect(job_fields["warehouse"]["url"].partition(":///")[2], read_only=True) as con:
            return con.execute(query).fetchall()

    return ask


@pytest.fixture
def drifted(make, write_day, table):
    """A published day, and the next one with rows of the rarer label alone; returns that label."""
    draw = random.Random(1)
    bodies = [" ".join(draw.choices(WORDS, k=4)) for _ in range(ROWS)]
    write_day("2026-11-22", bodies)
    first = run(make(), "2026-11-22")
    assert len(first.labels) == 2
    assert first.quality["drift"] is None
    rare = min(first.labels, key=first.labels.get)
    keys = table(f"SELECT review_id FROM analytics.review_sentiment WHERE label = '{rare}'")
    texts = [bodies[int(key.rpartition("-")[2])] for (key,) in keys]
    write_day("2026-11-23", [texts[n % len(texts)] for n in range(ROWS)])
    return rare


def loaded(job):
    """Load and score the second day, as the first two tasks do."""
    ref = load(job, "2026-11-23").ref
    infer(job, ref)
    return ref


def partitions(table):
    return table("SELECT windrow_partition, count(*) FROM analytics.review_sentiment GROUP BY ALL ORDER BY ALL")


def test_a_gate_that_asks_publishes_nothing_until_it_is_approved(make, drifted, table):
    with pytest.raises(ReviewError, match=r"label_drift\.max_psi: labels against 2026-11-22: PSI"):
        run(make(), "2026-11-23")
    assert partitions(table) == [("2026-11-22", ROWS)]
    receipt = run(make(), "2026-11-23", approved_by="ann")
    assert partitions(table) == [("2026-11-22", ROWS), ("2026-11-23", ROWS)]
    assert receipt.texts_scored == 0
    (check,) = receipt.quality["checks"]
    assert (check["name"], check["status"], check["limit"]) == ("label_drift.max_psi", "approved", 0.25)
    assert receipt.quality["decided_by"] == "ann"
    assert receipt.quality["decided_at"]


def test_the_drift_is_told_against_the_day_before(make, drifted, table):
    receipt = run(make(quality=None), "2026-11-23")
    drift = receipt.quality["drift"]
    ((run_id, labels),) = table("SELECT run_id, labels FROM analytics.windrow_runs WHERE partition = '2026-11-22'")
    assert receipt.quality["checks"] == []
    assert (drift["previous_run_id"], drift["previous"]) == (run_id, labels)
    assert (drift["degrees_of_freedom"], drift["same_fingerprint"]) == (1, True)
    assert drift["psi"] > 0.25
    assert drift["p_value"] < 0.01


def test_the_ledger_holds_what_the_receipt_says(make, drifted, table):
    receipt = run(make(), "2026-11-23", approved_by="ann")
    ((told,),) = table("SELECT quality FROM analytics.windrow_runs WHERE partition = '2026-11-23'")
    assert json.loads(told) == receipt.quality


def test_a_gate_that_fails_is_not_opened_by_an_approval(make, drifted, table):
    with pytest.raises(AuditError, match="refuse"):
        run(make(quality={"label_drift": {"on_breach": "fail"}}), "2026-11-23", approved_by="ann")
    assert partitions(table) == [("2026-11-22", ROWS)]


def test_a_gate_that_warns_publishes_and_says_so(make, drifted, table, caplog):
    receipt = run(make(quality={"label_drift": {"on_breach": "warn"}}), "2026-11-23")
    assert [check["status"] for check in receipt.quality["checks"]] == ["warn"]
    assert "label_drift.max_psi" in caplog.text
    assert partitions(table) == [("2026-11-22", ROWS), ("2026-11-23", ROWS)]


def test_an_approved_run_is_not_asked_about_again(make, drifted):
    job = make()
    ref = loaded(job)
    with pytest.raises(ReviewError):
        publish(job, ref)
    approve(job, ref, "ann")
    approve(job, ref, "bob")
    assert publish(job, ref).quality["decided_by"] == "ann"
    assert publish(job, ref).quality["decided_by"] == "ann"


def test_an_approval_belongs_to_one_run(make, drifted):
    job = make()
    approve(job, loaded(job), "ann")
    ref = loaded(job)
    assert Approval.read(Store(job.store_url), ref) is None
    with pytest.raises(ReviewError):
        publish(job, ref)


def test_the_form_shows_gate_histograms_and_rows(make, drifted, write_day):
    texts = [f"the good film was it {word}" for word in WORDS]
    job = make(quality={"label_drift": {"max_psi": 0, "max_p_value": 1}, "samples": 3, "min_rows": 10})
    write_day("2026-11-23", texts)
    ref = loaded(job)
    with pytest.raises(ReviewError):
        publish(job, ref)
    form = review(job, ref)
    assert form.subject == "Publish partition 2026-11-23 of analytics.review_sentiment?"
    assert "| label_drift.max_psi | **asks** |" in form.body
    assert "| label | here | before | moved by |" in form.body
    for label in ("negative", "positive"):
        assert f"| {label} | " in form.body
    shown = [text for text in texts if text in form.body]
    assert 1 <= len(shown) <= 3


def test_texts_in_the_form_can_be_hidden_or_left_out(make, drifted, write_day):
    texts = [f"the good film was it {word}" for word in WORDS]
    write_day("2026-11-23", texts)
    gate = {"label_drift": {"max_psi": 0, "max_p_value": 1}, "min_rows": 10}
    hidden, left_out = make(quality={**gate, "redact": True}), make(quality={**gate, "samples": 0})
    ref = loaded(hidden)
    assert "hidden, " in review(hidden, ref).body
    for job in (hidden, left_out):
        assert not any(text in review(job, ref).body for text in texts)


def test_a_text_in_the_form_is_no_markup(make, drifted, write_day):
    gate = {"label_drift": {"max_psi": 0, "max_p_value": 1}, "min_rows": 10}
    job = make(quality={**gate, "samples": 20})
    write_day("2026-11-23", [f"film | [it](http://x) <b>{word}</b>\n# the" for word in WORDS])
    body = review(job, loaded(job)).body
    assert r"film \| \[it\]\(http://x\) \<b\>" in body
    assert "<b>" not in body


def test_a_gate_over_a_column_that_the_task_lacks_is_refused_before_anything_is_read(make):
    with pytest.raises(JobError, match=r"quality\.label_drift needs a column 'label'"):
        load(make(task={"name": "summarise"}, model="windrow/minilm-extractive"), "2026-11-23")


def test_an_older_ledger_gets_the_column(make, drifted, table, job_fields):
    with duckdb.connect(job_fields["warehouse"]["url"].partition(":///")[2]) as con:
        con.execute("ALTER TABLE analytics.windrow_runs DROP COLUMN quality")
    run(make(), "2026-11-23", approved_by="ann")
    told = dict(table("SELECT partition, quality IS NOT NULL FROM analytics.windrow_runs"))
    assert told == {"2026-11-22": False, "2026-11-23": True}


def test_the_command_asks_with_exit_code_3_and_publishes_with_approve(drifted, write_job, windrow, table, tmp_path):
    file = write_job(source={"path": f"{tmp_path}/{{partition}}.parquet", "keep": None}, quality=ASK)
    asked = windrow("run", file, "--partition", "2026-11-23")
    assert (asked.returncode, asked.stdout) == (3, "")
    assert "label_drift.max_psi" in asked.stderr
    assert "--approve" in asked.stderr.partition("Fix:")[2]
    assert partitions(table) == [("2026-11-22", ROWS)]
    done = windrow("run", file, "--partition", "2026-11-23", "--approve", "--json")
    assert done.returncode == 0, done.stderr
    quality = json.loads(done.stdout)["quality"]
    assert quality["checks"][0]["status"] == "approved"
    assert quality["decided_by"]
    assert partitions(table) == [("2026-11-22", ROWS), ("2026-11-23", ROWS)]


def test_the_receipt_on_the_screen_tells_what_the_gates_found(capsys):
    from rich.console import Console

    from windrow.console import show_receipt

    check = {"name": "length.max_mean", "status": "warn", "value": 9.0, "limit": 1.0, "detail": "too long"}
    receipt = dataclasses.replace(RECEIPT, quality={"checks": [check, {**check, "status": "pass"}], "drift": None})
    show_receipt(receipt, Console(soft_wrap=True))
    assert "1 of 2 checks pass; length.max_mean warn (too long)" in capsys.readouterr().out
