"""Engines that cannot run what they were chosen for: a clear error, a fall-back that the receipt tells, or a reject."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from models.parts import pictures
from windrow import load
from windrow.engines import exported_engine, fitting, openvino_int8
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import ExportError
from windrow.pilot import choice
from windrow.testing import make_tiny_vit

WORDS = ["good", "bad", "film", "phone", "battery", "great", "awful", "the", "it", "was"]


@pytest.fixture
def many(write_job, tmp_path):
    """Write a job over as many texts as int8 has to be compared on."""
    draw = np.random.default_rng(0)
    bodies = [f"{' '.join(draw.choice(WORDS, 8))} {number}" for number in range(200)]
    table = pa.table({"review_id": list(map(str, range(200))), "body": bodies, "stars": [1] * 200})
    parquet.write_table(table, tmp_path / "many.parquet")
    return partial(write_job, source={"path": str(tmp_path / "many.parquet")}, device="cpu")


@pytest.fixture
def export_fails(monkeypatch):
    def fails(plan, model, form):
        raise ExportError("The export failed.", "set `engine: torch`, or leave engine out.")

    monkeypatch.setattr(exported_engine, "exported", fails)


def test_an_unknown_architecture_is_refused_by_its_name(call, refused, write_job, tiny_classifier, tmp_path):
    folder = shutil.copytree(tiny_classifier, tmp_path / "martian")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "martian"}), encoding="utf-8")
    refused(call("run", write_job(model=str(folder))), 2, "martian")


def test_an_export_that_fails_by_rule_runs_in_pytorch_and_the_receipt_says_why(
    write_job, published, export_fails, tables, monkeypatch
):
    monkeypatch.setattr(fitting, "OPENVINO_ABOVE_TEXTS", 0)
    receipt = published(write_job(precision="fp32", device="cpu"), warning="The export failed. It runs in PyTorch.")
    assert (receipt["engine"], receipt["choice"]["engine"]) == ("torch", "openvino")
    assert receipt["choice"]["fallbacks"] == ["planned: openvino; ran: torch; why: The export failed"]
    [(told,)] = tables("SELECT choice FROM {l}")
    assert json.loads(told) == receipt["choice"]


def test_an_export_that_fails_in_the_pilot_runs_in_pytorch_and_the_receipt_says_why(
    many, published, export_fails, monkeypatch
):
    monkeypatch.setattr(choice, "WORTH_FLOP", 0)
    receipt = published(many())
    assert (receipt["engine"], receipt["choice"]["fallbacks"]) == ("torch", [])
    assert "The export failed." in {trial["refused"] for trial in receipt["choice"]["trials"]}


def test_an_export_that_fails_under_an_engine_that_the_job_names_is_an_error(call, refused, write_job, export_fails):
    refused(call("run", write_job(engine="openvino", device="cpu")), 2, "The export failed.", "engine: torch")


def test_int8_that_disagrees_is_not_taken_and_the_receipt_says_why(many, published, monkeypatch):
    def signs(weight, axis):
        return np.sign(weight).astype(np.int8), np.ones_like(weight.take([0], axis=axis))

    monkeypatch.setattr(choice, "WORTH_FLOP", 0)
    monkeypatch.setattr(openvino_int8, "rounded", signs)
    receipt = published(many(engine="openvino"))
    assert receipt["precision"] != "int8"
    tried = {(trial["engine"], trial["precision"]): trial["refused"] for trial in receipt["choice"]["trials"]}
    assert "gives other outputs in int8 than in fp32" in tried["openvino", "int8"]


def test_a_corrupt_image_is_a_reject_with_its_reason(write_job, published, tables, tmp_path):
    good = pictures(3)
    images = [*good, good[0][:60], b"no image"]
    table = pa.table({"review_id": list("abcde"), "body": pa.array(images, pa.binary()), "stars": [1] * 5})
    parquet.write_table(table, tmp_path / "images.parquet")
    model = str(make_tiny_vit(tmp_path / "vit"))
    receipt = published(
        write_job(source={"path": str(tmp_path / "images.parquet")}, task="image_classify", model=model)
    )
    assert (receipt["rows_published"], receipt["rejects"]) == (3, {"bad_image": 2})
    assert sorted(tables("SELECT review_id FROM {r} WHERE reason = 'bad_image' AND detail <> ''")) == [("d",), ("e",)]


def test_a_device_that_disappears_is_an_error_and_the_same_command_scores_the_rest(
    call, refused, write_job, published, monkeypatch
):
    monkeypatch.setattr(load, "SHARD_TEXTS", 2)
    plain, asked = TorchEngine._logits, []

    def lost_after_two(self, windows, rows):
        if len(asked) >= 2:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        asked.extend(rows)
        return plain(self, windows, rows)

    def counted(self, windows, rows):
        asked.extend(rows)
        return plain(self, windows, rows)

    job = write_job(engine="torch")
    monkeypatch.setattr(TorchEngine, "_logits", lost_after_two)
    refused(call("run", job), 1, "Device 'cpu' failed", "illegal memory access", "it resumes")
    assert len(asked) == 2
    monkeypatch.setattr(TorchEngine, "_logits", counted)
    receipt = published(job)
    assert (receipt["rows_published"], receipt["rejects"], len(asked)) == (5, {}, 5)
