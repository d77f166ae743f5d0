"""Packed rows say what padded rows say, family by family; where they would not, rows are padded."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from windrow.engines import EnginePlan
from windrow.engines.families import FAMILIES
from windrow.engines.parity import disagreement
from windrow.engines.probing import probe_windows
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import EngineError
from windrow.models.tokens import Tokens

PACKED = ["bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"]
TEXTS = [
    "good film",
    "the battery was awful and the plot is not lovely " * 9,
    "bad",
    "it was not great, it was awful",
    "phone",
] * 4


def engine_for(model, packed, head="classify", precision="fp32"):
    return TorchEngine(EnginePlan("torch", head, "cpu", precision, 2), model, packed=packed)


@pytest.mark.parametrize("kind", PACKED)
def test_packed_logits_equal_padded_ones(families, kind):
    model = families(kind)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, packed=True)
    assert engine.packed
    outputs = engine.classify(windows)
    np.testing.assert_allclose(outputs.values, engine_for(model, packed=False).classify(windows).values, atol=1e-4)
    assert not outputs.failed


@pytest.mark.parametrize("kind", PACKED)
def test_a_micro_batch_may_hold_many_times_the_tokens_that_the_model_has_positions_for(families, kind):
    model = families(kind, max_tokens=128)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, packed=True)
    assert engine.packed
    engine.token_budget = 65536
    assert windows.lengths.sum() > 4 * 128
    expected = engine_for(model, packed=False).classify(windows).values
    np.testing.assert_allclose(engine.classify(windows).values, expected, atol=1e-4)


@pytest.mark.parametrize("kind", PACKED)
def test_packed_vectors_equal_padded_ones(families, kind):
    model = families(kind)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, packed=True, head="embed")
    assert engine.packed
    expected = engine_for(model, packed=False, head="embed").embed(windows).values
    np.testing.assert_allclose(engine.embed(windows).values, expected, atol=1e-5)


def test_modernbert_that_pools_the_mean_is_packed_too(families):
    model = families("modernbert", classifier_pooling="mean")
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, packed=True)
    assert engine.packed
    expected = engine_for(model, packed=False).classify(windows).values
    np.testing.assert_allclose(engine.classify(windows).values, expected, atol=1e-4)


def test_local_attention_sees_its_window_and_no_more(families):
    model = families("modernbert", local_attention=8)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, packed=True)
    assert engine.packed
    expected = engine_for(model, packed=False).classify(windows).values
    np.testing.assert_allclose(engine.classify(windows).values, expected, atol=1e-4)


@pytest.mark.parametrize("kind", ["deberta", "deberta-v2"])
def test_a_family_without_a_packed_path_is_padded(families, kind, caplog):
    model = families(kind)
    with caplog.at_level(logging.INFO, "windrow"):
        engine = engine_for(model, packed=True)
    assert engine.packed is None
    assert f"Models of type {kind} are run with sorted padding" in caplog.text
    why = f"models of type {kind} have no packed path"
    assert engine.plan.notes == [f"planned: packed rows; ran: sorted padding; why: {why}"]
    assert np.isfinite(engine.classify(Tokens(model).windows(TEXTS)).values).all()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", ["bert", "roberta", "xlm-roberta"])
def test_a_wrong_position_offset_fails_the_probe_and_rows_are_padded(families, kind, precision, monkeypatch, caplog):
    model = families(kind)
    windows = Tokens(model).windows(TEXTS)
    expected = engine_for(model, packed=False, precision=precision).classify(windows).values
    wrong = replace(FAMILIES[kind], skips_padding=not FAMILIES[kind].skips_padding)
    monkeypatch.setitem(FAMILIES, kind, wrong)
    engine = engine_for(model, packed=True, precision=precision)
    assert engine.packed is None
    assert "sorted padding, since packed ones failed their probe" in caplog.text
    [told] = engine.plan.notes
    assert told.startswith("planned: packed rows; ran: sorted padding; why: packed rows failed their probe: ")
    assert engine.model.config._attn_implementation == "sdpa"
    np.testing.assert_array_equal(engine.classify(windows).values, expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", PACKED)
def test_the_probe_passes_in_half_precision(families, kind, precision):
    assert engine_for(families(kind), packed=True, precision=precision).packed


def test_a_head_that_cannot_be_run_on_packed_rows_means_padding(families, monkeypatch, caplog):
    def broken(model, states, bounds):
        raise AttributeError("no such pooler")

    monkeypatch.setitem(FAMILIES, "bert", replace(FAMILIES["bert"], head=broken))
    assert engine_for(families("bert"), packed=True).packed is None
    assert "AttributeError: no such pooler" in caplog.text


def test_a_device_that_goes_during_the_probe_is_an_error(families, monkeypatch):
    def gone(model, states, bounds):
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setitem(FAMILIES, "bert", replace(FAMILIES["bert"], head=gone))
    with pytest.raises(EngineError, match="failed: CUDA error: unspecified launch failure") as told:
        engine_for(families("bert"), packed=True)
    assert told.value.retryable


def test_padding_written_in_a_text_keeps_its_position_as_in_the_plain_model(families):
    model = families("roberta")
    windows = Tokens(model).windows(TEXTS)
    windows.ids[[2, 9]] = 1
    expected = engine_for(model, packed=False).classify(windows).values
    np.testing.assert_allclose(engine_for(model, packed=True).classify(windows).values, expected, atol=1e-4)


def test_the_last_layer_computes_first_tokens_alone(families, monkeypatch):
    seen = []
    family = FAMILIES["bert"]

    def watching(model, states, bounds):
        seen.append((len(states), len(bounds) - 1))
        return family.head(model, states, bounds)

    monkeypatch.setitem(FAMILIES, "bert", replace(family, head=watching))
    engine = engine_for(families("bert"), packed=True)
    engine.classify(Tokens(families("bert")).windows(TEXTS))
    assert seen
    assert all(states == rows for states, rows in seen)


def test_a_token_outside_the_vocabulary_rejects_its_row_alone(families):
    model = families("roberta")
    windows = Tokens(model).windows(TEXTS)
    windows.ids[int(windows.offsets[3]) + 1] = 10**6
    outputs = engine_for(model, packed=True).classify(windows)
    assert set(outputs.failed) == {3}
    assert outputs.failed[3][0] == "model_error"
    assert np.isfinite(outputs.values[[0, 1, 2, 4]]).all()


def test_a_lack_of_memory_halves_the_packed_micro_batch(families):
    engine, windows = engine_for(families("bert"), packed=True), Tokens(families("bert")).windows(TEXTS)
    expected, run, sizes = engine.classify(windows).values, engine.packed.classify, []

    def scarce(rows):
        sizes.append(rows.ids.numel())
        if rows.ids.numel() > 120:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return run(rows)

    engine.packed.classify = scarce
    engine.token_budget = 4096
    np.testing.assert_allclose(engine.classify(windows).values, expected, atol=1e-5)
    assert max(sizes) > 120
    assert engine.token_budget < 4096


def test_nothing_at_all_gives_an_empty_result(families):
    assert len(engine_for(families("bert"), packed=True).classify(Tokens(families("bert")).windows([])).values) == 0


def test_a_cpu_pads_unless_it_is_told_otherwise(families):
    assert engine_for(families("bert"), packed=None).packed is None


def test_outputs_that_are_as_near_to_those_of_moved_positions_are_refused_even_within_the_tolerance():
    expected = torch.tensor([[1.0, -1.0]])
    near = expected + 0.01
    assert disagreement(expected, near, expected + 0.5, torch.bfloat16) is None
    assert "moved by one" in disagreement(expected, near, expected + 0.015, torch.bfloat16)
    assert "differ by" in disagreement(expected, near, expected + 0.5, torch.float32)
    assert "not finite" in disagreement(expected, near * float("nan"), None, torch.float32)
    assert "shape" in disagreement(expected, near[0], None, torch.float32)


def test_probes_differ_in_length_and_keep_to_what_the_model_reads():
    windows = probe_windows(99, 40)
    assert len(set(windows.lengths.tolist())) > 4
    assert windows.lengths.max() == 40
    assert windows.ids.max() < 99
