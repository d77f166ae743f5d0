import re
import warnings

import numpy as np
import pytest
import transformers
from transformers import pipeline

from models.parts import WORDS, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.tasks import build_task
from windrow.tasks.spans import scheme
from windrow.testing import (
    FakeEngine,
    make_tiny_classifier,
    make_tiny_model,
    make_tiny_tagger,
    make_word_tokenizer,
)

LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
PLAIN = ("O", "name", "place")
STRATEGIES = ["simple", "first", "average", "max", "none"]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    return make_tiny_tagger(tmp_path_factory.mktemp("models") / "tagger", WORDS, LABELS)


def some_texts(count=30, longest=40):
    """Random words, some of which fall into letters, with capitals, accents and marks between them."""
    generator = np.random.default_rng(3)
    words = [*WORDS, "Kyiv", "Zoë", "unbelievably", "it's", "naïve,", "👍", "(plot)"]
    return [" ".join(generator.choice(words, size)) for size in generator.integers(1, longest, count)]


def of_pipeline(folder, texts, strategy, **settings):
    with warnings.catch_warnings(action="ignore"):
        ner = pipeline("token-classification", model=str(folder), aggregation_strategy=strategy, device="cpu")
        return [ner(text, **settings) for text in texts]


def compare(found, expected, texts, atol=1e-4):
    assert sum(map(len, expected)) > len(texts)
    for entities, wanted, text in zip(found.columns["entities"].to_pylist(), expected, texts, strict=True):
        assert [(e["label"], e["start"], e["end"]) for e in entities] == [
            (w.get("entity_group", w.get("entity")), w["start"], w["end"]) for w in wanted
        ]
        np.testing.assert_allclose([e["score"] for e in entities], [w["score"] for w in wanted], atol=atol)
        assert all(e["text"] == text[e["start"] : e["end"]] for e in entities)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_entities_are_those_of_the_transformers_pipeline(strategy, tagger):
    texts = some_texts()
    found = scored(job_of(tagger, {"name": "entities", "aggregation": strategy}), texts)
    compare(found, of_pipeline(tagger, texts, strategy), texts)


@pytest.mark.parametrize("kind", ["DistilBert", "Roberta", "Electra"])
def test_other_architectures_and_labels_without_prefixes_agree_too(kind, tmp_path):
    narrow = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    narrow |= {"initializer_range": 0.5, "max_position_embeddings": 130}
    if kind == "DistilBert":
        narrow = {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64, "initializer_range": 0.5}
    style, extra = ("bart", {"pad_token_id": 1}) if kind == "Roberta" else ("bert", {})
    config = getattr(transformers, f"{kind}Config")(id2label=dict(enumerate(PLAIN)), **narrow, **extra)
    model_class = getattr(transformers, f"{kind}ForTokenClassification")
    folder = make_tiny_model(tmp_path / kind, model_class, config, make_word_tokenizer(WORDS, 128, style))
    texts = some_texts(20, 20)
    compare(scored(job_of(folder, "entities"), texts), of_pipeline(folder, texts, "simple"), texts)


def test_places_are_counted_in_code_points_and_may_follow_any_letter(tagger):
    text = "👍👍 Zoë was 很 in Kyiv 👩‍👩‍👧 and Łódź"
    with opened(job_of(tagger, {"name": "entities", "aggregation": "none"})) as (task, engine, tokens):
        found = task.score(task.prepare([text], tokens), engine, tokens)
        spans = tokens.spans([text], 0)
    entities = found.columns["entities"].to_pylist()[0]
    assert entities
    assert all(e["text"] == text[e["start"] : e["end"]] for e in entities)
    inside = zip(spans.starts[spans.counted].tolist(), spans.ends[spans.counted].tolist(), strict=True)
    assert {(e["start"], e["end"]) for e in entities} <= set(inside)


def subject(folder, answer, **parameters):
    job = job_of(folder, {"name": "entities", **parameters})
    model = resolve(job)
    return build_task(job, model), FakeEngine(answer), Tokens(model)


def named(tokens, labels, **numbers):
    """Answer with a sure label for the tokens that are named, and the first label for all others."""
    by_id = {tokens.tokenizer.vocab[word]: number for word, number in numbers.items()}
    return lambda ids: np.eye(len(labels))[[by_id.get(int(i), 0) for i in ids]] * 20


def test_an_entity_at_the_edge_of_a_window_is_whole(tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, LABELS, max_tokens=16)
    task, engine, tokens = subject(folder, None)
    engine.answer = named(tokens, LABELS, good=1, film=2, phone=2)
    for before in range(60):
        text = " ".join(["bad"] * before + ["good", "film", "phone"] + ["bad"] * 20)
        found = task.score(task.prepare([text], tokens), engine, tokens)
        entities = found.columns["entities"].to_pylist()[0]
        assert [(e["text"], e["label"]) for e in entities] == [("good film phone", "PER")], before
        assert not found.truncated[0]


def test_every_token_of_a_long_text_counts_exactly_once(tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, LABELS, max_tokens=16)
    tokens = Tokens(resolve(job_of(folder, "entities")))
    for size in (0, 1, 13, 14, 15, 26, 27, 40, 200):
        text = " ".join(["good", "bad", "film", "phone", "plot"][i % 5] for i in range(size))
        for overlap in (0, 1, 2, 5):
            spans = tokens.spans([text, "bad"], overlap)
            mine = spans.counted & (np.repeat(spans.windows.rows, spans.windows.lengths) == 0)
            places = list(zip(spans.starts[mine].tolist(), spans.ends[mine].tolist(), strict=True))
            assert places == [(word.start(), word.end()) for word in re.finditer(r"\w+", text)]
            assert spans.windows.lengths.max() <= 16


def test_a_shared_token_takes_the_logits_from_the_middle_of_a_window(tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, LABELS, max_tokens=18)
    tokens = Tokens(resolve(job_of(folder, "entities")))
    spans = tokens.spans([" ".join(["film"] * 40)], 4)
    lengths, counted = spans.windows.lengths, spans.counted
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    inner = [
        counted[start : start + length].nonzero()[0].tolist() for start, length in zip(starts, lengths, strict=True)
    ]
    assert inner[0] == list(range(1, 15))
    assert inner[1] == list(range(3, 15))
    assert inner[-1][0] == 3


def test_truncation_reads_the_first_window_and_marks_the_text(tmp_path):
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, LABELS, max_tokens=16)
    job = job_of(folder, {"name": "entities", "truncate": True})
    found = scored(job, [" ".join(["good"] * 30), "bad"])
    assert found.truncated.tolist() == [True, False]
    assert found.tokens.tolist() == [16, 3]
    assert all(e["end"] <= len("good ") * 14 for e in found.columns["entities"].to_pylist()[0])


def test_labels_and_scores_that_are_not_wanted_are_left_out(tagger):
    texts = some_texts()
    whole = scored(job_of(tagger, "entities"), texts).columns["entities"].to_pylist()
    parameters = {"name": "entities", "labels": ["LOC"], "min_score": 0.6}
    found = scored(job_of(tagger, parameters), texts).columns["entities"].to_pylist()
    wanted = [[e for e in entities if e["label"] == "LOC" and e["score"] >= 0.6] for entities in whole]
    assert [[(e["start"], e["end"]) for e in found_] for found_ in found] == [
        [(e["start"], e["end"]) for e in wanted_] for wanted_ in wanted
    ]
    assert 0 < sum(map(len, found)) < sum(map(len, whole))


def test_neighbours_that_begin_anew_are_two_and_a_label_of_its_own_is_one(tmp_path):
    labels = ("O", "B-PER", "I-PER", "L-PER", "U-PER")
    folder = make_tiny_tagger(tmp_path / "tagger", WORDS, labels)
    task, engine, tokens = subject(folder, None)
    engine.answer = named(tokens, labels, good=1, film=2, phone=3, plot=4)
    cases = {
        "good film phone": ["good film phone"],
        "good good film": ["good", "good film"],
        "good phone film phone": ["good phone", "film phone"],
        "plot plot bad plot": ["plot", "plot", "plot"],
        "film bad film": ["film", "film"],
        "bad": [],
    }
    found = task.score(task.prepare(list(cases), tokens), engine, tokens).columns["entities"].to_pylist()
    assert [[e["text"] for e in entities] for entities in found] == list(cases.values())
    assert {e["label"] for entities in found for e in entities} == {"PER"}


def test_prefixes_are_told_from_hyphens():
    assert scheme(("O", "B-PER", "I-PER", "S-PER", "E-mail", "S-Bahn"))[0] == (
        "O", "PER", "PER", "PER", "E-mail", "S-Bahn",
    )  # fmt: skip
    assert scheme(("I-PER", "name", "e-mail"))[0] == ("PER", "name", "e-mail")


def test_a_text_without_entities_has_an_empty_list_and_failures_have_none(tagger):
    task, engine, tokens = subject(tagger, None)
    sure = named(tokens, LABELS, good=1)

    def answer(ids):
        if tokens.tokenizer.vocab["broken"] in ids:
            raise RuntimeError("it breaks")
        return sure(ids)

    engine.answer = answer
    found = task.score(task.prepare(["bad", "broken good", "good", ""], tokens), engine, tokens)
    assert found.failed == {1: ("model_error", "it breaks")}
    assert [len(entities) for entities in found.columns["entities"].to_pylist()] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("parameters", "kind", "problem"),
    [
        ({"labels": ["PRE"]}, JobError, "no label 'PRE'; did you mean 'PER'"),
        ({"labels": ["B-PER"]}, JobError, "no label 'B-PER'"),
        ({"labels": ["O"]}, JobError, "no label 'O'"),
        ({"aggregation": "most"}, JobError, "task.aggregation"),
        ({"min_score": 2}, JobError, "task.min_score"),
        ({"labels": []}, JobError, "task.labels"),
    ],
)
def test_parameters_that_do_not_fit_are_errors(parameters, kind, problem, tagger):
    job = job_of(tagger, {"name": "entities", **parameters})
    with pytest.raises(kind, match=problem):
        build_task(job, resolve(job))


def test_a_checkpoint_without_the_head_is_refused(tmp_path):
    job = job_of(make_tiny_classifier(tmp_path / "model", WORDS), "entities")
    with pytest.raises(ModelError, match="no head for tokens"):
        build_task(job, resolve(job))
