"""CTranslate2 writes what PyTorch writes, and where it cannot, PyTorch does and the receipt tells so."""

import json

import numpy as np
import pyarrow as pa
import pytest
from ctranslate2.specs.common_spec import LinearSpec
from ctranslate2.specs.model_spec import visit_spec
from pyarrow import parquet

from models.parts import WORDS, job_of
from windrow import Job, run
from windrow.engines import (
    Candidate,
    Decoding,
    EnginePlan,
    candidates,
    ctranslate2_engine,
    ctranslate2_export,
    open_engine,
    open_first,
)
from windrow.errors import ExportError, JobError
from windrow.job import windrow_home
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_classifier, make_tiny_seq2seq

MIXED = np.random.default_rng(0)
TEXTS = [" ".join(MIXED.choice(WORDS, int(count))) for count in MIXED.integers(1, 55, 16)]
PLAIN = Decoding(None, {"do_sample": False})


def made(folder, kind="bart", **settings):
    """Return a tiny model; Marian's configuration forbids its padding, as real ones do."""
    folder = make_tiny_seq2seq(folder, WORDS, kind, seed=2, max_length=20, **settings)
    if kind == "marian":
        file = folder / "generation_config.json"
        told = json.loads(file.read_text())
        file.write_text(json.dumps({**told, "bad_words_ids": [[told["pad_token_id"]]]}))
    return resolve(job_of(folder, "summarise"))


@pytest.fixture
def model(home, tmp_path):
    return made(tmp_path / "tiny")


def plan_of(engine="ctranslate2", precision="fp32", decoding=PLAIN):
    return EnginePlan(engine, "generate", "cpu", precision, decoding=decoding)


def engine_for(model, **asked):
    return open_engine(plan_of(**asked), model)


@pytest.mark.parametrize("kind", ["bart", "marian", "nllb", "pegasus", "t5"])
@pytest.mark.parametrize(
    ("limit", "options"),
    [
        (None, {}),
        (9, {"min_new_tokens": 4, "no_repeat_ngram_size": 2}),
        (None, {"min_length": 6, "forced_bos_token_id": 20, "forced_eos_token_id": 1, "suppress_tokens": [30, 31]}),
    ],
    ids=["plain", "lengths", "forced"],
)
def test_it_writes_what_pytorch_writes_token_for_token(home, tmp_path, kind, limit, options):
    model = made(tmp_path / "tiny", kind)
    windows = Tokens(model).windows(TEXTS, truncate=True)
    decoding = Decoding(limit, {"do_sample": False, **options})
    found, expected = (engine_for(model, engine=name).generate(windows, decoding) for name in ("ctranslate2", "torch"))
    assert [row.tolist() for row in found.values] == [row.tolist() for row in expected.values]
    assert {row.dtype for row in found.values} == {np.dtype(np.int32)}
    assert not found.failed


def test_beams_are_searched(model):
    windows = Tokens(model).windows(TEXTS, truncate=True)
    decoding = Decoding(8, {"do_sample": False, "num_beams": 3, "length_penalty": 1.5})
    outputs = engine_for(model, decoding=decoding).generate(windows, decoding)
    assert all(1 < len(row) <= 9 for row in outputs.values)


def test_int8_writes_every_row(model):
    outputs = engine_for(model, precision="int8").generate(Tokens(model).windows(TEXTS, truncate=True), PLAIN)
    assert all(len(row) > 1 for row in outputs.values)
    assert not outputs.failed


def test_a_token_outside_the_vocabulary_rejects_its_row_alone(model):
    windows = Tokens(model).windows(TEXTS, truncate=True)
    windows.ids[int(windows.offsets[3])] = 10**6
    outputs = engine_for(model).generate(windows, PLAIN)
    assert set(outputs.failed) == {3}
    assert outputs.failed[3][0] == "model_error"


def test_nothing_at_all_gives_an_empty_result(model):
    assert engine_for(model).generate(Tokens(model).windows([]), PLAIN).values == []


@pytest.mark.parametrize(("saturates", "conversions"), [(False, 1), (True, 2)])
def test_a_model_is_converted_once_and_nothing_half_made_stays(model, monkeypatch, saturates, conversions):
    monkeypatch.setattr(ctranslate2_engine, "bytes_saturate", lambda: saturates)
    engine_for(model).close()
    if saturates:
        engine_for(model, precision="int8").close()
    monkeypatch.setattr(ctranslate2_export, "_make", None)
    engine_for(model, precision="int8")
    folders = list((windrow_home() / "exports").iterdir())
    assert len(folders) == conversions
    for folder in folders:
        assert {"facts.json", "model.bin", "config.json"} <= {file.name for file in folder.iterdir()}


def test_weights_have_seven_bits_where_sums_of_bytes_saturate():
    """Two products of eight bits by seven always fit in sixteen."""
    weights = MIXED.normal(0, 0.1, (8, 16)).astype(np.float32)
    weights[3] = 0
    linear = LinearSpec()
    linear.weight, linear.bias = weights, weights[:, 0]
    linear.validate()
    visit_spec(linear, ctranslate2_export._narrow)
    rounded, scales = linear.weight.numpy(), linear.weight_scale.numpy()
    assert (rounded.dtype, scales.dtype, linear.bias.dtype) == (np.int8, np.float32, "float32")
    assert np.abs(rounded).max(axis=1).tolist() == [63, 63, 63, 0, 63, 63, 63, 63]
    assert (np.abs(rounded / scales[:, None] - weights) <= np.abs(weights).max(axis=1)[:, None] / 125).all()


@pytest.mark.parametrize(
    "plan",
    [
        EnginePlan("ctranslate2", "classify", "cpu", "fp32"),
        EnginePlan("ctranslate2", "generate", "cuda", "fp32"),
        EnginePlan("ctranslate2", "generate", "cpu", "fp16"),
    ],
)
def test_what_it_cannot_run_is_refused_with_the_fix(model, plan):
    with pytest.raises(JobError, match="engine: torch"):
        open_engine(plan, model)


def test_a_model_without_a_decoder_is_refused(home, tmp_path):
    model = resolve(job_of(make_tiny_classifier(tmp_path / "tiny", WORDS), "sentiment"))
    with pytest.raises(JobError, match="runs seq2seq models"):
        engine_for(model)


def test_an_option_that_it_does_not_have_is_refused_by_name_and_auto_runs_in_pytorch(model, caplog):
    asked = Decoding(8, {"do_sample": False, "encoder_no_repeat_ngram_size": 2})
    with pytest.raises(ExportError, match=r"no option encoder_no_repeat_ngram_size.*\n.*engine: torch"):
        engine_for(model, decoding=asked)
    assert open_first(plan_of(decoding=asked), model, "auto").plan.engine == "torch"
    assert "It runs in PyTorch" in caplog.text


def test_auto_leaves_beams_to_pytorch_since_each_engine_ends_them_in_its_own_way(model):
    beams = Decoding(8, {"do_sample": False, "num_beams": 2})
    assert open_first(plan_of(decoding=beams), model, "auto").plan.engine == "torch"
    assert open_first(plan_of(decoding=beams), model, "ctranslate2").plan.engine == "ctranslate2"
    assert open_first(plan_of(), model, "auto").plan.engine == "ctranslate2"


def test_an_architecture_that_it_does_not_know_runs_in_pytorch(model, monkeypatch, caplog):
    monkeypatch.delitem(__import__("ctranslate2.converters.transformers", fromlist=["x"])._MODEL_LOADERS, "BartConfig")
    with pytest.raises(ExportError, match="No conversion is registered"):
        engine_for(model)
    assert open_first(plan_of(), model, "auto").plan.engine == "torch"
    assert "It runs in PyTorch" in caplog.text
    assert list((windrow_home() / "exports").iterdir()) == []


@pytest.mark.parametrize(
    ("wanted", "device", "precision", "texts", "chosen"),
    [
        ("auto", "cpu", "fp32", 200, "ctranslate2"),
        ("auto", "cpu", "int8", 10**6, "ctranslate2"),
        ("auto", "cpu", "fp32", 199, "torch"),
        ("auto", "cpu", "bf16", 10**6, "torch"),
        ("auto", "cuda", "fp32", 10**6, "torch"),
        ("torch", "cpu", "fp32", 10**6, "torch"),
    ],
)
def test_the_engine_of_what_is_written_is_chosen_by_device_precision_and_texts(
    wanted, device, precision, texts, chosen
):
    assert candidates("generate", device, wanted, precision, texts)[0].engine == chosen


def test_without_its_package_auto_is_torch_and_naming_it_says_what_to_install(model, monkeypatch):
    monkeypatch.setattr("windrow.engines.fitting.find_spec", lambda _: None)
    assert candidates("generate", "cpu", "auto", "fp32", 10**6) == [Candidate("torch", "fp32")]
    assert open_first(plan_of(), model, "auto").plan.engine == "torch"
    with pytest.raises(JobError, match=r"pip install 'windrow\[ctranslate2\]'"):
        engine_for(model)


def job_over(tmp_path, model, **changes):
    parquet.write_table(pa.table({"id": list(range(5)), "body": TEXTS[:5]}), tmp_path / "texts.parquet")
    fields = {
        "name": "written",
        "source": {"path": str(tmp_path / "texts.parquet"), "text": "body", "key": "id"},
        "task": "summarise",
        "model": model.name,
        "precision": "fp32",
        "warehouse": {"url": f"duckdb:///{tmp_path}/w.duckdb", "table": "summaries"},
        "store": str(tmp_path / changes.get("name", "store")),
    }
    return Job(**{**fields, **changes})


def test_a_conversion_that_writes_something_else_is_never_used_and_the_receipt_tells_what_ran(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr("windrow.engines.fitting.CTRANSLATE2_ABOVE_TEXTS", 1)
    right = run(job_over(tmp_path, model))
    monkeypatch.setenv("WINDROW_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(ctranslate2_export, "_TOLERANCE", -1.0)
    wrong = run(job_over(tmp_path, model, name="again"))
    assert (right.engine, wrong.engine) == ("ctranslate2", "torch")
    assert right.rows_published == wrong.rows_published == 5
    assert right.fingerprint == wrong.fingerprint
    assert "ctranslate2" in right.versions
    with pytest.raises(ExportError, match="writes something else than PyTorch"):
        run(job_over(tmp_path, model, name="named", engine="ctranslate2"))
