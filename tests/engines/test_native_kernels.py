"""Our own eight-bit kernels say about what PyTorch says in fp32, family by family, and the same in any company."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import WORDS
from native_kernels import FIELDS, HERE, SIZES, TEXTS, plan_for, using
from windrow import Job
from windrow.engines import native_library, native_weights, open_engine
from windrow.engines.native_encoder import NativeEncoder
from windrow.engines.pooling import POOLINGS
from windrow.engines.probing import probe_windows
from windrow.errors import ExportError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_tagger

FAMILIES = ["bert", "distilbert", "electra", "roberta", "xlm-roberta"]


@pytest.fixture(scope="module", autouse=True, params=[kind.name for kind in native_library.VARIANTS])
def kernels(request, tmp_path_factory):
    """All tests are run with each of the kernels."""
    if request.param not in HERE:
        pytest.skip(f"neither {request.param} nor SIMDe is here")
    with using(request.param, tmp_path_factory.getbasetemp().parent / "kernels"):
        yield request.param


def both(model, head, *given):
    """Return what the kernels and PyTorch make of `TEXTS`."""
    windows = Tokens(model).windows(TEXTS)
    plans = plan_for(head=head), plan_for("torch", head, "fp32")
    return [getattr(open_engine(plan, model), head)(windows, *given) for plan in plans]


def near(found, expected):
    """Hold numbers against those in fp32: about as near as eight bits are, or seven, and nearer than other rows'."""
    error, spread = np.abs(found - expected).mean(), np.abs(np.roll(expected, 1, axis=0) - expected).mean()
    assert found.dtype == np.float32
    assert 0 < error < 0.08 * spread * coarser()
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 1 - 0.003 * coarser() ** 2


def coarser():
    """Return by how much steps are wider than those of eight bits."""
    return 127 / native_library.variant().largest


def arrays_of(model, head):
    """Return what the kernels take of a model of Transformers."""
    return native_weights.rounded_model(model, head, native_library.variant().largest)


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_are_about_those_of_pytorch(models, kind):
    found, expected = both(models(kind), "classify")
    near(found.values, expected.values)
    assert not found.failed


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_two_sentences_are_told_apart(models, kind):
    model = models(kind)
    windows = Tokens(model).pairs(TEXTS[:4], ["a good film", "the battery is bad"], types=True)
    plans = plan_for(head="pairs"), plan_for("torch", "pairs", "fp32")
    found, expected = (open_engine(plan, model).classify(windows).values for plan in plans)
    alike = open_engine(plan_for(head="pairs"), model).classify(replace(windows, types=None)).values
    near(found, expected)
    assert np.abs(alike - expected).mean() > 3 * np.abs(found - expected).mean()


def test_labels_that_are_nearly_tied_are_those_in_fp32(models):
    model = models("bert")
    windows = Tokens(model).windows(TEXTS)
    exact = open_engine(plan_for("torch", precision="fp32"), model).classify(windows).values
    engine = open_engine(plan_for(), model)
    rounding = engine.doubt
    engine.doubt = 0.0
    rounded = engine.classify(windows).values
    leads = np.abs(rounded[:, 0] - rounded[:, 1])
    engine.doubt = float(np.median(leads))
    both_ways, is_near = engine.classify(windows).values, leads < np.median(leads)
    assert 0.2 < rounding / np.sqrt(np.square(np.diff(rounded - exact)).mean()) < 8
    assert 0 < is_near.sum() < len(leads)
    np.testing.assert_array_equal(both_ways[~is_near], rounded[~is_near])
    np.testing.assert_allclose(both_ways[is_near], exact[is_near], atol=1e-5)
    assert (rounded[is_near] != both_ways[is_near]).all()


def test_a_second_look_that_fails_leaves_the_first(models, monkeypatch):
    engine = open_engine(plan_for(), models("bert"))
    windows = Tokens(models("bert")).windows(TEXTS)
    engine.doubt = 0.0
    rounded = engine.classify(windows)
    engine.doubt = 1e9

    look = engine.precise.run

    def fails(ids, mask):
        if ids.shape[1] > 100:
            raise MemoryError
        return look(ids, mask)

    monkeypatch.setattr(engine.precise, "run", fails)
    again, long = engine.classify(windows), windows.lengths > 100
    assert 0 < long.sum() < len(long)
    np.testing.assert_array_equal(again.values[long], rounded.values[long])
    assert (again.values[~long] != rounded.values[~long]).any()
    assert not again.failed


@pytest.mark.parametrize(
    ("head", "settings"), [("embed", {}), ("classify", {"problem_type": "multi_label_classification"})]
)
def test_what_is_no_choice_of_one_label_is_not_looked_at_again(models, head, settings):
    engine = open_engine(plan_for(head=head), models("bert", **settings))
    assert not engine.doubt
    assert engine.precise is None


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
def test_heads_of_one_and_of_several_panels(models, heads):
    found, expected = both(models("bert", num_attention_heads=heads), "classify")
    near(found.values, expected.values)


def test_sizes_of_a_base_model(models):
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "initializer_range": 0.05}
    found, expected = both(models("roberta", **sizes), "classify")
    near(found.values, expected.values)


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_each_pooling_is_about_that_of_pytorch(models, pooling, unit):
    found, expected = both(models("bert"), "embed", pooling, unit)
    near(found.values, expected.values)


def test_logits_of_tokens_are_about_those_of_pytorch(tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, **SIZES)
    model = resolve(Job(**{**FIELDS, "task": "entities"}, model=str(folder)))
    windows = Tokens(model).windows(TEXTS)
    plans = [replace(plan, labels=None) for plan in (plan_for(head="tag"), plan_for("torch", "tag", "fp32"))]
    found, expected = (open_engine(plan, model).tag(windows).values for plan in plans)
    assert [len(row) for row in found] == windows.lengths.tolist()
    near(np.concatenate(found), np.concatenate(expected))


@pytest.mark.parametrize("head", ["classify", "embed"])
def test_a_row_says_the_same_in_any_company(models, head):
    model = models("bert")
    engine = open_engine(plan_for(head=head), model)
    together = getattr(engine, head)(Tokens(model).windows(TEXTS)).values
    turned = getattr(engine, head)(Tokens(model).windows(TEXTS[::-1])).values[::-1]
    np.testing.assert_allclose(turned, together, rtol=0, atol=1e-5)  # the head is PyTorch's, in fp32
    for place in range(6):
        alone = getattr(engine, head)(Tokens(model).windows([TEXTS[place]])).values[0]
        np.testing.assert_allclose(alone, together[place], rtol=0, atol=1e-5)


def test_a_rows_states_have_the_same_bits_in_any_company(models):
    encoder = open_engine(plan_for(head="tag"), models("bert")).encoder
    windows = probe_windows(encoder.vocabulary, 300)
    rows = list(range(len(windows.rows)))
    packed = encoder.packed(windows, rows)
    together = np.split(encoder.states(packed), packed.bounds[1:-1].tolist())
    for row in rows:
        assert np.array_equal(encoder.states(encoder.packed(windows, [row])), together[row])


def test_the_last_layer_is_run_for_first_tokens_alone_and_says_the_same(models):
    model = open_engine(plan_for("torch", precision="fp32"), models("bert")).model
    arrays = arrays_of(model, "classify")
    short, whole = (NativeEncoder(arrays, "bert", first_only) for first_only in (True, False))
    windows = probe_windows(short.vocabulary, 300)
    rows = list(range(len(windows.rows)))
    packed = short.packed(windows, rows)
    found, expected = short.states(packed), whole.states(packed)[packed.bounds[:-1]]
    assert found.shape == (len(rows), 192)
    near(found, expected)


def test_queries_of_zeros_attend_to_all_tokens_of_their_row_and_to_no_others(models):
    model = open_engine(plan_for("torch", head="embed", precision="fp32"), models("bert")).model
    for layer in model.encoder.layer:
        for part in layer.attention.self.query.parameters():
            part.data.zero_()
    encoder = NativeEncoder(arrays_of(model, "embed"), "bert", first_only=False)
    windows = probe_windows(encoder.vocabulary, 300)
    for row in range(len(windows.rows)):
        with torch.inference_mode():
            exact = model(torch.from_numpy(windows.window(row))[None].long()).last_hidden_state[0].numpy()
        found = encoder.states(encoder.packed(windows, [row]))
        assert np.abs(found - exact).mean() < 0.03 * coarser() * np.abs(exact).mean()


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [12], [13, 11], [64, 65], [96, 1], [511, 3, 2]])
def test_nothing_is_written_beyond_what_was_asked_for(models, lengths):
    model = open_engine(plan_for("torch", precision="fp32"), models("bert")).model
    made = NativeEncoder(arrays_of(model, "classify"), "bert", first_only=False)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = np.arange(bounds[-1], dtype=np.int64) % made.vocabulary
    positions = np.concatenate([np.arange(length, dtype=np.int64) for length in lengths])
    encoder = ctypes.byref(made.encoder)
    needed = made.kernels.windrow_scratch(encoder, int(bounds[-1]), len(lengths), max(lengths))
    scratch, states = np.full(needed + 4096, 77, np.uint8), np.full((bounds[-1] + 9, 192), 7, np.float32)
    given = [ctypes.c_void_p(part.ctypes.data) for part in (bounds, ids, positions)]
    made.kernels.windrow_encode(
        encoder, len(lengths), *given, 0, *(ctypes.c_void_p(part.ctypes.data) for part in (states, scratch))
    )
    assert (scratch[needed:] == 77).all()
    assert (states[bounds[-1] :] == 7).all()
    assert np.isfinite(states).all()
    np.testing.assert_allclose(states[: bounds[-1]].mean(axis=1), 0, atol=0.5)


def test_weights_that_are_no_numbers_reject_rows_and_a_row_that_is_too_long_says_so(models):
    engine = open_engine(plan_for(), models("bert"))
    windows = Tokens(models("bert")).windows(TEXTS)
    engine.doubt, engine.encoder.positions = 0.0, 100
    made = engine.classify(windows)
    long = set(np.flatnonzero(windows.lengths > 100).tolist())
    assert set(made.failed) == long
    assert all("longer than the model's positions reach" in made.failed[row][1] for row in long)
    engine.encoder.positions = 512
    engine.encoder.head[-1][0][:] = float("nan")
    assert {reason for reason, _ in engine.classify(windows).failed.values()} == {"not_finite"}


def test_kernels_that_give_nonsense_are_refused(models, home, monkeypatch):
    monkeypatch.setattr(native_weights, "balance", lambda states, _: np.where(np.arange(len(states)) % 2, 1e4, 1e-4))
    with pytest.raises(ExportError, match="other outputs in int8 than in fp32 with Windrow's kernels"):
        open_engine(plan_for(), models("bert"))


def test_tokens_that_the_model_does_not_know_reject_their_row_alone(models):
    windows = Tokens(models("bert")).windows(TEXTS[:3])
    windows.ids[0] = 10**6
    made = open_engine(plan_for(), models("bert")).classify(windows)
    assert list(made.failed) == [0]
    assert "not in the model's vocabulary" in made.failed[0][1]
