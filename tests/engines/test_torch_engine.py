import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification

from conftest import WORDS
from windrow.engines import EnginePlan, open_engine
from windrow.engines.pooling import POOLINGS
from windrow.errors import JobError, ModelError
from windrow.job import Job
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_tagger

TEXTS = [
    "good film",
    "the battery was awful and the plot is not lovely " * 9,
    "bad",
    "it was not great, it was awful",
    "phone",
] * 5


@pytest.fixture
def model(job_fields):
    return resolve(Job(**job_fields))


@pytest.fixture
def tagger(tmp_path, job_fields):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS)
    return resolve(Job(**{**job_fields, "model": str(folder), "task": "entities"}))


def engine_for(model, head="classify", precision="fp32", device="cpu"):
    return open_engine(EnginePlan("torch", head, device, precision, 2), model)


def test_logits_equal_those_of_the_plain_model_row_by_row(model):
    windows = Tokens(model).windows(TEXTS)
    outputs = engine_for(model).classify(windows)
    plain = AutoModelForSequenceClassification.from_pretrained(model.folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        expected = [
            plain(torch.tensor(windows.window(i)[None].astype(np.int64))).logits[0].numpy() for i in range(len(TEXTS))
        ]
    np.testing.assert_allclose(outputs.values, np.stack(expected), atol=1e-4)
    assert not outputs.failed


def test_vectors_are_the_mean_of_token_states_at_unit_length(model):
    windows = Tokens(model).windows(TEXTS)
    outputs = engine_for(model, "embed").embed(windows)
    plain = AutoModel.from_pretrained(model.folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = plain(torch.tensor(windows.window(1)[None].astype(np.int64))).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(outputs.values[1], states / np.linalg.norm(states), atol=1e-4)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_takes_the_tokens_of_its_window_alone(pooling, unit, model):
    windows = Tokens(model).windows(TEXTS)
    found = engine_for(model, "embed").embed(windows, pooling, unit).values
    plain = AutoModel.from_pretrained(model.folder, dtype=torch.float32).eval()
    take = {"mean": lambda s: s.mean(0), "cls": lambda s: s[0], "max": lambda s: s.max(0), "lasttoken": lambda s: s[-1]}
    for window in range(5):
        with torch.inference_mode():
            ids = torch.tensor(windows.window(window)[None].astype(np.int64))
            expected = take[pooling](plain(ids).last_hidden_state[0].numpy())
        expected = expected / np.linalg.norm(expected) if unit else expected
        np.testing.assert_allclose(found[window], expected, atol=1e-4)


def test_logits_of_tokens_equal_those_of_the_plain_model(tagger):
    windows = Tokens(tagger).windows(TEXTS)
    outputs = open_engine(EnginePlan("torch", "tag", "cpu", "fp32", 5), tagger).tag(windows)
    plain = AutoModelForTokenClassification.from_pretrained(tagger.folder, dtype=torch.float32).eval()
    assert [values.shape for values in outputs.values] == [(length, 5) for length in windows.lengths]
    for window in range(5):
        with torch.inference_mode():
            expected = plain(torch.tensor(windows.window(window)[None].astype(np.int64))).logits[0].numpy()
        np.testing.assert_allclose(outputs.values[window], expected, atol=1e-4)
    assert not outputs.failed


def test_tokens_that_break_the_model_reject_their_windows_alone(tagger):
    engine = open_engine(EnginePlan("torch", "tag", "cpu", "fp32", 5), tagger)
    tokens = Tokens(tagger)
    with torch.no_grad():
        embeddings = next(p for n, p in engine.model.named_parameters() if "word_embeddings" in n)
        embeddings[tokens.windows(["phone"]).ids[1]] = float("nan")
    windows = tokens.windows(["good film", "phone", "bad", "film"])
    windows.ids[int(windows.offsets[2]) + 1] = 10**6
    outputs = engine.tag(windows)
    assert {window: why[0] for window, why in outputs.failed.items()} == {1: "not_finite", 2: "model_error"}
    assert np.isfinite(outputs.values[0]).all()
    assert len(engine.tag(tokens.windows([])).values) == 0


def test_the_same_text_has_the_same_output_in_any_company(model):
    engine, tokens = engine_for(model), Tokens(model)
    alone = engine.classify(tokens.windows(TEXTS[:1])).values[0]
    among = engine.classify(tokens.windows(TEXTS)).values[0]
    np.testing.assert_allclose(alone, among, atol=1e-5)


def test_bf16_agrees_with_fp32(model):
    windows = Tokens(model).windows(TEXTS)
    full, half = (engine_for(model, precision=p).classify(windows).values for p in ("fp32", "bf16"))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, atol=0.2)


def test_a_token_outside_the_vocabulary_rejects_its_row_alone(model):
    windows = Tokens(model).windows(TEXTS)
    windows.ids[int(windows.offsets[3]) + 1] = 10**6
    outputs = engine_for(model).classify(windows)
    assert set(outputs.failed) == {3}
    assert outputs.failed[3][0] == "model_error"
    assert np.isfinite(outputs.values[[0, 1, 2, 4]]).all()


def test_outputs_that_are_no_numbers_are_failures(model):
    engine = engine_for(model)
    with torch.no_grad():
        next(p for n, p in engine.model.named_parameters() if "word_embeddings" in n)[
            Tokens(model).windows(["phone"]).ids[1]
        ] = float("nan")
    outputs = engine.classify(Tokens(model).windows(["good film", "phone", "bad"]))
    assert outputs.failed == {1: ("not_finite", "the model's outputs are not finite numbers")}


def test_a_checkpoint_without_the_head_is_refused(model, tmp_path):
    AutoModel.from_pretrained(model.folder).save_pretrained(tmp_path / "headless")
    Tokens(model).tokenizer.save_pretrained(tmp_path / "headless")
    headless = resolve(Job(**HEADLESS | {"model": str(tmp_path / "headless")}))
    with pytest.raises(ModelError, match="lacks the head"):
        engine_for(headless)


def test_nothing_at_all_gives_an_empty_result(model):
    assert len(engine_for(model).classify(Tokens(model).windows([])).values) == 0


def test_an_unknown_engine_names_the_nearest(model):
    with pytest.raises(JobError, match="did you mean 'torch'"):
        open_engine(EnginePlan("troch", "classify", "cpu", "fp32"), model)


def test_a_device_that_is_not_there_is_an_error_with_its_fix(model):
    with pytest.raises(Exception, match="cannot be used") as told:
        engine_for(model, device="cuda")
    assert "device: cpu" in str(told.value)


HEADLESS = {
    "name": "headless",
    "source": {"path": "x.csv", "text": "t", "key": "k"},
    "task": "sentiment",
    "warehouse": {"url": "duckdb:///w.duckdb", "table": "t"},
}
