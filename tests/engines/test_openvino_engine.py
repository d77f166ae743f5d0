"""OpenVINO says what PyTorch says, and where it cannot, PyTorch runs the model and the receipt tells so."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from conftest import WORDS
from windrow import Job, run
from windrow.engines import (
    ENGINES,
    Candidate,
    EnginePlan,
    candidates,
    exporting,
    exports,
    open_engine,
    open_first,
    openvino_int8,
)
from windrow.engines.pooling import POOLINGS
from windrow.errors import ExportError, JobError, ModelError
from windrow.job import windrow_home
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_tagger

TEXTS = ["good film", "the battery was awful and the plot is not lovely " * 9, "bad", "it was not great", "phone"] * 5


@pytest.fixture
def model(home, job_fields):
    return resolve(Job(**job_fields))


def engine_for(model, name="openvino", head="classify", precision="fp32"):
    return open_engine(EnginePlan(name, head, "cpu", precision, 2), model)


@pytest.mark.parametrize("head", ["classify", "embed"])
def test_its_numbers_are_those_of_pytorch(model, head):
    windows = Tokens(model).windows(TEXTS)
    found, expected = (getattr(engine_for(model, name, head), head)(windows) for name in ("openvino", "torch"))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
    assert found.values.dtype == np.float32
    assert not found.failed


@pytest.mark.parametrize(
    ("tiles", "precision", "tokens"), [(True, "int8", 2048), (True, "fp32", 512), (False, "int8", 512)]
)
def test_processors_with_tiles_are_sent_more_at_once(model, monkeypatch, tiles, precision, tokens):
    monkeypatch.setattr("windrow.engines.openvino_engine.has_tiles", lambda: tiles)
    assert engine_for(model, precision=precision).token_budget == tokens


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_is_that_of_pytorch(pooling, unit, model):
    windows = Tokens(model).windows(TEXTS)
    found, expected = (engine_for(model, n, "embed").embed(windows, pooling, unit) for n in ("openvino", "torch"))
    np.testing.assert_allclose(found.values, expected.values, atol=1e-4)


def test_logits_of_tokens_are_those_of_pytorch(home, job_fields, tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS)
    model = resolve(Job(**{**job_fields, "model": str(folder), "task": "entities"}))
    windows = Tokens(model).windows(TEXTS)
    plans = [EnginePlan(name, "tag", "cpu", "fp32", 5) for name in ("openvino", "torch")]
    found, expected = (open_engine(plan, model).tag(windows) for plan in plans)
    for one, two in zip(found.values, expected.values, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-4)
    assert not found.failed


def test_bf16_agrees_with_fp32(model):
    windows = Tokens(model).windows(TEXTS)
    full, half = (engine_for(model, precision=p).classify(windows).values for p in ("fp32", "bf16"))
    np.testing.assert_allclose(half, full, atol=0.2)


def test_a_token_outside_the_vocabulary_rejects_its_row_alone(model):
    windows = Tokens(model).windows(TEXTS)
    windows.ids[int(windows.offsets[3]) + 1] = 10**6
    outputs = engine_for(model).classify(windows)
    assert set(outputs.failed) == {3}
    assert outputs.failed[3][0] == "model_error"


def test_nothing_at_all_gives_an_empty_result(model):
    assert len(engine_for(model).classify(Tokens(model).windows([])).values) == 0


def test_a_model_is_exported_once_and_nothing_half_made_stays(model, monkeypatch):
    engine_for(model)
    monkeypatch.setattr(exporting, "export", None)
    engine_for(model, precision="bf16")
    (folder,) = (windrow_home() / "exports").iterdir()
    assert {file.name for file in folder.iterdir()} == {"answers.npz", "facts.json", "model.xml", "model.bin"}


def test_int8_is_rounded_once_and_says_the_same_again(model, monkeypatch):
    windows = Tokens(model).windows(TEXTS)
    first = engine_for(model, precision="int8").classify(windows).values
    monkeypatch.setattr(openvino_int8, "quantise", None)
    assert (engine_for(model, precision="int8").classify(windows).values == first).all()
    (folder,) = (windrow_home() / "exports").iterdir()
    assert {file.name for file in folder.glob("int8*")} == {"int8-1.xml", "int8-1.bin"}
    assert not list(folder.glob("making-*"))


def test_int8_that_cannot_be_kept_runs_all_the_same(model, monkeypatch):
    windows = Tokens(model).windows(TEXTS)

    def full(*_, **__):
        raise RuntimeError("No space left on device")

    engine_for(model)
    monkeypatch.setattr("openvino.save_model", full)
    assert np.isfinite(engine_for(model, precision="int8").classify(windows).values).all()
    (folder,) = (windrow_home() / "exports").iterdir()
    assert not [*folder.glob("int8*"), *folder.glob("making-*")]


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("facts.json", 0),
        ("answers.npz", 0),
        ("answers.npz", 0.5),
        ("model.bin", 0.5),
        ("int8-1.xml", 0.5),
        ("int8-1.bin", 0),
    ],
)
def test_an_export_that_was_cut_short_is_made_anew(model, name, share):
    windows = Tokens(model).windows(TEXTS)
    expected = engine_for(model, precision="int8").classify(windows).values
    (folder,) = (windrow_home() / "exports").iterdir()
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(len(whole) * share)])
    assert (engine_for(model, precision="int8").classify(windows).values == expected).all()
    assert (folder / name).stat().st_size == len(whole)
    assert list((windrow_home() / "exports").iterdir()) == [folder]


def test_a_file_of_an_export_that_is_gone_is_made_anew(model):
    windows = Tokens(model).windows(TEXTS)
    expected = engine_for(model).classify(windows).values
    (folder,) = (windrow_home() / "exports").iterdir()
    (folder / "model.bin").unlink()
    assert (engine_for(model).classify(windows).values == expected).all()


def test_an_export_that_cannot_be_read_is_told(model, monkeypatch):
    engine_for(model)
    monkeypatch.setattr(exports, "_read", lambda *_: json.loads("{"))
    with pytest.raises(ExportError, match=r"cannot be read: Expecting .*\n.*remove that folder, or set"):
        engine_for(model)


def test_a_second_run_imports_neither_pytorch_nor_transformers(home, job_fields, tmp_path):
    """As a task of Airflow's is: each run in a process of its own; few texts, since the export is there."""
    script = (
        "import json, sys; from windrow import Job, run; "
        "receipt = run(Job(**json.loads(sys.argv[1]))); "
        "print(receipt.engine, receipt.texts_scored, *sorted({'torch', 'transformers'} & set(sys.modules)))"
    )

    def told(name, **fields):
        asked = json.dumps({**job_fields, "store": str(tmp_path / name), **fields})
        done = subprocess.run([sys.executable, "-c", script, asked], capture_output=True, text=True, check=True)
        return done.stdout.split()

    first, again = told("one", engine="openvino"), told("two")
    assert first == ["openvino", first[1], "torch", "transformers"]
    assert again == ["openvino", first[1]]


def test_what_it_cannot_run_is_refused_with_the_fix(model):
    for plan in (
        EnginePlan("openvino", "generate", "cpu", "fp32"),
        EnginePlan("openvino", "image", "cpu", "fp32"),
        EnginePlan("openvino", "classify", "cuda", "fp32"),
        EnginePlan("openvino", "classify", "cpu", "fp16"),
    ):
        with pytest.raises(JobError, match="engine: torch"):
            open_engine(plan, model)


def test_an_export_that_says_something_else_is_never_used(model, home, job_fields, monkeypatch, caplog):
    monkeypatch.setattr(exporting, "_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"differ from PyTorch's\n.*engine: torch") as told:
        engine_for(model)
    assert isinstance(told.value, ModelError)
    monkeypatch.setattr("windrow.engines.fitting.OPENVINO_ABOVE_TEXTS", 1)
    receipt = run(Job(**job_fields))
    assert (receipt.engine, receipt.rows_published) == ("torch", receipt.rows_in)
    assert "It runs in PyTorch" in caplog.text
    with pytest.raises(ExportError):
        run(Job(**{**job_fields, "name": "named", "engine": "openvino", "store": str(home / "other")}))


def test_many_texts_on_a_cpu_run_in_openvino_and_the_receipt_tells_so(home, job_fields, monkeypatch):
    with_torch = run(Job(**{**job_fields, "engine": "torch", "store": str(home / "torch")}))
    monkeypatch.setattr("windrow.engines.fitting.OPENVINO_ABOVE_TEXTS", 1)
    receipt = run(Job(**job_fields))
    assert (with_torch.engine, receipt.engine) == ("torch", "openvino")
    assert receipt.labels == with_torch.labels
    assert receipt.fingerprint == with_torch.fingerprint


@pytest.mark.parametrize(
    ("engine", "head", "device", "precision", "texts", "first"),
    [
        ("auto", "classify", "cpu", "bf16", 200, "openvino"),
        ("auto", "embed", "cpu", "fp32", 10**6, "openvino"),
        ("auto", "tag", "cpu", "fp32", 10**6, "openvino"),
        ("auto", "classify", "cpu", "fp32", 199, "torch"),
        ("auto", "generate", "cpu", "bf16", 10**6, "torch"),
        ("auto", "classify", "cuda", "bf16", 10**6, "torch"),
        ("torch", "classify", "cpu", "bf16", 10**6, "torch"),
        ("openvino", "classify", "cpu", "bf16", 1, "openvino"),
        ("auto", "classify", "cpu", "int8", 1, "openvino"),
    ],
)
def test_the_rule_goes_by_head_device_precision_and_texts(engine, head, device, precision, texts, first):
    assert candidates(head, device, engine, precision, texts)[0] == Candidate(first, precision)


def test_what_is_exported_already_runs_in_it_however_few_the_texts_are():
    def first(texts, is_exported):
        return candidates("classify", "cpu", "auto", "fp32", texts, is_ready=lambda _: is_exported)[0].engine

    assert [first(1, True), first(1, False), first(200, False)] == ["openvino", "torch", "openvino"]


def test_numerics_left_open_are_the_processors_own_then_int8_then_fp32(monkeypatch):
    monkeypatch.setattr("windrow.engines.device._cpu_has_bf16", lambda: True)
    found = candidates("classify", "cpu", "auto", "auto", 10**6)
    assert [(option.engine, option.precision) for option in found] == [
        ("openvino", "bf16"), ("openvino", "int8"), ("openvino", "fp32"), ("torch", "bf16"), ("torch", "fp32"),
        ("onnxruntime", "int8"), ("onnxruntime", "fp32"),
    ]  # fmt: skip


def test_numerics_that_no_engine_runs_are_refused(home, job_fields):
    with pytest.raises(JobError, match=r"'torch' does not run classify in int8 on cpu\.\n.*leave engine or precision"):
        run(Job(**{**job_fields, "engine": "torch", "precision": "int8"}))


def test_int8_agrees_with_fp32_and_does_not_depend_on_its_neighbours(model):
    plan = EnginePlan("openvino", "classify", "cpu", "int8", 2)
    engine, whole = open_engine(plan, model), open_engine(replace(plan, precision="fp32"), model)
    read = Tokens(model).windows(TEXTS)
    together, exact = engine.classify(read).values, whole.classify(read).values
    assert (together.argmax(axis=1) == exact.argmax(axis=1)).all()
    assert 0 < np.abs(together - exact).max() < 0.5
    for number, text in enumerate(TEXTS):
        alone = engine.classify(Tokens(model).windows([text])).values[0]
        assert np.allclose(alone, together[number], atol=0.05)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_int8_that_is_nonsense_on_this_processor_is_refused(engine, model, monkeypatch):
    name = {"openvino": "OpenVinoEngine", "onnxruntime": "OnnxEngine"}[engine]
    made = getattr(import_module(ENGINES[engine].partition(":")[0]), name)
    real = made.run
    monkeypatch.setattr(made, "run", lambda self, ids, mask: real(self, ids, mask) * 400)
    plan = EnginePlan(engine, "classify", "cpu", "int8", 2)
    with pytest.raises(ExportError, match="other outputs in int8 than in fp32"):
        open_engine(plan, model)


def test_without_its_package_auto_is_torch_and_naming_it_says_what_to_install(monkeypatch, home, job_fields):
    monkeypatch.setattr("windrow.engines.fitting.find_spec", lambda _: None)
    assert candidates("classify", "cpu", "auto", "bf16", 10**6) == [Candidate("torch", "bf16")]
    with pytest.raises(JobError, match=r"pip install 'windrow\[openvino\]'"):
        run(Job(**{**job_fields, "engine": "openvino"}))


def test_a_worker_without_the_package_runs_what_auto_chose_elsewhere_in_pytorch(model, monkeypatch):
    monkeypatch.setattr("windrow.engines.fitting.find_spec", lambda _: None)
    plan = open_first(EnginePlan("openvino", "classify", "cpu", "fp32", 2), model, "auto").plan
    assert plan.engine == "torch"
    assert plan.notes == ["planned: openvino; ran: torch; why: its package is not installed here"]


def test_an_export_that_cannot_be_written_names_the_folder_and_auto_runs_in_pytorch(model, home):
    home.mkdir(exist_ok=True)
    (home / "exports").write_text("a file where the folder should be")
    with pytest.raises(ExportError, match=r"cannot be written under .*exports'.*\n.*engine: torch"):
        engine_for(model)
    assert open_first(EnginePlan("openvino", "classify", "cpu", "fp32", 2), model, "auto").plan.engine == "torch"
    assert [file.name for file in home.glob("**/making-*")] == []
