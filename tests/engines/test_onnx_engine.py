"""ONNX Runtime says what PyTorch says, is exported once, and refuses what it does not run."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import WORDS
from windrow import Job, run
from windrow.engines import EnginePlan, exporting, open_engine
from windrow.engines.device import bytes_saturate
from windrow.errors import ExportError, JobError
from windrow.job import windrow_home
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_family, make_tiny_tagger

TEXTS = ["good film", "the battery was awful and the plot is not lovely " * 9, "bad", "it was not great", "phone"] * 5


@pytest.fixture
def model(home, job_fields):
    return resolve(Job(**job_fields))


def engine_for(model, name="onnxruntime", head="classify", precision="fp32", labels=2):
    return open_engine(EnginePlan(name, head, "cpu", precision, labels), model)


@pytest.mark.parametrize("head", ["classify", "embed"])
def test_its_numbers_are_those_of_pytorch(model, head):
    windows = Tokens(model).windows(TEXTS)
    found, expected = (getattr(engine_for(model, name, head), head)(windows) for name in ("onnxruntime", "torch"))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
    assert not found.failed


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "deberta-v2"])
def test_other_families_are_those_of_pytorch_too(kind, tmp_path, home, job_fields):
    folder = make_tiny_family(tmp_path / kind, WORDS, kind, max_tokens=64)
    model = resolve(Job(**{**job_fields, "model": str(folder)}))
    windows = Tokens(model).windows(TEXTS)
    found, expected = (engine_for(model, name).classify(windows) for name in ("onnxruntime", "torch"))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)


def test_every_token_is_tagged_as_in_pytorch(tmp_path, home, job_fields):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS)
    model = resolve(Job(**{**job_fields, "model": str(folder), "task": "entities"}))
    windows = Tokens(model).windows(TEXTS)
    found, expected = (engine_for(model, name, "tag", labels=None).tag(windows) for name in ("onnxruntime", "torch"))
    for one, two in zip(found.values, expected.values, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_int8_is_near_fp32_and_made_once(model):
    windows = Tokens(model).windows(TEXTS)
    if bytes_saturate():
        with pytest.raises(ExportError, match="other outputs in int8"):
            engine_for(model, precision="int8")
        return
    full, small = (engine_for(model, precision=precision).classify(windows).values for precision in ("fp32", "int8"))
    assert 0 < np.abs(full - small).max() < 0.5
    (folder,) = (windrow_home() / "exports").iterdir()
    assert sorted(file.name for file in folder.iterdir()) == ["answers.npz", "facts.json", "int8.onnx", "model.onnx"]


def test_a_model_is_exported_once(model, monkeypatch):
    engine_for(model)
    monkeypatch.setattr(exporting, "export", None)
    engine_for(model)


def test_an_export_that_says_something_else_is_never_used(model, monkeypatch):
    monkeypatch.setattr(exporting, "_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"exported to ONNX: its outputs differ from PyTorch's\n.*engine: torch"):
        engine_for(model)
    assert list((windrow_home() / "exports").iterdir()) == []


def test_what_it_cannot_run_is_refused_with_the_fix(model):
    for head, device, precision in (
        ("generate", "cpu", "fp32"),
        ("classify", "cuda", "fp32"),
        ("embed", "cpu", "bf16"),
    ):
        with pytest.raises(JobError, match=r"'onnxruntime' runs encoders on a CPU in fp32 or int8.*\n.*engine: torch"):
            open_engine(EnginePlan("onnxruntime", head, device, precision), model)


def test_a_job_that_names_it_publishes_what_pytorch_publishes(home, job_fields):
    base = {**job_fields, "precision": "fp32"}
    named = run(Job(**base, engine="onnxruntime"))
    with_torch = run(Job(**{**base, "engine": "torch", "store": str(home / "torch")}))
    assert (named.engine, named.labels, named.fingerprint) == ("onnxruntime", with_torch.labels, with_torch.fingerprint)
