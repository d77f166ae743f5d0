"""What the gates of a job say of a run's counts."""

import dataclasses

import pytest

from test_receipt import RECEIPT
from windrow import Job
from windrow.errors import AuditError, JobError, ReviewError
from windrow.quality.audit import audit
from windrow.quality.drift import compared
from windrow.quality.measure import Measures
from windrow.quality.verdict import Judge

FIELDS = {
    "name": "j",
    "source": {"path": "p.csv", "text": "body", "key": "id"},
    "task": "sentiment",
    "model": "m",
    "warehouse": {"url": "duckdb:///w.duckdb", "table": "t"},
}
RUN = dataclasses.replace(RECEIPT, rows_in=1_000, rows_published=900, rows_rejected=100, labels={"a": 600, "b": 300})


def job(limits=None, **quality):
    return Job(**FIELDS, limits=limits or {}, quality=quality)


def checks(asked, measures=None, before=None, receipt=RUN):
    drift = compared(receipt.labels, before, "r0", ("2026-11-22",), True) if before else None
    return list(Judge(asked, receipt, measures or Measures(), drift).checks())


def statuses(*args, **kwargs):
    return {check.name: check.status for check in checks(*args, **kwargs)}


def test_a_job_without_gates_has_no_checks():
    assert checks(job()) == []


@pytest.mark.parametrize("on_breach", ["fail", "warn", "ask"])
@pytest.mark.parametrize(("share", "breached"), [(0.05, True), (0.1, False), (0.2, False)])
def test_rejects_are_held_against_their_share(on_breach, share, breached):
    gate = {"max_share": share, "on_breach": on_breach}
    assert statuses(job(reject_share=gate)) == {"reject_share.max_share": on_breach if breached else "pass"}


def test_the_limit_of_the_job_is_among_the_checks():
    assert statuses(job(limits={"max_reject_share": 0.5})) == {"limits.max_reject_share": "pass"}


def test_labels_that_moved_far_breach_and_say_from_where():
    (check,) = checks(job(label_drift={"on_breach": "ask"}), before={"a": 3_000, "b": 7_000})
    assert (check.name, check.status, check.limit) == ("label_drift.max_psi", "ask", 0.25)
    assert check.value == pytest.approx(0.56, abs=0.01)
    assert "2026-11-22" in check.detail
    assert "p = " in check.detail


def test_labels_that_moved_a_little_do_not():
    assert statuses(job(label_drift={}), before={"a": 6_100, "b": 3_900}) == {"label_drift.max_psi": "pass"}


def test_a_great_difference_that_may_be_chance_is_no_breach():
    few = dataclasses.replace(RUN, labels={"a": 7, "b": 3})
    (check,) = checks(job(label_drift={}, min_rows=1), before={"a": 40, "b": 60}, receipt=few)
    assert (check.status, check.value > 0.25) == ("pass", True)
    assert "may be chance" in check.detail


def test_the_first_partition_passes_with_a_note():
    (check,) = checks(job(label_drift={}))
    assert (check.status, check.value) == ("pass", None)
    assert "no earlier partition" in check.detail


def test_scores_are_held_against_their_mean_and_their_low_share():
    gate = {"min_mean": 0.8, "low": 0.6, "max_low_share": 0.1, "on_breach": "warn"}
    names = ("confidence.min_mean", "confidence.max_low_share")
    sure, unsure = Measures(mean_score=0.9, low_share=0.05), Measures(mean_score=0.7, low_share=0.3)
    assert statuses(job(confidence=gate), sure) == dict.fromkeys(names, "pass")
    assert statuses(job(confidence=gate), unsure) == dict.fromkeys(names, "warn")


@pytest.mark.parametrize(
    ("length", "expected"),
    [(5, ("fail", "pass")), (20, ("pass", "pass")), (90, ("pass", "fail")), (None, ("pass",) * 2)],
)
def test_lengths_have_a_least_and_a_greatest_mean(length, expected):
    found = statuses(job(length={"min_mean": 10, "max_mean": 50}), Measures(mean_length=length))
    assert found == dict(zip(("length.min_mean", "length.max_mean"), expected, strict=True))


def test_empty_outputs_are_blank_rows_and_empty_rejects_together():
    receipt = dataclasses.replace(RUN, rejects={"empty_output": 100})
    (check,) = checks(job(empty_outputs={"max_share": 0.1}), Measures(empty=50), receipt=receipt)
    assert (check.status, check.value) == ("fail", 0.15)


def test_few_rows_breach_nothing_and_it_is_said():
    small = dataclasses.replace(RUN, rows_in=99, rows_published=49, rows_rejected=50, labels={"a": 49})
    gates = {"reject_share": {"max_share": 0}, "label_drift": {}, "length": {"max_mean": 1}}
    found = checks(job(**gates), Measures(mean_length=9), {"b": 900}, small)
    assert [check.status for check in found] == ["pass"] * 3
    assert all("quality.min_rows is 100" in check.detail for check in found)
    assert {
        check.status for check in checks(job(**gates, min_rows=49), Measures(mean_length=9), {"b": 900}, small)
    } == {"fail"}


def audited(*found):
    names = ("name", "status", "detail")
    told = [{**dict(zip(names, check, strict=True)), "value": 1.0, "limit": 0.5} for check in found]
    audit(job(), dataclasses.replace(RUN, quality={"checks": told}))


def test_a_gate_that_fails_is_named_with_what_was_found():
    with pytest.raises(AuditError, match=r"length\.max_mean: too long\. Nothing") as refused:
        audited(("length.max_mean", "fail", "too long"), ("label_drift.max_psi", "ask", "moved"))
    assert not isinstance(refused.value, ReviewError)
    assert "quality.length.max_mean" in refused.value.fix


def test_a_gate_that_asks_says_how_to_approve():
    with pytest.raises(ReviewError, match=r"label_drift\.max_psi: moved") as asked:
        audited(("label_drift.max_psi", "ask", "moved"))
    assert "--approve" in asked.value.fix
    assert (asked.value.exit_code, asked.value.retryable) == (3, False)


def test_warnings_and_approvals_let_it_pass(caplog):
    audited(("length.max_mean", "warn", "too long"), ("label_drift.max_psi", "approved", "moved"))
    assert ["length.max_mean" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize(
    ("quality", "words"),
    [
        ({"lable_drift": {}}, "did you mean 'label_drift'"),
        ({"label_drift": {"max_ps": 1}}, "did you mean 'max_psi'"),
        ({"label_drift": {"on_breach": "aks"}}, "did you mean 'ask'"),
        ({"confidence": {}}, "min_mean, max_low_share or both"),
        ({"length": {"min_mean": 3, "max_mean": 2}}, "greater than max_mean"),
        ({"reject_share": {}}, "quality.reject_share.max_share' is missing"),
        ({"samples": 21}, "quality.samples"),
    ],
)
def test_a_wrong_gate_is_named_with_the_nearest_right_one(quality, words):
    with pytest.raises(JobError) as wrong:
        job(**quality)
    assert words in str(wrong.value)
