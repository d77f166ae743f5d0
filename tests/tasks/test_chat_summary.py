import pytest

from models.parts import WORDS, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.tasks import build_task
from windrow.tasks.sentences import count_words
from windrow.testing import make_tiny_causal

LONG = "The film was slow. " * 60 + "It was not a phone. " * 30


def task(**parameters):
    return {"name": "summarise", "max_words": 6, **parameters}


def test_a_chat_model_is_asked_for_a_summary_and_nothing_else(tmp_path):
    folder = make_tiny_causal(tmp_path / "m", WORDS)
    with opened(job_of(folder, task())) as (made, engine, tokens):
        seen = []
        generate = engine.generate
        engine.generate = lambda windows, decoding: seen.append(windows) or generate(windows, decoding)
        found = made.score(made.prepare(["good film"], tokens), engine, tokens)
    prompt = "<s><|user|>Summarise the text below in at most 6 words. Answer with the summary alone.\n\ngood film"
    expected = tokens.tokenizer(f"{prompt}<|end|><|assistant|>", add_special_tokens=False).input_ids
    assert seen[0].ids.tolist() == expected
    assert found.tokens.tolist() == [len(expected)]


def test_long_texts_are_summarised_over_parts_and_then_over_their_summaries(tmp_path):
    folder = make_tiny_causal(tmp_path / "m", WORDS, max_tokens=160, follows={"<|assistant|>": "slow", "slow": "film"})
    with opened(job_of(folder, task())) as (made, engine, tokens):
        rounds = []
        generate = engine.generate
        engine.generate = lambda windows, decoding: rounds.append(windows) or generate(windows, decoding)
        found = made.score(made.prepare([LONG, "good film"], tokens), engine, tokens)
    assert found.columns["summary"].to_pylist() == ["slow film", "slow film"]
    assert len(rounds) == 2
    assert max(windows.lengths.max() for windows in rounds) <= 160 - made.new_tokens
    assert (
        " ".join(tokens.tokenizer.decode(rounds[0].window(i)) for i in range(len(rounds[0].rows))).count("slow") == 60
    )
    assert (found.failed, found.truncated.tolist()) == ({}, [False, False])


def test_a_summary_keeps_to_its_words_and_says_when_it_was_cut(tmp_path):
    folder = make_tiny_causal(tmp_path / "m", WORDS, follows={"<|assistant|>": "slow", "slow": "slow"})
    found = scored(job_of(folder, task()), ["good film"])
    assert found.columns["summary"].to_pylist() == ["slow slow slow slow slow slow…"]
    assert count_words(found.columns["summary"][0].as_py()) == 6
    assert found.truncated.tolist() == [True]


def test_a_chat_model_that_writes_nothing_is_a_reject(tmp_path):
    folder = make_tiny_causal(tmp_path / "m", WORDS, follows={"film": "film"})
    assert scored(job_of(folder, task()), ["good film"]).failed == {0: ("empty_output", "the model wrote nothing")}


@pytest.mark.parametrize("parameters", [{"prefix": "sum: "}, {"num_beams": 2}])
def test_what_a_chat_model_has_no_use_for_is_refused(tmp_path, parameters):
    job = job_of(make_tiny_causal(tmp_path / "m", WORDS), task(**parameters))
    with pytest.raises(JobError, match="is for seq2seq checkpoints"):
        build_task(job, resolve(job))


def test_a_chat_model_makes_no_extractive_summaries(tmp_path):
    job = job_of(make_tiny_causal(tmp_path / "m", WORDS), task(style="extractive"))
    with pytest.raises(ModelError, match="cannot make extractive summaries"):
        build_task(job, resolve(job))


def test_a_context_too_short_for_summaries_is_refused(tmp_path):
    folder = make_tiny_causal(tmp_path / "m", WORDS, max_tokens=64)
    with pytest.raises(JobError, match="leaves no room for a text"):
        scored(job_of(folder, task()), ["good film"])
