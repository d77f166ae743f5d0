"""Translations: the language is named as the model names it, and nothing is cut in silence."""

import json

import numpy as np
import pytest

from models.parts import WORDS, job_of, opened
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.tasks import build_task, fingerprint
from windrow.testing import FakeEngine, make_tiny_classifier, make_tiny_seq2seq

T5_PAIRS = {
    "summarization": {"prefix": "summarize: "},
    "translation_en_to_de": {"prefix": "en to de: ", "max_length": 30, "num_beams": 4, "early_stopping": True},
    "translation_en_to_fr": {"prefix": "en to fr: ", "max_length": 40},
}


@pytest.fixture(scope="module")
def marian(tmp_path_factory):
    return make_tiny_seq2seq(tmp_path_factory.mktemp("models") / "marian", WORDS, "marian", max_length=48)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory):
    return make_tiny_seq2seq(tmp_path_factory.mktemp("models") / "nllb", WORDS, "nllb", max_length=24)


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "t5"
    return make_tiny_seq2seq(folder, WORDS, "t5", task_specific_params=T5_PAIRS)


def asked(folder, **parameters):
    return job_of(folder, {"name": "translate", **parameters})


def task_of(folder, **parameters):
    job = asked(folder, **parameters)
    return build_task(job, resolve(job))


def echoed(task, folder, texts):
    """Score texts with an engine that writes what it reads."""
    tokens = Tokens(resolve(asked(folder)), task.source_lang)
    return task.score(task.prepare(texts, tokens), FakeEngine(lambda ids: [0, *ids]), tokens)


def test_each_text_gets_a_translation_in_its_order(marian):
    with opened(asked(marian)) as (task, engine, tokens):
        found = task.score(task.prepare(["good film", "bad phone", "the plot"], tokens), engine, tokens)
    assert found.columns["translation"].null_count == 0
    assert all(found.columns["translation"].to_pylist())
    assert not found.failed


def test_a_long_text_is_translated_part_by_part_and_nothing_is_lost(marian):
    text = "the film was good. " * 30
    found = echoed(task_of(marian), marian, [text, "bad phone"])
    assert found.columns["translation"].to_pylist() == [text.strip(), "bad phone"]
    assert not found.truncated.any()


def test_a_part_has_room_for_its_translation(marian):
    job = asked(marian, max_tokens=12)
    tokens = Tokens(resolve(job))
    ((*parts,),) = task_of(marian, max_tokens=12).prepare(["the film was good. " * 9], tokens)
    assert tokens.count(parts).max() <= 6


def test_a_translation_that_reaches_its_limit_counts_as_truncated(tmp_path):
    folder = make_tiny_seq2seq(tmp_path / "tiny", WORDS, "marian", min_length=9)
    with opened(asked(folder, max_tokens=8)) as (task, engine, tokens):
        found = task.score(task.prepare(["good film"], tokens), engine, tokens)
    assert found.truncated.tolist() == [True]
    assert found.columns["translation"][0].as_py()


def test_a_model_that_writes_nothing_is_a_reject(marian):
    task, tokens = task_of(marian), Tokens(resolve(asked(marian)))
    end = tokens.tokenizer.eos_token_id
    engine = FakeEngine(lambda ids: [end] if len(ids) < 3 else [0, *ids])
    found = task.score(task.prepare(["good", "bad film"], tokens), engine, tokens)
    assert found.failed == {0: ("empty_output", "the model wrote nothing")}


def test_the_target_language_is_the_first_token_that_is_written(nllb):
    for language in ("deu_Latn", "zho_Hans"):
        with opened(asked(nllb, source_lang="fra_Latn", target_lang=language)) as (task, engine, tokens):
            first = tokens.tokenizer.convert_tokens_to_ids(language)
            windows = tokens.windows(["good film"])
            outputs = engine.generate(windows, task.decoding)
        assert task.decoding.options["forced_bos_token_id"] == first
        assert outputs.values[0][1] == first


def test_the_source_language_marks_the_text(nllb):
    for language in ("fra_Latn", "deu_Latn"):
        task = task_of(nllb, source_lang=language, target_lang="eng_Latn")
        tokens = Tokens(resolve(asked(nllb)), task.source_lang)
        assert tokens.windows(["good"]).ids[0] == tokens.tokenizer.convert_tokens_to_ids(language)
        assert len(tokens.windows(["good " * 200], truncate=True).ids) == tokens.max_tokens


def test_t5_takes_prefix_and_decoding_of_the_pair(t5):
    german, french = (task_of(t5, target_lang=name) for name in ("de", "fr"))
    assert (german.prefix, german.decoding.options["num_beams"], german.longest) == ("en to de: ", 4, 29)
    assert (french.prefix, french.longest) == ("en to fr: ", 39)
    assert task_of(t5, target_lang="de", num_beams=1, max_tokens=9, prefix="x: ").parameters() == {
        "prefix": "x: ",
        "source_lang": None,
        "target_lang": "de",
        "max_new_tokens": 9,
        "do_sample": False,
        "num_beams": 1,
        "early_stopping": True,
    }
    assert task_of(t5, prefix="en to xx: ").prefix == "en to xx: "


def test_a_multilingual_marian_reads_the_language_before_the_text(tmp_path):
    folder = make_tiny_seq2seq(tmp_path / "tiny", [*WORDS, ">>deu<<", ">>fra<<"], "marian")
    task = task_of(folder, target_lang="fra", source_lang="eng")
    assert (task.prefix, task.source_lang) == (">>fra<< ", None)


@pytest.mark.parametrize(
    ("kind", "parameters", "problem"),
    [
        ("nllb", {}, r"several languages.*\n.*set task\.target_lang, for example deu_Latn"),
        ("nllb", {"target_lang": "deu_latn"}, r"target_lang: .* does not know 'deu_latn'; did you mean 'deu_Latn'\?"),
        ("nllb", {"target_lang": "deu_Latn", "source_lang": "English"}, "source_lang: .* does not know 'English'"),
        ("marian", {"target_lang": "de"}, "no languages to choose from"),
        ("t5", {}, r"translates several pairs.*\n.*en to de, en to fr"),
        ("t5", {"target_lang": "ro"}, r"does not translate any to ro.*\n.*use one of: en to de, en to fr"),
        ("marian", {"num_beams": 0}, r"task\.num_beams"),
        ("marian", {"target": "de"}, "no parameter 'target'"),
    ],
)
def test_a_language_or_parameter_that_does_not_fit_is_refused_with_the_fix(request, kind, parameters, problem):
    with pytest.raises(JobError, match=problem):
        task_of(request.getfixturevalue(kind), **parameters)


def test_models_that_do_not_write_are_refused(marian, tmp_path):
    with pytest.raises(ModelError, match="cannot translate"):
        task_of(make_tiny_classifier(tmp_path / "tiny", WORDS))
    config = json.loads((marian / "config.json").read_text()) | {"architectures": ["BartForSequenceClassification"]}
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in marian.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot translate"):
        task_of(copy)


def test_the_fingerprint_changes_with_the_languages(nllb):
    marks = set()
    for source, target in (("eng_Latn", "deu_Latn"), ("fra_Latn", "deu_Latn"), ("eng_Latn", "fra_Latn")):
        job = asked(nllb, source_lang=source, target_lang=target)
        model = resolve(job)
        marks.add(fingerprint(build_task(job, model), model, "fp32"))
    assert len(marks) == 3


def test_tokens_read_are_counted_once(marian):
    found = echoed(task_of(marian), marian, ["good film"])
    assert found.tokens.tolist() == [3]
    assert found.tokens.dtype == np.int32
