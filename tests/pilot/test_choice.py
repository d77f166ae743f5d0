"""Engine and numerics are measured on the job's own texts, held against fp32, written down and remembered."""

from __future__ import annotations

import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from windrow import Job, run
from windrow.engines import exported_engine, openvino_engine, openvino_int8
from windrow.engines.device import bytes_saturate
from windrow.errors import ExportError
from windrow.pilot import choice, memory, trials
from windrow.pilot.agreement import Agreement

TEXTS = 300


@pytest.fixture(autouse=True)
def every_job_is_worth_a_pilot(monkeypatch):
    monkeypatch.setattr(choice, "WORTH_FLOP", 0)
    monkeypatch.setattr("windrow.engines.device._cpu_has_bf16", lambda: True)


@pytest.fixture
def fields(job_fields, home, tmp_path):
    rng = np.random.default_rng(0)
    words = ["good", "bad", "film", "phone", "battery", "great", "awful", "the", "it", "was"]
    bodies = [" ".join(rng.choice(words, rng.integers(3, 40))) + f" {number}" for number in range(TEXTS)]
    parquet.write_table(
        pa.table({"review_id": [str(n) for n in range(TEXTS)], "body": bodies}), tmp_path / "many.parquet"
    )
    return job_fields | {"source": {"path": str(tmp_path / "many.parquet"), "text": "body", "key": "review_id"}}


def tried(receipt):
    return {(trial["engine"], trial["precision"]): trial for trial in receipt.choice["trials"]}


def test_every_candidate_is_measured_and_the_receipt_and_ledger_hold_the_table(fields):
    receipt = run(Job(**fields))
    found = tried(receipt)
    kinds = {"torch": ("bf16", "fp32"), "openvino": ("bf16", "int8", "fp32"), "onnxruntime": ("int8", "fp32")}
    assert set(found) == {(engine, kind) for engine, precisions in kinds.items() for kind in precisions}
    if bytes_saturate():
        assert "other outputs in int8" in found.pop(("onnxruntime", "int8"))["refused"]
    assert all(trial["texts_per_s"] > 0 for trial in found.values())
    assert receipt.choice["reason"].startswith("measured: ")
    assert (receipt.engine, receipt.precision) == (receipt.choice["engine"], receipt.choice["precision"])
    fit = [trial for trial in receipt.choice["trials"] if not trial["refused"]]
    assert (receipt.engine, receipt.precision) in {(trial["engine"], trial["precision"]) for trial in fit}
    with duckdb.connect(fields["warehouse"]["url"].removeprefix("duckdb:///")) as con:
        (told,) = con.execute("SELECT choice FROM analytics.windrow_runs").fetchone()
    assert json.loads(told) == json.loads(json.dumps(receipt.choice))


def test_the_fastest_that_agrees_is_taken(fields, monkeypatch):
    speeds = {("torch", "bf16"): 9.0, ("openvino", "bf16"): 20.0, ("openvino", "int8"): 21.0, ("openvino", "fp32"): 5.0}

    def pretend(self, candidate, token_budget, waiting):
        self.expected = pa.table({})
        speed = speeds.get((candidate.engine, candidate.precision), 1.0)
        return trials.Trial(candidate.engine, candidate.precision, token_budget, 100, speed, speed, 1.0, 0.0)

    monkeypatch.setattr(trials.Pilot, "_timed", pretend)
    receipt = run(Job(**fields))
    assert (receipt.engine, receipt.precision) == ("openvino", "bf16"), "int8 has to be a tenth faster"
    assert receipt.choice["reason"] == "measured: 20 tokens/s, 20.0 times torch in fp32"


def test_a_choice_is_remembered_and_measured_once(fields, monkeypatch):
    first = run(Job(**fields))
    monkeypatch.setattr(choice, "Pilot", None)
    again = run(Job(**fields))
    assert again.choice == json.loads(json.dumps(first.choice))
    assert (again.texts_scored, again.fingerprint) == (0, first.fingerprint)


def test_another_machine_keeps_the_numerics_and_measures_its_own_engines(fields, monkeypatch):
    first = run(Job(**fields))
    monkeypatch.setattr(memory, "_processor", lambda: "another")
    again = run(Job(**fields))
    assert (again.texts_scored, again.precision) == (0, first.precision)
    assert {trial["precision"] for trial in again.choice["trials"]} <= {first.precision, "fp32"}


def test_int8_that_disagrees_is_out_and_the_receipt_says_why(fields, monkeypatch):
    def signs(weight, axis):
        return np.sign(weight).astype(np.int8), np.ones_like(weight.take([0], axis=axis))

    monkeypatch.setattr(openvino_int8, "rounded", signs)
    monkeypatch.setattr(openvino_engine, "is_near", lambda *_: True)
    receipt = run(Job(**fields))
    assert receipt.precision != "int8"
    refused = tried(receipt)["openvino", "int8"]["refused"]
    assert "agree on" in refused or "shift by" in refused


def test_an_export_that_fails_leaves_pytorch_and_says_why(fields, monkeypatch):
    def fails(plan, model, form):
        raise ExportError("The export failed.", "set `engine: torch`.")

    monkeypatch.setattr(exported_engine, "exported", fails)
    receipt = run(Job(**fields))
    assert receipt.engine == "torch"
    assert tried(receipt)["openvino", "bf16"]["refused"] == "The export failed."


def test_too_few_texts_compared_are_not_enough_for_int8(fields, monkeypatch):
    monkeypatch.setattr(trials, "LEAST_COMPARED", TEXTS + 1)
    monkeypatch.setattr(trials, "agreement", lambda *_: Agreement(1.0))
    receipt = run(Job(**fields))
    assert "too few to trust int8" in tried(receipt)["openvino", "int8"]["refused"]
    assert receipt.precision != "int8"


@pytest.mark.parametrize(
    ("asked", "engine", "precision"),
    [
        ({"engine": "torch", "precision": "fp32"}, "torch", "fp32"),
        ({"engine": "openvino", "precision": "int8"}, "openvino", "int8"),
    ],
)
def test_what_the_job_says_is_not_measured(fields, monkeypatch, asked, engine, precision):
    monkeypatch.setattr(choice, "Pilot", None)
    receipt = run(Job(**fields, **asked))
    assert (receipt.engine, receipt.precision, receipt.choice["trials"]) == (engine, precision, [])
    assert receipt.choice["reason"] == "nothing else fits the job"


def test_a_precision_that_the_job_names_is_kept_though_it_disagrees(fields, monkeypatch):
    monkeypatch.setattr(trials, "agreement", lambda *_: Agreement(0.5, refused="labels agree on 50 %"))
    receipt = run(Job(**fields, precision="bf16"))
    assert receipt.precision == "bf16"
    assert all(trial["refused"] for trial in receipt.choice["trials"])


def test_where_nothing_agrees_fp32_is_left(fields, monkeypatch):
    real = trials.agreement

    def strict(reference, other):
        return real(reference, other) if reference is other or reference.equals(other) else Agreement(0, refused="no")

    monkeypatch.setattr(trials, "agreement", strict)
    # held against PyTorch: OpenVINO computes bf16 in fp32 where the processor lacks it, and would agree with itself
    monkeypatch.setattr("windrow.engines.fitting.OPENVINO_ABOVE_TEXTS", TEXTS + 1)
    assert run(Job(**fields)).precision == "fp32"


def test_a_small_job_goes_by_rule(fields, monkeypatch):
    monkeypatch.setattr(choice, "WORTH_FLOP", 1e18)
    monkeypatch.setattr(choice, "Pilot", None)
    receipt = run(Job(**fields))
    assert receipt.choice["reason"] == "too little work for a pilot: by rule"
    assert receipt.engine == "openvino"


def test_a_broken_memory_is_measured_anew(fields, tmp_path):
    run(Job(**fields))
    for file in (tmp_path / "store" / "choices").rglob("*.json"):
        file.write_text("{")
    assert run(Job(**fields)).choice["reason"].startswith("measured: ")
