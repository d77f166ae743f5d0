"""Greedy decoding in which rows leave and enter says what `model.generate` says, token for token."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.parts import WORDS, job_of
from windrow.engines import Decoding, EnginePlan, decoding, open_engine
from windrow.engines.rules import rules_of
from windrow.errors import EngineError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_seq2seq

ENDS = {"bart": 7, "marian": 3, "nllb": 5, "pegasus": 3, "t5": 5}
"""Every seventh (third …) token ends a row, so that rows of random weights end at many lengths."""
MIXED = np.random.default_rng(0)
TEXTS = [" ".join(MIXED.choice(WORDS, int(count))) for count in MIXED.integers(1, 55, 24)]


def made(folder, kind, **settings):
    """Return a model whose rows end at many lengths."""
    folder = make_tiny_seq2seq(folder, WORDS, kind, seed=2, **settings)
    told = json.loads((folder / "generation_config.json").read_text())
    told["eos_token_id"] = [told["eos_token_id"], *range(9, 100, ENDS[kind])]
    (folder / "generation_config.json").write_text(json.dumps(told))
    return resolve(job_of(folder, "summarise"))


@pytest.fixture(scope="module", params=ENDS)
def model(request, tmp_path_factory):
    return made(tmp_path_factory.mktemp("models") / "tiny", request.param, max_length=24)


def engine_for(model, precision="fp32", slots=3):
    engine = open_engine(EnginePlan("torch", "generate", "cpu", precision), model)
    engine.in_hand = replace(engine.in_hand, slots=slots, encoder_tokens=128)
    return engine


def written(engine, model, texts=TEXTS, limit=None, **options):
    windows = Tokens(model).windows(texts, truncate=True)
    return engine.generate(windows, Decoding(limit, {"do_sample": False, **options}))


def whole(engine, model, limit=None, **options):
    """Return what `model.generate` makes of each text alone."""
    windows = Tokens(model).windows(TEXTS, truncate=True)
    given = {"do_sample": False, **options, **({"max_new_tokens": limit, "max_length": None} if limit else {})}
    found = []
    torch.set_num_threads(1)
    with torch.inference_mode():
        for row in range(len(TEXTS)):
            ids = torch.from_numpy(windows.window(row)[None].astype(np.int64))
            alone = engine.model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **given)
            found.append(alone[0].tolist())
    return found


@pytest.mark.parametrize(
    ("limit", "options"),
    [
        (None, {}),
        (None, {"min_length": 6, "no_repeat_ngram_size": 2}),
        (12, {"min_new_tokens": 3, "forced_eos_token_id": 1, "repetition_penalty": 1.3}),
        (None, {"forced_bos_token_id": 20, "suppress_tokens": [30, 31], "begin_suppress_tokens": [40, 41]}),
        (None, {"bad_words_ids": [[12], [13, 14]]}),
    ],
    ids=["plain", "lengths", "penalty", "forced", "words"],
)
def test_each_row_equals_what_generate_makes_of_it_alone(model, limit, options):
    engine = engine_for(model)
    expected = whole(engine, model, limit, **options)
    outputs = written(engine, model, limit=limit, **options)
    assert engine._greedy_is_right
    assert [tokens.tolist() for tokens in outputs.values] == expected
    assert not outputs.failed
    assert len({len(tokens) for tokens in outputs.values}) > 1
    assert all(tokens.dtype == np.int32 for tokens in outputs.values)


def test_rows_enter_beside_rows_that_are_half_written(model, monkeypatch):
    seen = []
    plain = decoding.Loop._step
    monkeypatch.setattr(decoding.Loop, "_step", lambda loop, rows: seen.append(set(loop.slots.at)) or plain(loop, rows))
    written(engine_for(model), model)
    assert max(len(positions) for positions in seen) >= 2


def test_bf16_writes_every_row_within_the_limit(model):
    outputs = written(engine_for(model, "bf16"), model, limit=9)
    assert not outputs.failed
    assert all(2 <= len(tokens) <= 10 for tokens in outputs.values)


def test_a_row_that_never_ends_is_stopped_at_the_limit(tmp_path):
    model = resolve(job_of(make_tiny_seq2seq(tmp_path / "tiny", WORDS), "summarise"))
    outputs = written(engine_for(model), model, limit=7, min_new_tokens=7)
    assert {len(tokens) for tokens in outputs.values} == {8}


def test_a_row_whose_scores_are_no_numbers_is_rejected_alone(tmp_path):
    model = made(tmp_path / "tiny", "bart")
    engine = engine_for(model)
    expected = [tokens.tolist() for tokens in written(engine, model, ["bad film", "good", "the plot"], 9).values]
    phone = Tokens(model).windows(["phone"]).ids[1]
    with torch.no_grad():
        weight = engine.model.get_encoder().embed_tokens.weight
        engine.model.get_encoder().embed_tokens.weight = torch.nn.Parameter(weight.clone())
        engine.model.get_encoder().embed_tokens.weight[phone] = float("nan")
    outputs = written(engine, model, ["bad film", "a phone", "good", "the plot"], 9)
    assert outputs.failed == {1: ("not_finite", "the model's outputs are not finite numbers")}
    assert [outputs.values[row].tolist() for row in (0, 2, 3)] == expected


def test_a_row_that_breaks_the_encoder_is_rejected_alone(model):
    engine, windows = engine_for(model), Tokens(model).windows(TEXTS, truncate=True)
    windows.ids[int(windows.offsets[3])] = 10**6
    outputs = engine.generate(windows, Decoding(6, {"do_sample": False}))
    assert set(outputs.failed) == {3}
    assert outputs.failed[3][0] == "model_error"


def test_a_lack_of_memory_takes_fewer_rows_and_loses_none(model, monkeypatch):
    plain, engine = decoding.Loop._step, engine_for(model, slots=8)
    expected = [tokens.tolist() for tokens in written(engine, model).values]

    def narrow(loop, rows):
        if len(rows) > 2:
            raise RuntimeError("CUDA out of memory")
        return plain(loop, rows)

    monkeypatch.setattr(decoding.Loop, "_step", narrow)
    outputs = written(engine, model)
    assert [tokens.tolist() for tokens in outputs.values] == expected
    assert not outputs.failed


def test_a_row_that_breaks_the_decoder_is_rejected_and_the_others_are_written(model, monkeypatch):
    plain, engine = decoding.Loop._step, engine_for(model, slots=8)
    expected = [tokens.tolist() for tokens in written(engine, model, limit=8, min_new_tokens=8).values]

    def picky(loop, rows):
        if 5 in rows:
            raise ValueError("it breaks")
        return plain(loop, rows)

    monkeypatch.setattr(decoding.Loop, "_step", picky)
    outputs = written(engine, model, limit=8, min_new_tokens=8)
    assert outputs.failed == {5: ("model_error", "ValueError: it breaks")}
    assert [outputs.values[i].tolist() for i in range(24) if i != 5] == [expected[i] for i in range(24) if i != 5]


def test_a_model_that_fails_on_everything_is_an_error(model, monkeypatch):
    engine = engine_for(model)
    written(engine, model, TEXTS[:2])

    def broken(loop, rows):
        raise RuntimeError("it breaks")

    monkeypatch.setattr(decoding.Loop, "_begin", broken)
    with pytest.raises(EngineError, match="failed on all 24 texts"):
        written(engine, model)


def test_few_bytes_keep_fewer_rows_in_hand(model, monkeypatch):
    most = []
    plain = decoding.Loop._step
    monkeypatch.setattr(decoding.Loop, "_step", lambda loop, rows: most.append(len(rows)) or plain(loop, rows))
    engine = engine_for(model, slots=16)
    engine.in_hand = replace(engine.in_hand, cache_bytes=1)
    written(engine, model)
    assert set(most) <= {1, 2}  # two: the loop that looks whether it is right


def test_a_decoder_whose_positions_are_lost_is_found_out_and_decodes_in_whole_micro_batches(model, monkeypatch, caplog):
    engine = engine_for(model)
    expected = [tokens.tolist() for tokens in written(engine, model).values]
    lost, plain = engine_for(model), decoding.Slots.step

    def step(slots):
        told = plain(slots)
        slots.positions = torch.zeros_like(slots.positions)
        return told

    monkeypatch.setattr(decoding.Slots, "step", step)
    outputs = written(lost, model)
    assert lost._greedy_is_right is False
    assert "cannot enter late" in caplog.text
    [told] = lost.plan.notes
    assert told.startswith("planned: rows that enter late; ran: whole micro-batches; why: ")
    assert [tokens.tolist()[: len(alone)] for tokens, alone in zip(outputs.values, expected, strict=True)] == expected


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"do_sample": True}, {"encoder_no_repeat_ngram_size": 2}])
def test_what_is_not_greedy_or_not_known_is_left_to_generate(model, options):
    engine = engine_for(model)
    assert rules_of(engine.model, Decoding(8, {"do_sample": False})).max_length == 9
    assert rules_of(engine.model, Decoding(8, {"do_sample": False, **options})) is None


def test_nothing_at_all_gives_an_empty_result(model):
    assert written(engine_for(model), model, []).values == []
