"""OpenVINO says what PyTorch says, and where it cannot, PyTorch runs the model and the receipt tells so."""

from __future__ import annotations

import numpy as np
import pytest

from windrow import Job, run
from windrow.engines import EnginePlan, choose_engine, open_engine, open_first, openvino_export
from windrow.errors import ExportError, JobError, ModelError
from windrow.job import windrow_home
from windrow.models import resolve
from windrow.models.tokens import Tokens

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
    monkeypatch.setattr(openvino_export, "_make", None)
    engine_for(model, precision="bf16")
    (folder,) = (windrow_home() / "exports").iterdir()
    assert {file.name for file in folder.iterdir()} == {"facts.json", "model.xml", "model.bin"}


def test_what_it_cannot_run_is_refused_with_the_fix(model):
    for plan in (
        EnginePlan("openvino", "generate", "cpu", "fp32"),
        EnginePlan("openvino", "classify", "cuda", "fp32"),
        EnginePlan("openvino", "classify", "cpu", "fp16"),
    ):
        with pytest.raises(JobError, match="engine: torch"):
            open_engine(plan, model)


def test_an_export_that_says_something_else_is_never_used(model, home, job_fields, monkeypatch, caplog):
    monkeypatch.setattr(openvino_export, "_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match=r"differ from PyTorch's\n.*engine: torch") as told:
        engine_for(model)
    assert isinstance(told.value, ModelError)
    monkeypatch.setattr("windrow.engines.OPENVINO_ABOVE_TEXTS", 1)
    receipt = run(Job(**job_fields))
    assert (receipt.engine, receipt.rows_published) == ("torch", receipt.rows_in)
    assert "It runs in PyTorch" in caplog.text
    with pytest.raises(ExportError):
        run(Job(**{**job_fields, "name": "named", "engine": "openvino", "store": str(home / "other")}))


def test_many_texts_on_a_cpu_run_in_openvino_and_the_receipt_tells_so(home, job_fields, monkeypatch):
    with_torch = run(Job(**{**job_fields, "engine": "torch", "store": str(home / "torch")}))
    monkeypatch.setattr("windrow.engines.OPENVINO_ABOVE_TEXTS", 1)
    receipt = run(Job(**job_fields))
    assert (with_torch.engine, receipt.engine) == ("torch", "openvino")
    assert receipt.labels == with_torch.labels
    assert receipt.fingerprint == with_torch.fingerprint


@pytest.mark.parametrize(
    ("wanted", "head", "device", "precision", "texts", "chosen"),
    [
        ("auto", "classify", "cpu", "bf16", 1000, "openvino"),
        ("auto", "embed", "cpu", "fp32", 10**6, "openvino"),
        ("auto", "classify", "cpu", "fp32", 999, "torch"),
        ("auto", "generate", "cpu", "fp32", 10**6, "torch"),
        ("auto", "classify", "cuda", "bf16", 10**6, "torch"),
        ("torch", "classify", "cpu", "bf16", 10**6, "torch"),
        ("openvino", "classify", "cpu", "bf16", 1, "openvino"),
    ],
)
def test_the_engine_is_chosen_by_head_device_precision_and_texts(wanted, head, device, precision, texts, chosen):
    assert choose_engine(wanted, head, device, precision, texts) == chosen


def test_without_its_package_auto_is_torch_and_naming_it_says_what_to_install(monkeypatch, home, job_fields):
    monkeypatch.setattr("windrow.engines.find_spec", lambda _: None)
    assert choose_engine("auto", "classify", "cpu", "bf16", 10**6) == "torch"
    with pytest.raises(JobError, match=r"pip install 'windrow\[openvino\]'"):
        run(Job(**{**job_fields, "engine": "openvino"}))


def test_a_worker_without_the_package_runs_what_auto_chose_elsewhere_in_pytorch(model, monkeypatch):
    monkeypatch.setattr("windrow.engines.find_spec", lambda _: None)
    assert open_first(EnginePlan("openvino", "classify", "cpu", "fp32", 2), model, "auto").plan.engine == "torch"


def test_an_export_that_cannot_be_written_names_the_folder_and_auto_runs_in_pytorch(model, home):
    home.mkdir(exist_ok=True)
    (home / "exports").write_text("a file where the folder should be")
    with pytest.raises(ExportError, match=r"cannot be written under .*exports'.*\n.*engine: torch"):
        engine_for(model)
    assert open_first(EnginePlan("openvino", "classify", "cpu", "fp32", 2), model, "auto").plan.engine == "torch"
    assert [file.name for file in home.glob("**/making-*")] == []
