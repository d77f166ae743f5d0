import json

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from models.parts import WORDS, copied, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.testing import (
    make_tiny_adapter,
    make_tiny_classifier,
    make_tiny_encoder,
    make_tiny_model,
    make_word_tokenizer,
)

WINDOW = 64
BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": WINDOW,
    "initializer_range": 0.5,
}
ROBERTA = {**BERT, "max_position_embeddings": WINDOW + 2, "pad_token_id": 1}
MODERN = {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
BART = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
BART |= {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": WINDOW}
FAMILIES = {
    "Bert": ("bert", BERT),
    "Bart": ("bart", {**BART, "init_std": 0.5}),
    "Camembert": ("bart", ROBERTA),
    "DebertaV2": ("bert", {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "DistilBert": (
        "bert",
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": WINDOW},
    ),
    "Electra": ("bert", {**BERT, "embedding_size": 32}),
    "GPT2": ("bart", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": WINDOW, "initializer_range": 0.5}),
    "ModernBert": ("bert", {**BERT, **MODERN, "initializer_range": 0.02}),
    "MPNet": ("bart", ROBERTA),
    "Roberta": ("bart", ROBERTA),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """A tiny random classifier with three labels, of one architecture after the other."""
    style, settings = FAMILIES[request.param]
    config = getattr(transformers, f"{request.param}Config")(num_labels=3, **settings)
    model_class = getattr(transformers, f"{request.param}ForSequenceClassification")
    tokenizer = make_word_tokenizer(WORDS, 1_000_000_000, style)
    return make_tiny_model(tmp_path_factory.mktemp("family") / request.param, model_class, config, tokenizer)


def some_texts(longest=50, count=40):
    generator = np.random.default_rng(7)
    return [" ".join(generator.choice(WORDS, size)) for size in generator.integers(1, longest, count)]


def test_labels_and_scores_are_those_of_the_transformers_pipeline(family):
    texts = some_texts()
    expected = pipeline("text-classification", model=str(family), device="cpu")(texts)
    found = scored(job_of(family), texts)
    assert found.columns["label"].to_pylist() == [row["label"] for row in expected]
    np.testing.assert_allclose(found.columns["score"].to_numpy(), [row["score"] for row in expected], atol=2e-5)
    assert not found.failed


def test_a_window_is_as_long_as_the_positions_of_the_architecture_allow(family):
    with opened(job_of(family)) as (task, engine, tokens):
        windows = task.prepare([" ".join(["film"] * 500)], tokens)
        assert tokens.max_tokens == windows.lengths.max() == WINDOW
        found = task.score(windows, engine, tokens)
    assert not found.failed


@pytest.fixture(scope="module")
def short_sighted(tmp_path_factory):
    """A tiny classifier that reads 16 tokens at once."""
    return make_tiny_classifier(tmp_path_factory.mktemp("models") / "short", WORDS, max_tokens=16)


@pytest.fixture(scope="module")
def minilm_with_head(tmp_path_factory):
    """An untrained adapter with three labels over the bundled encoder, and that encoder's folder."""
    from windrow.models.bundled import base_folder

    base = base_folder()
    return make_tiny_adapter(tmp_path_factory.mktemp("adapters") / "three", base, ("low", "middle", "high")), base


def by_hand(model, tokenizer, text, window):
    """Probabilities of a text: each window alone through the plain model, averaged by its tokens."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    room = window - 2
    total, weight = 0.0, 0
    for start in range(0, max(1, len(ids)), room):
        whole = [tokenizer.cls_token_id, *ids[start : start + room], tokenizer.sep_token_id]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([whole])).logits[0]
        total = total + torch.softmax(logits, -1).double().numpy() * len(whole)
        weight += len(whole)
    return total / weight


def assert_windows_are_averaged(found, texts, model, tokenizer, window):
    expected = np.stack([by_hand(model, tokenizer, text, window) for text in texts])
    names = [model.config.id2label[best] for best in expected.argmax(axis=1)]
    assert found.columns["label"].to_pylist() == names
    np.testing.assert_allclose(found.columns["score"].to_numpy(), expected.max(axis=1), atol=2e-5)
    assert not found.truncated.any()


def test_a_long_text_is_the_average_of_its_windows_weighted_by_tokens(short_sighted):
    texts = ["bad film", " ".join(["good"] * 14), " ".join(["lovely"] * 15), *some_texts(200, 20)]
    found = scored(job_of(short_sighted), texts)
    model = AutoModelForSequenceClassification.from_pretrained(short_sighted).eval()
    tokenizer = AutoTokenizer.from_pretrained(short_sighted)
    assert_windows_are_averaged(found, texts, model, tokenizer, 16)
    assert found.tokens[:3].tolist() == [4, 16, 16 + 3]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_long_texts_are_averaged_so_over_the_bundled_encoder_too(minilm_with_head):
    from peft import PeftModel

    adapter, base = minilm_with_head
    words = "the battery of this camera lasted three days, and then the seller never answered my letters. "
    texts = ["A fine film.", words * 40, words * 75]
    labels = {0: "low", 1: "middle", 2: "high"}
    plain = AutoModelForSequenceClassification.from_pretrained(base, id2label=labels, dtype=torch.float32)
    plain = PeftModel.from_pretrained(plain, str(adapter)).eval()
    job = job_of("windrow/minilm-extractive", adapter=str(adapter))
    with opened(job) as (task, engine, tokens):
        windows = task.prepare(texts, tokens)
        found = task.score(windows, engine, tokens)
    assert np.bincount(windows.rows)[0] == 1 < np.bincount(windows.rows)[1:].min()
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert_windows_are_averaged(found, texts, plain, tokenizer, tokens.max_tokens)


def test_truncate_reads_the_first_window_alone_and_marks_the_row(short_sighted):
    long = " ".join(["good"] * 14 + ["awful"] * 50)
    task = {"name": "sentiment", "truncate": True}
    found = scored(job_of(short_sighted, task), [long, " ".join(["good"] * 14), "bad"])
    assert found.truncated.tolist() == [True, False, False]
    assert found.tokens.tolist() == [16, 16, 3]
    assert found.columns["score"][0] == found.columns["score"][1]


def with_config(folder, target, **changes):
    """A copy of a model with changes in its config.json; None removes a field."""
    copy = copied(folder, target)
    config = json.loads((copy / "config.json").read_text()) | changes
    (copy / "config.json").write_text(json.dumps({name: value for name, value in config.items() if value is not None}))
    return copy


@pytest.mark.parametrize("problem", ["multi_label_classification", "single_label_classification", "regression"])
def test_the_kind_of_problem_decides_about_the_score_as_in_the_pipeline(problem, tiny_classifier, tmp_path):
    folder = with_config(tiny_classifier, tmp_path / "model", problem_type=problem)
    texts = some_texts(20, 12)
    expected = pipeline("text-classification", model=str(folder), device="cpu")(texts)
    found = scored(job_of(folder), texts)
    assert found.columns["label"].to_pylist() == [row["label"] for row in expected]
    np.testing.assert_allclose(found.columns["score"].to_numpy(), [row["score"] for row in expected], atol=2e-5)


def test_a_single_output_is_a_probability_by_the_sigmoid(tmp_path):
    folder = make_tiny_classifier(tmp_path / "model", WORDS, ("useful",))
    texts = some_texts(20, 12)
    expected = pipeline("text-classification", model=str(folder), device="cpu")(texts)
    found = scored(job_of(folder), texts)
    assert set(found.columns["label"].to_pylist()) == {"useful"}
    np.testing.assert_allclose(found.columns["score"].to_numpy(), [row["score"] for row in expected], atol=2e-5)
    assert 0 < found.columns["score"][0].as_py() < 1


def test_labels_that_nobody_named_are_numbered(tmp_path):
    three = make_tiny_classifier(tmp_path / "three", WORDS, ("a", "b", "c"))
    bare = with_config(three, tmp_path / "bare", id2label=None, label2id=None)
    with opened(job_of(bare)) as (task, engine, tokens):
        assert task.names == ("LABEL_0", "LABEL_1", "LABEL_2")
        labels = task.score(task.prepare(some_texts(), tokens), engine, tokens).columns["label"].to_pylist()
    named = scored(job_of(bare, {"name": "sentiment", "labels": ["bad", "fair", "good"]}), some_texts())
    renamed = {"LABEL_0": "bad", "LABEL_1": "fair", "LABEL_2": "good"}
    assert named.columns["label"].to_pylist() == [renamed[label] for label in labels]


@pytest.mark.parametrize(
    ("changes", "task", "kind", "problem"),
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, {}, ModelError, "gives 2 scores, but names 3 labels"),
        ({"id2label": {"0": "a", "1": "a"}}, {}, ModelError, "label 'a' twice"),
        ({"id2label": {"first": "a"}}, {}, ModelError, "is no list of labels by number"),
        ({"id2label": {"0": "a", "2": "b"}}, {}, ModelError, "is no list of labels by number"),
        ({"id2label": "a, b"}, {}, ModelError, "is no list of labels by number"),
        ({}, {"labels": ["a", "b", "c"]}, JobError, "task.labels has 3 names"),
        ({}, {"labels": ["a", "a"]}, JobError, "task.labels has 'a' twice"),
        ({}, {"truncated": True}, JobError, "no parameter 'truncated'"),
        ({}, {"truncate": "perhaps"}, JobError, "task.truncate"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_loaded(
    changes, task, kind, problem, tiny_classifier, tmp_path
):
    from windrow.models import resolve
    from windrow.tasks import build_task

    folder = with_config(tiny_classifier, tmp_path / "model", **changes)
    job = job_of(folder, {"name": "sentiment", **task})
    with pytest.raises(kind, match=problem):
        build_task(job, resolve(job))


def test_renaming_mends_a_label_that_stands_twice(tiny_classifier, tmp_path):
    folder = with_config(tiny_classifier, tmp_path / "model", id2label={"0": "a", "1": "a"})
    found = scored(job_of(folder, {"name": "sentiment", "labels": ["no", "yes"]}), some_texts())
    assert set(found.columns["label"].to_pylist()) <= {"no", "yes"}


def test_a_checkpoint_that_declares_another_head_is_refused(tmp_path):
    encoder = make_tiny_encoder(tmp_path / "encoder", WORDS)
    with pytest.raises(ModelError, match="has no classification head: it is a BertModel"), opened(job_of(encoder)):
        pass


def test_a_checkpoint_that_lacks_the_head_is_refused_even_if_it_declares_nothing(tmp_path):
    encoder = make_tiny_encoder(tmp_path / "encoder", WORDS)
    bare = with_config(encoder, tmp_path / "bare", architectures=None)
    with pytest.raises(ModelError, match="no weights for classifier"), opened(job_of(bare)):
        pass


def test_a_pooler_without_weights_is_refused_since_the_head_reads_it(tiny_classifier, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(tiny_classifier, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"no weights for bert\.pooler"), opened(job_of(folder)):
        pass


def test_weights_of_another_size_are_refused(tiny_classifier, tmp_path):
    folder = with_config(tiny_classifier, tmp_path / "model", hidden_size=64)
    with pytest.raises(ModelError, match="cannot be loaded for classify"), opened(job_of(folder)):
        pass


def test_a_tokenizer_without_padding_gives_the_same_labels(tiny_classifier, tmp_path):
    folder = copied(tiny_classifier, tmp_path / "model")
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "pad_token"}))
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    texts = some_texts()
    expected, found = (scored(job_of(model), texts).columns["label"] for model in (tiny_classifier, folder))
    assert found == expected


def test_a_word_that_the_model_does_not_know_rejects_its_text_alone(tiny_classifier, tmp_path):
    folder = copied(tiny_classifier, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["xyzzy"])
    tokenizer.save_pretrained(folder)
    texts = ["good film", "a xyzzy", *some_texts(), "xyzzy"]
    found = scored(job_of(folder), texts)
    assert sorted(found.failed) == [1, len(texts) - 1]
    assert {reason for reason, _ in found.failed.values()} == {"model_error"}
    kept = [0, *range(2, len(texts) - 1)]
    expected = scored(job_of(tiny_classifier), [texts[i] for i in kept])
    np.testing.assert_allclose(found.columns["score"].to_numpy()[kept], expected.columns["score"].to_numpy(), atol=1e-5)


def test_outputs_that_are_no_numbers_reject_the_text_whatever_window_they_came_from(short_sighted, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copied(short_sighted, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    broken = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("broken")
    weights["bert.embeddings.word_embeddings.weight"][broken] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    found = scored(job_of(folder), ["good film", "it was broken", "good " * 40 + "broken", "bad"])
    assert {text: reason for text, (reason, _) in found.failed.items()} == {1: "not_finite", 2: "not_finite"}


def test_an_empty_list_of_texts_is_scored_as_such(tiny_classifier):
    found = scored(job_of(tiny_classifier), [])
    assert len(found.columns["label"]) == len(found.columns["score"]) == len(found.tokens) == 0
