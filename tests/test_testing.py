import numpy as np
import pyarrow as pa
import pytest

import windrow.testing
from models.parts import WORDS, job_of, scored
from windrow.engines.base import Decoding
from windrow.errors import SourceError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import (
    FakeEngine,
    FakeSource,
    FakeTask,
    make_tiny_adapter,
    make_tiny_classifier,
    make_tiny_encoder,
    make_tiny_seq2seq,
    make_word_tokenizer,
)


def test_all_that_is_named_is_there():
    assert all(hasattr(windrow.testing, name) for name in windrow.testing.__all__)


@pytest.mark.parametrize("style", ["bert", "bart", "t5"])
def test_words_are_tokens_and_other_words_fall_into_letters(style):
    tokenizer = make_word_tokenizer(["good", "film"], style=style)
    ids = tokenizer("Good film on", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["good", "film", "o", "##n"]
    assert tokenizer.decode(tokenizer("good film")["input_ids"], skip_special_tokens=True) == "good film"
    assert tokenizer.unk_token_id == tokenizer.convert_tokens_to_ids("no such word")


def test_a_seed_makes_the_same_weights_again(tmp_path):
    texts = ["good film", "bad phone"]
    found = [
        scored(job_of(make_tiny_classifier(tmp_path / name, WORDS, seed=seed)), texts).columns["score"].to_pylist()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert found[0] == found[1] != found[2]


def test_the_makers_make_models_that_score(tmp_path):
    base = make_tiny_encoder(tmp_path / "base", WORDS)
    adapter = make_tiny_adapter(tmp_path / "adapter", base, ("no", "yes"))
    writer = make_tiny_seq2seq(tmp_path / "writer", WORDS, max_length=8)
    texts = ["good film. it was great.", "bad phone"]
    labels = scored(job_of(base, adapter=str(adapter)), texts).columns["label"].to_pylist()
    assert set(labels) <= {"no", "yes"}
    for folder in (base, writer):
        assert all(scored(job_of(folder, "summarise"), texts).columns["summary"].to_pylist())


def test_a_fake_engine_answers_by_window_and_notes_what_fails(tmp_path):
    tokens = Tokens(resolve(job_of(make_tiny_classifier(tmp_path / "model", WORDS))))
    windows = tokens.windows(["good", "bad film", "phone"])

    def answer(ids):
        if len(ids) == 4:
            raise ValueError("four tokens")
        return [float(len(ids)), 0.0]

    engine = FakeEngine(answer)
    found = engine.classify(windows)
    assert found.values.tolist() == [[3.0, 0.0], [0.0, 0.0], [3.0, 0.0]]
    assert found.failed == {1: ("model_error", "four tokens")}
    assert engine.embed(windows).failed == found.failed
    assert engine.windows_seen == 6
    assert engine.tag(windows).failed == found.failed
    assert [logits.shape for logits in engine.tag(windows).values] == [(3, 2), (4, 0), (3, 2)]
    written = FakeEngine(lambda ids: ids[1:2]).generate(windows, Decoding())
    assert [row.tolist() for row in written.values] == [windows.window(w)[1:2].tolist() for w in range(3)]


def test_a_fake_source_gives_the_columns_asked_for_in_small_record_batches():
    source = FakeSource(pa.table({"id": range(5), "body": list("abcde")}), ["line 7: ragged"], batch_rows=2)
    batches = list(source.batches(["body"]))
    assert [batch.num_rows for batch in batches] == [2, 2, 1]
    assert pa.Table.from_batches(batches).to_pydict() == {"body": list("abcde")}
    assert source.schema().names == ["id", "body"]
    assert source.malformed() == ["line 7: ragged"]
    with pytest.raises(SourceError, match="did you mean 'body'"):
        list(source.batches(["bodi"]))


def test_a_fake_task_answers_by_text_and_rejects_what_it_cannot(tmp_path):
    def answer(text):
        if not text.isascii():
            raise ValueError("not ASCII")
        return text.upper()

    found = FakeTask(answer).score(["good film", "é"], FakeEngine(len), None)
    assert found.columns["answer"].to_pylist() == ["GOOD FILM", None]
    assert found.failed == {1: ("model_error", "not ASCII")}
    np.testing.assert_array_equal(found.tokens, [2, 1])
