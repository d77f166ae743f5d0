import numpy as np
import pytest

from models.parts import WORDS, job_of, opened, scored
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.tasks import build_task
from windrow.tasks.extractive import _MOST_SENTENCES, choose
from windrow.tasks.sentences import count_words, first_words, sentences
from windrow.testing import FakeEngine, make_tiny_encoder

REVIEW = (
    "I bought this camera for a trip to the mountains. The pictures are sharp and the colours look natural. "
    "The battery lasts two days. My uncle lives in Ohio. Sharp pictures and natural colours are what I wanted. "
    "The battery could last longer, though."
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A tiny random encoder."""
    return make_tiny_encoder(tmp_path_factory.mktemp("models") / "encoder", WORDS)


def task_of(encoder, **parameters):
    job = job_of(encoder, {"name": "summarise", **parameters})
    model = resolve(job)
    return build_task(job, model), Tokens(model)


def summaries(encoder, texts, **parameters):
    return scored(job_of(encoder, {"name": "summarise", **parameters}), texts).columns["summary"].to_pylist()


def unit(*angles):
    """Vectors in a plane, by their angles in degrees."""
    return np.asarray([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles], dtype=np.float32)


def test_the_bundled_encoder_picks_what_a_review_is_about():
    [summary] = summaries("windrow/minilm-extractive", [REVIEW], max_words=20)
    assert "pictures" in summary
    assert "uncle" not in summary
    assert count_words(summary) <= 20


def test_a_summary_is_whole_sentences_of_the_text_in_their_order(encoder):
    for most in (6, 12, 25):
        [summary] = summaries(encoder, [REVIEW], max_words=most)
        found = [sentences(REVIEW).index(sentence) for sentence in sentences(summary)]
        assert found == sorted(set(found)) != []
        assert count_words(summary) <= most


def test_the_most_central_sentence_comes_first_and_its_echo_last():
    vectors = unit(0, 4, 40, -40, 90)
    assert choose(vectors, [10] * 5, 10, 0.7) in ([0], [1])
    assert choose(vectors, [10] * 5, 20, 0.3) in ([0, 2], [0, 3], [1, 2], [1, 3])


def test_a_sentence_that_repeats_another_word_for_word_is_not_taken_twice(encoder):
    text = "The film was great. The film was great. The battery was not."
    [summary] = summaries(encoder, [text], max_words=60, redundancy=1.0)
    assert summary.count("The film was great.") == 1


def test_marginal_and_short_sentences_do_not_fill_up_what_is_left():
    vectors = unit(0, 10, 20, 85)
    assert 3 not in choose(vectors, [8, 8, 8, 8], 60, 0.7)
    assert choose(unit(0, 20, 40), [8, 2, 8], 60, 0.7) == [0, 2]
    assert choose(unit(0, 20, 40), [2, 2, 2], 60, 0.7) == [0, 1, 2]


def test_sentences_that_point_away_from_each_other_are_still_chosen():
    assert choose(unit(0, 180), [5, 5], 5, 0.7) in ([0], [1])


@pytest.mark.parametrize("text", ["The film was great.", "great", "!!!", "…", "\u200b", "a\n\nb"])
def test_a_text_that_is_short_enough_is_its_own_summary(text, encoder):
    assert summaries(encoder, [text]) == [" ".join(text.split())]


def test_where_no_sentence_fits_the_best_one_is_cut_and_marked(encoder):
    long = "the film was a very good film with a great plot and a lovely battery"
    found = scored(job_of(encoder, {"name": "summarise", "max_words": 5}), [long, "bad film"])
    assert found.columns["summary"].to_pylist() == ["the film was a very…", "bad film"]
    assert found.truncated.tolist() == [True, False]


def test_words_are_counted_where_there_are_no_blanks(encoder):
    chinese = "这部电影很好看。我非常喜欢它！电池很差。手机很贵。"  # noqa: RUF001
    [summary] = summaries(encoder, [chinese], max_words=10)
    assert 0 < count_words(summary) <= 10
    assert count_words("这部电影很好看。") == 8
    assert first_words("这部电影很好看。", 4) == "这部电影"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这部电影很好看。我非常喜欢它！", ["这部电影很好看。", "我非常喜欢它！"]),  # noqa: RUF001
        ("यह फोन अच्छा है। बैटरी खराब है।", ["यह फोन अच्छा है।", "बैटरी खराब है।"]),
        ("Это хороший фильм. Мне понравилось!", ["Это хороший фильм.", "Мне понравилось!"]),
        ("هذا الهاتف جيد. هل تحب الكاميرا؟", ["هذا الهاتف جيد.", "هل تحب الكاميرا؟"]),
        ("Dr. Smith paid $3.50.  It\nworks.", ["Dr. Smith paid $3.50.", "It works."]),
        ("", []),
        (" \n\t ", []),
    ],
)
def test_sentences_end_where_their_script_ends_them(text, expected):
    assert sentences(text) == expected


@pytest.mark.parametrize(
    "text", ["The film was great. ", "很好看。", "a ", "x", "\n", '"No." ', "Mr. ", "(a. ", "word\n"], ids=repr
)
def test_a_text_of_a_megabyte_is_split_without_loss_into_readable_pieces(text):
    whole = text * (1_000_000 // len(text.encode()))
    found = sentences(whole)
    assert "".join("".join(found).split()) == "".join(whole.split())
    assert max(map(len, found), default=0) <= 2000


def test_a_megabyte_of_sentences_is_summarised_in_bounded_memory(encoder):
    """A matrix of every sentence with every other would take a gigabyte; vectors alone take two megabytes."""
    import tracemalloc

    generator = np.random.default_rng(5)
    task, tokens = task_of(encoder, max_words=50)
    text = "".join(f"The {' '.join(generator.choice(WORDS, 9))}. " for _ in range(18_000))[:1_000_000]
    prepared = task.prepare([text, "bad film"], tokens)
    vectors = generator.normal(size=(len(prepared.parts), 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    row = iter(vectors)
    tracemalloc.start()
    found = task.score(prepared, FakeEngine(lambda _: next(row)), tokens)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert 0 < count_words(found.columns["summary"][0].as_py()) <= 50


def test_a_great_many_tiny_sentences_are_joined_to_fewer(encoder):
    task, tokens = task_of(encoder)
    prepared = task.prepare(["(a. " * 50_000], tokens)
    assert len(prepared.parts) <= _MOST_SENTENCES
    assert "".join("".join(prepared.parts).split()) == "(a." * 50_000


def test_a_sentence_of_many_windows_counts_as_one(tmp_path):
    small = make_tiny_encoder(tmp_path / "small", WORDS, max_tokens=16)
    long = "the film was " + "very " * 40 + "great"
    with opened(job_of(small, {"name": "summarise", "max_words": 60})) as (task, engine, tokens):
        prepared = task.prepare([f"bad. {long}. awful plot."], tokens)
        found = task.score(prepared, engine, tokens)
    assert len(prepared.windows.rows) > len(prepared.parts) == 3
    assert found.columns["summary"][0].as_py().startswith("the film was very")
    assert found.tokens.tolist() == [int(prepared.windows.lengths.sum())]


def test_a_sentence_that_fails_rejects_its_text_alone(encoder):
    task, tokens = task_of(encoder)
    awful = tokens.tokenizer.vocab["awful"]

    def answer(ids):
        if awful in ids:
            raise RuntimeError("no")
        return [1.0, 0.0]

    texts = ["good film. bad plot.", "The film was fast. The plot was awful.", "bad"]
    found = task.score(task.prepare(texts, tokens), FakeEngine(answer), tokens)
    assert found.failed == {1: ("model_error", "no")}
    assert found.columns["summary"][2].as_py() == "bad"


def test_style_follows_the_model_and_defaults_to_sixty_words(encoder):
    task, _ = task_of(encoder)
    assert task.parameters() == {"style": "extractive", "max_words": 60, "redundancy": 0.7}
