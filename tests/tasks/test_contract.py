"""What every task promises, whatever it is asked."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.parts import WORDS, job_of, opened, pictures
from windrow.engines import Engine
from windrow.infer import predictions_table
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.predictions import FACTS
from windrow.tasks import TASKS, Task, build_task, engine_plan, fingerprint
from windrow.testing import (
    FakeEngine,
    FakeTask,
    make_tiny_causal,
    make_tiny_classifier,
    make_tiny_encoder,
    make_tiny_seq2seq,
    make_tiny_tagger,
    make_tiny_vit,
)

TEXTS = [
    "good film",
    "the battery was awful. it was not good.",
    "bad",
    "很好看。",
    "the film was slow. " * 30,
    "lovely",
]


def a_chat_model(folder, words, max_tokens=0):
    return make_tiny_causal(folder, words, max_tokens=512)


def an_nli_model(folder, words, max_tokens=64):
    return make_tiny_classifier(folder, words, ("contradiction", "neutral", "entailment"), max_tokens)


PARTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sentiment": (make_tiny_classifier, {}),
    "sentiment, cut": (make_tiny_classifier, {"truncate": True}),
    "summarise, extractive": (make_tiny_encoder, {"max_words": 8}),
    "summarise, abstractive": (make_tiny_seq2seq, {"max_words": 8}),
    "summarise, by chat": (a_chat_model, {"max_words": 8}),
    "generate, by chat": (a_chat_model, {"prompt": "Is {text} good?", "max_new_tokens": 8}),
    "classify, by chat": (a_chat_model, {"labels": ["film", "phone", "camera"]}),
    "classify, by entailment": (an_nli_model, {"labels": ["film", "phone"]}),
    "embed": (make_tiny_encoder, {}),
    "entities": (make_tiny_tagger, {}),
    "image_classify": (make_tiny_vit, {}),
    "translate": (make_tiny_seq2seq, {"max_tokens": 24}),
}
IN_WORDS = [name for name in PARTS if name != "image_classify"]


@dataclass
class Subject:
    """A task with its engine and tokenizer, and the job that asks for it."""

    job: Any
    task: Task
    engine: Engine
    tokens: Any
    texts: list[Any]

    def score(self, texts):
        return self.task.score(self.task.prepare(texts, self.tokens), self.engine, self.tokens)


@pytest.fixture(scope="module", params=[*PARTS, "fake"])
def subject(request, tmp_path_factory):
    make, parameters = PARTS.get(request.param, (make_tiny_classifier, {}))
    in_words = make is not make_tiny_vit
    settings = {"words": WORDS, "max_tokens": 64} if in_words else {}
    folder = make(tmp_path_factory.mktemp("models") / "tiny", **settings)
    job = job_of(folder, {"name": request.param.partition(",")[0].replace("fake", "sentiment"), **parameters})
    with opened(job) as (task, engine, tokens):
        task = FakeTask(str.upper) if request.param == "fake" else task
        yield Subject(job, task, engine, tokens, TEXTS if in_words else pictures(len(TEXTS)))


def test_every_task_is_put_to_the_test():
    assert {name.partition(",")[0] for name in PARTS} == set(TASKS)


def test_there_is_one_value_of_each_column_and_fact_for_each_text(subject):
    found = subject.score(subject.texts)
    assert list(found.columns) == subject.task.columns.names
    for field in subject.task.columns:
        assert len(found.columns[field.name].cast(field.type)) == len(TEXTS)
    assert (found.tokens.dtype, found.tokens.shape) == (np.int32, (len(TEXTS),))
    assert (found.truncated.dtype, found.truncated.shape) == (np.bool_, (len(TEXTS),))
    assert (found.tokens > 0).all()


def test_no_texts_make_no_values(subject):
    found = subject.score([])
    assert [len(column) for column in found.columns.values()] == [0] * len(subject.task.columns)
    assert (len(found.tokens), len(found.truncated), found.failed) == (0, 0, {})


def test_a_text_gets_the_same_value_in_any_order_and_company(subject):
    order = [4, 2, 0, 5, 3, 1]
    found, turned = subject.score(subject.texts), subject.score([subject.texts[i] for i in order])
    alone = subject.score(subject.texts[:1])
    for name, column in found.columns.items():
        expected = [column[i].as_py() for i in order]
        assert alike(turned.columns[name].to_pylist(), expected)
        assert alike(alone.columns[name][0].as_py(), column[0].as_py())
    assert turned.tokens.tolist() == found.tokens[order].tolist()


def alike(one: Any, two: Any) -> bool:
    """Tell whether values are equal, numbers nearly so, however deep they lie."""
    if isinstance(one, float):
        return one == pytest.approx(two, abs=1e-5)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(alike, one, two))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(alike(one[name], two[name]) for name in one)
    return one == two


def test_scored_texts_become_a_table_of_predictions(subject):
    hashes = pa.array([bytes([i]) * 16 for i in range(len(TEXTS))], pa.binary(16))
    found = subject.score(subject.texts)
    found.failed[2] = ("model_error", "made up")
    table = predictions_table(hashes, found, subject.task, "run")
    assert table.schema.names == ["windrow_hash", *subject.task.columns.names, *FACTS.names]
    row = table.slice(2, 1).to_pylist()[0]
    assert (row["windrow_reason"], row["windrow_detail"]) == ("model_error", "made up")
    assert all(row[name] is None for name in subject.task.columns.names)


def test_what_a_task_declares_is_sound(subject):
    task = subject.task
    assert task.head in {"classify", "tag", "embed", "generate", "next", "pairs", "image"}
    assert task.version >= 1
    assert json.loads(json.dumps(task.parameters())) == task.parameters()


@pytest.mark.parametrize("name", IN_WORDS)
def test_a_text_that_breaks_the_model_is_rejected_alone(name, tmp_path):
    make, parameters = PARTS[name]
    job = job_of(make(tmp_path / "tiny", WORDS), {"name": name.partition(",")[0], **parameters})
    model = resolve(job)
    task, tokens = build_task(job, model), Tokens(model)
    broken = tokens.tokenizer.vocab["broken"]

    def answer(ids):
        if broken in ids:
            raise RuntimeError("it breaks")
        return ids[:8] if task.head == "generate" else ([1.0] + [0.0] * 9)[:classes]

    plan = engine_plan(task, tokens, "fake", "cpu", "fp32")
    classes = len(plan.candidates) or plan.labels or 2
    engine = FakeEngine(answer)
    found = task.score(task.prepare(["good film", "a broken phone", "bad"], tokens), engine, tokens)
    assert found.failed == {1: ("model_error", "it breaks")}


def test_a_fingerprint_is_of_model_task_parameters_and_numerics(tmp_path):
    one, two = (make_tiny_classifier(tmp_path / name, WORDS, seed=seed) for seed, name in enumerate("ab"))
    marks = set()
    for folder in (one, two):
        for parameters in ({}, {"truncate": True}, {"labels": ["a", "b"]}):
            job = job_of(folder, {"name": "sentiment", **parameters})
            model = resolve(job)
            task = build_task(job, model)
            marks |= {fingerprint(task, model, precision) for precision in ("fp32", "bf16")}
            assert fingerprint(task, model, "fp32") == fingerprint(build_task(job, model), resolve(job), "fp32")
            task.version += 1
            marks.add(fingerprint(task, model, "fp32"))
    assert len(marks) == 2 * 3 * 3


def test_a_fingerprint_does_not_depend_on_where_the_model_lies(tmp_path):
    marks = set()
    for name in ("here", "there"):
        job = job_of(make_tiny_classifier(tmp_path / name, WORDS))
        model = resolve(job)
        marks.add(fingerprint(build_task(job, model), model, "fp32"))
    assert len(marks) == 1
