import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, pipeline

from models.parts import WORDS, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.tasks import build_task
from windrow.testing import (
    make_tiny_causal,
    make_tiny_classifier,
    make_tiny_encoder,
    make_tiny_model,
    make_tiny_seq2seq,
    make_word_tokenizer,
)

NLI = ("contradiction", "neutral", "entailment")
LABELS = ["film", "phone", "camera"]
TEXTS = ["good film", "the battery was awful, it is not fast", "a very slow camera", "lovely"]
LONG = "The film was slow. " * 20 + "It was not a phone. " * 20


def task(**parameters):
    return {"name": "classify", "labels": LABELS, **parameters}


def roberta(folder):
    from transformers import RobertaConfig, RobertaForSequenceClassification

    named = {"id2label": dict(enumerate(NLI)), "label2id": {name: place for place, name in enumerate(NLI)}}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = RobertaConfig(
        **sizes, **named, max_position_embeddings=66, type_vocab_size=1, initializer_range=0.5, pad_token_id=1
    )
    tokenizer = make_word_tokenizer(WORDS, 64, "bart")
    return make_tiny_model(folder, RobertaForSequenceClassification, config, tokenizer)


def bert(folder):
    return make_tiny_classifier(folder, WORDS, NLI, max_tokens=64)


@pytest.mark.parametrize("make", [bert, roberta])
def test_entailment_gives_what_the_zero_shot_pipeline_gives(make, tmp_path):
    folder = make(tmp_path / "nli")
    hypothesis = "It is about {}."
    found = scored(job_of(folder, task(hypothesis=hypothesis)), TEXTS)
    plain = pipeline("zero-shot-classification", str(folder), dtype=torch.float32, device="cpu")
    for row, text in enumerate(TEXTS):
        expected = plain(text, candidate_labels=LABELS, hypothesis_template=hypothesis)
        assert found.columns["label"][row].as_py() == expected["labels"][0]
        assert found.columns["score"][row].as_py() == pytest.approx(expected["scores"][0], abs=1e-5)
    assert not found.truncated.any()


def test_two_sentences_are_told_apart_where_the_model_does(tmp_path):
    with opened(job_of(bert(tmp_path / "bert"), task())) as (made, engine, tokens):
        windows = made.prepare(TEXTS, tokens).windows
        told = engine.classify(windows).values
        import dataclasses

        untold = engine.classify(dataclasses.replace(windows, types=None)).values
    assert made.head == "pairs"
    assert not np.allclose(told, untold, atol=1e-3)
    model = resolve(job_of(roberta(tmp_path / "roberta"), task()))
    assert build_task(job_of(tmp_path / "roberta", task()), model).head == "classify"


def test_a_long_text_is_read_as_a_whole_in_parts(tmp_path):
    with opened(job_of(bert(tmp_path / "nli"), task())) as (made, engine, tokens):
        parts = made.prepare([LONG, "good film"], tokens)
        found = made.score(parts, engine, tokens)
        read = " ".join(tokens.tokenizer.decode(parts.windows.window(i)) for i in range(len(parts.windows.rows)))
        alone = made.score(made.prepare(["good film"], tokens), engine, tokens)
    assert parts.windows.lengths.max() <= 64
    assert read.count("slow") == 20 * len(LABELS)
    assert not found.truncated.any()
    assert found.columns["score"][1].as_py() == pytest.approx(alone.columns["score"][0].as_py(), abs=1e-5)
    assert found.tokens[0] == parts.windows.lengths[parts.owners[parts.windows.rows] == 0].sum()


def test_parts_weigh_as_many_tokens_as_they_have(tmp_path):
    from windrow.tasks.zero_shot import softmax

    with opened(job_of(bert(tmp_path / "nli"), task())) as (made, engine, tokens):
        parts = made.prepare([LONG], tokens)
        assert len(parts.owners) > 2
        logits = engine.classify(parts.windows).values[:, 2].reshape(len(parts.owners), len(LABELS))
        expected = np.average(softmax(logits.astype(np.float64)), axis=0, weights=parts.weights)
        found = made.score(parts, engine, tokens)
    assert found.columns["score"][0].as_py() == pytest.approx(expected.max(), abs=1e-6)
    assert found.columns["label"][0].as_py() == LABELS[int(expected.argmax())]


def test_a_chat_model_scores_the_letters_that_may_come_next(tmp_path):
    folder = make_tiny_causal(tmp_path / "chat", WORDS)
    found = scored(job_of(folder, task()), TEXTS)
    tokens = Tokens(resolve(job_of(folder)))
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    letters = tokens.tokenizer.convert_tokens_to_ids(["a", "b", "c"])
    for row, text in enumerate(TEXTS):
        question = "Which label fits the text best?\nA. film\nB. phone\nC. camera\nAnswer with its letter alone."
        prompt = f"<s><|user|>Text:\n{text}\n\n{question}<|end|><|assistant|>"
        ids = tokens.tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            chances = plain(ids).logits[0, -1, letters].softmax(-1)
        assert found.columns["label"][row].as_py() == LABELS[int(chances.argmax())]
        assert found.columns["score"][row].as_py() == pytest.approx(float(chances.max()), abs=1e-4)
        assert found.tokens[row] == ids.shape[1]


@pytest.mark.parametrize("letter", ["a", "b", "c"])
def test_the_letter_that_the_model_would_write_is_the_label(tmp_path, letter):
    folder = make_tiny_causal(tmp_path / "chat", WORDS, follows={"<|assistant|>": letter})
    found = scored(job_of(folder, task()), TEXTS)
    assert found.columns["label"].to_pylist() == [LABELS["abc".index(letter)]] * len(TEXTS)
    assert min(found.columns["score"].to_pylist()) > 0.9


def test_a_letter_with_and_without_a_blank_counts_for_the_same_label(tmp_path):
    folder = byte_level_decoder(tmp_path / "bpe")
    with opened(job_of(folder, task())) as (made, engine, tokens):
        names = [tokens.tokenizer.convert_ids_to_tokens(token) for token in engine.plan.candidates]
        assert names == ["A", "B", "C", "ĠA", "ĠB", "ĠC"]
        parts = made.prepare(TEXTS[:1], tokens)
        logits = engine.classify(parts.windows).values[0].astype(np.float64)
        found = made.score(parts, engine, tokens)
    chances = np.exp(logits - logits.max())
    expected = chances.reshape(2, 3).sum(axis=0) / chances.sum()
    assert found.columns["score"][0].as_py() == pytest.approx(expected.max(), abs=1e-5)


def test_many_labels_are_numbered_where_letters_run_out(tmp_path):
    folder = byte_level_decoder(tmp_path / "bpe", *map(str, range(1, 31)))
    labels = [f"label {number}" for number in range(30)]
    with opened(job_of(folder, task(labels=labels))) as (made, engine, tokens):
        assert len(engine.plan.candidates) == 30
        assert "30. label 29" in tokens.tokenizer.decode(made.prepare(["x"], tokens).windows.window(0))
        assert len(made.score(made.prepare(TEXTS, tokens), engine, tokens).columns["label"]) == len(TEXTS)


def test_labels_that_no_single_tokens_tell_apart_are_refused(tmp_path):
    folder = make_tiny_causal(tmp_path / "chat", WORDS, max_tokens=1024)
    with pytest.raises(ModelError, match="no single tokens to tell 30 labels apart"):
        scored(job_of(folder, task(labels=[f"label {number}" for number in range(30)])), TEXTS)


@pytest.mark.parametrize("chat", [True, False])
def test_a_long_text_is_asked_about_in_parts(tmp_path, chat):
    folder = make_tiny_causal(tmp_path / "m", WORDS, max_tokens=128, chat=chat)
    with opened(job_of(folder, task())) as (made, engine, tokens):
        parts = made.prepare([LONG, "good film"], tokens)
        found = made.score(parts, engine, tokens)
        read = " ".join(tokens.tokenizer.decode(parts.windows.window(i)) for i in range(len(parts.windows.rows)))
    assert parts.windows.lengths.max() <= 128
    assert read.count("slow") == 20
    assert found.failed == {}
    assert found.tokens[0] == parts.windows.lengths[:-1].sum()


def test_labels_that_fill_the_context_are_refused(tmp_path):
    folder = make_tiny_causal(tmp_path / "m", WORDS, max_tokens=64)
    with pytest.raises(JobError, match="leave no room"):
        scored(job_of(folder, task(labels=["film " * 20, "phone"])), TEXTS)
    with pytest.raises(JobError, match="leaves no room"):
        scored(job_of(bert(tmp_path / "nli"), task(labels=["film " * 60, "phone"])), TEXTS)


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"labels": ["film"]}, "task.labels"),
        ({"labels": ["film", "film "]}, "'film' stands there twice"),
        ({"labels": ["film", " "]}, "a label is empty"),
        ({"labels": None}, "task.labels"),
        ({"hypothesis": "About it."}, "needs {} once"),
        ({"lables": ["a", "b"]}, "no parameter 'lables'"),
    ],
)
def test_a_wrong_parameter_is_refused(tmp_path, parameters, told):
    job = job_of(make_tiny_classifier(tmp_path / "m", WORDS, NLI), task(**parameters))
    with pytest.raises(JobError, match=told):
        build_task(job, resolve(job))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (make_tiny_classifier, "use task sentiment"),
        (make_tiny_encoder, "declares BertModel"),
        (make_tiny_seq2seq, "declares BartForConditionalGeneration"),
    ],
)
def test_a_model_that_cannot_choose_is_refused(tmp_path, make, told):
    job = job_of(make(tmp_path / "m", WORDS), task())
    with pytest.raises(ModelError, match=told):
        build_task(job, resolve(job))


def byte_level_decoder(folder, *tokens):
    """A GPT-2 whose tokenizer joins a blank to the letter behind it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = [f"Ġ{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    vocabulary = ["<end>", *alphabet, *letters, *(token for token in tokens if len(token) > 1)]
    merges = [("Ġ", letter[1]) for letter in letters] + [tuple(token) for token in tokens if len(token) == 2]
    backend = Tokenizer(models.BPE({token: place for place, token in enumerate(vocabulary)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", model_max_length=1024)
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, n_positions=1024, initializer_range=0.5, bos_token_id=0)
    config.eos_token_id = 0
    return make_tiny_model(folder, GPT2LMHeadModel, config, tokenizer)
