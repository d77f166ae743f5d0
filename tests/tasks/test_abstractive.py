import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from models.parts import WORDS, copied, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.tasks import build_task
from windrow.tasks.parts import parts_of
from windrow.tasks.sentences import count_words
from windrow.testing import FakeEngine, make_tiny_classifier, make_tiny_seq2seq

KINDS = ("bart", "marian", "pegasus", "t5")
T5 = {
    "task_specific_params": {"summarization": {"prefix": "it was: ", "max_length": 12, "num_beams": 2, "min_length": 4}}
}


def some_texts(longest=40, count=6):
    generator = np.random.default_rng(3)
    return [" ".join(generator.choice(WORDS, size)) + "." for size in generator.integers(1, longest, count)]


@pytest.fixture(scope="module", params=KINDS)
def family(request, tmp_path_factory):
    """A tiny random seq2seq model of one architecture after the other."""
    folder = tmp_path_factory.mktemp("family") / request.param
    return make_tiny_seq2seq(folder, WORDS, request.param, max_length=16)


@pytest.fixture(scope="module")
def bart(tmp_path_factory):
    """A tiny random BART that reads 64 tokens and writes at most 16."""
    return make_tiny_seq2seq(tmp_path_factory.mktemp("models") / "bart", WORDS, "bart", max_length=16)


def alone(folder, windows, **options):
    """What `generate` itself makes of each window, one after the other."""
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.set_num_threads(1)
    with torch.inference_mode():
        ids = [torch.tensor(windows.window(row)[None].astype(np.int64)) for row in range(len(windows.rows))]
        return [model.generate(row, attention_mask=torch.ones_like(row), **options)[0].tolist() for row in ids]


def without_padding(sequence, pad):
    """A sequence up to its last token that is no padding; the first, from which decoding starts, stays."""
    tokens = list(map(int, sequence))
    while len(tokens) > 1 and tokens[-1] == pad:
        tokens.pop()
    return tokens


@pytest.mark.parametrize("beams", [None, 3])
def test_tokens_are_those_of_generate_itself_whatever_company_a_text_has(family, beams):
    with opened(job_of(family, {"name": "summarise", "num_beams": beams})) as (task, engine, tokens):
        windows = tokens.windows(some_texts())
        found = engine.generate(windows, task.decoding)
    expected = alone(family, windows, do_sample=False, **({"num_beams": beams} if beams else {}))
    pad = tokens.tokenizer.pad_token_id
    assert [without_padding(row, pad) for row in found.values] == [without_padding(row, pad) for row in expected]
    assert not found.failed


def test_a_summary_is_what_the_model_writes(bart):
    texts = some_texts()
    found = scored(job_of(bart, "summarise"), texts)
    tokens = Tokens(resolve(job_of(bart, "summarise")))
    expected = tokens.tokenizer.batch_decode(alone(bart, tokens.windows(texts)), skip_special_tokens=True)
    assert found.columns["summary"].to_pylist() == [" ".join(text.split()) for text in expected]
    assert found.tokens.tolist() == tokens.windows(texts).tokens_per_row().tolist()
    assert not found.truncated.any()


def test_prefix_and_decoding_come_from_the_checkpoint(tmp_path):
    folder = make_tiny_seq2seq(tmp_path / "t5", WORDS, "t5", **T5)
    texts = some_texts(20)
    found = scored(job_of(folder, "summarise"), texts)
    tokens = Tokens(resolve(job_of(folder, "summarise")))
    windows = tokens.windows([f"it was: {text}" for text in texts])
    rows = alone(folder, windows, num_beams=2, min_length=4, max_new_tokens=12, max_length=None)
    expected = tokens.tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert found.columns["summary"].to_pylist() == [" ".join(text.split()) for text in expected]
    task = build_task(job_of(folder, "summarise"), resolve(job_of(folder, "summarise")))
    assert task.parameters()["prefix"] == "it was: "
    assert (task.decoding.max_new_tokens, task.decoding.options["num_beams"]) == (12, 2)


def test_the_generation_configuration_of_the_checkpoint_is_kept(tmp_path):
    good = Tokens(resolve(job_of(make_tiny_seq2seq(tmp_path / "plain", WORDS), "summarise"))).tokenizer.vocab["good"]
    settings = {"max_length": 9, "min_length": 9, "num_beams": 2, "forced_bos_token_id": good}
    folder = make_tiny_seq2seq(tmp_path / "forced", WORDS, **settings)
    with opened(job_of(folder, "summarise")) as (task, engine, tokens):
        found = engine.generate(tokens.windows(some_texts()), task.decoding).values
    assert {len(row) for row in found} == {9}
    assert {int(row[0]) for row in found} == {2}
    assert {int(row[1]) for row in found} == {good}


def test_a_checkpoint_that_samples_is_made_to_choose(bart, tmp_path):
    folder = copied(bart, tmp_path / "sampling")
    config = json.loads((folder / "generation_config.json").read_text()) | {"do_sample": True, "temperature": 5.0}
    (folder / "generation_config.json").write_text(json.dumps(config))
    texts = some_texts()
    assert scored(job_of(folder, "summarise"), texts).columns == scored(job_of(bart, "summarise"), texts).columns


def test_a_checkpoint_that_names_no_length_writes_more_than_the_twenty_tokens_of_the_library(tmp_path):
    folder = make_tiny_seq2seq(tmp_path / "t5", WORDS, "t5")
    assert build_task(job_of(folder, "summarise"), resolve(job_of(folder, "summarise"))).decoding.max_new_tokens == 128


def test_few_words_lower_the_least_length_of_the_checkpoint(tmp_path):
    folder = make_tiny_seq2seq(tmp_path / "bart", WORDS, max_length=60, min_length=50)
    job = job_of(folder, {"name": "summarise", "max_words": 10})
    decoding = build_task(job, resolve(job)).decoding
    assert (decoding.max_new_tokens, decoding.options["min_length"]) == (15, 7)
    assert all(count_words(text) <= 10 for text in scored(job, some_texts()).columns["summary"].to_pylist())


@pytest.mark.parametrize("most", [3, 5, 12])
def test_max_words_are_kept(most, bart):
    texts = some_texts(200)
    found = scored(job_of(bart, {"name": "summarise", "max_words": most}), texts).columns["summary"].to_pylist()
    assert all(0 < count_words(text) <= most for text in found)


def words_of(tokens, ids):
    return tokens.tokenizer.decode(ids, skip_special_tokens=True).split()


def test_a_long_text_is_summarised_over_parts_and_then_over_their_summaries(bart):
    """The engine answers with the first word of each part, so the answer to the answers is the first word of all."""
    job = job_of(bart, "summarise")
    model = resolve(job)
    tokens = Tokens(model)
    parts = []

    def first_word(ids):
        parts.append(words_of(tokens, ids))
        return [2, 0, tokens.tokenizer.vocab[parts[-1][0]], 2]

    sentences = [f"{word} film was fast, the plot was slow." for word in WORDS]
    task, engine = build_task(job, model), FakeEngine(first_word)
    long = " ".join(sentences)
    found = task.score(task.prepare([long, "lovely phone"], tokens), engine, tokens)
    assert found.columns["summary"].to_pylist() == ["good", "lovely"]
    first_round = [words for words in parts if "film" in words]
    assert [word for words in first_round for word in words] == tokens.tokenizer.decode(
        AutoTokenizer.from_pretrained(bart)(long)["input_ids"], skip_special_tokens=True
    ).split()
    assert len(parts) == len(first_round) + 2
    assert all(words[-1].endswith("slow.") for words in first_round)
    assert not found.truncated.any()
    assert found.tokens[0] == int(tokens.count([long])[0]) + 2 * len(first_round)


def test_summaries_of_parts_that_do_not_shrink_are_joined_and_marked(bart):
    job = job_of(bart, "summarise")
    model = resolve(job)
    tokens = Tokens(model)
    task, engine = build_task(job, model), FakeEngine(lambda ids: ids)
    text = " ".join(["the film was slow."] * 60)
    found = task.score(task.prepare([text, "bad"], tokens), engine, tokens)
    assert found.truncated.tolist() == [True, False]
    assert found.columns["summary"].to_pylist() == [text, "bad"]


def test_a_real_model_gets_through_a_very_long_text(bart):
    found = scored(job_of(bart, {"name": "summarise", "max_words": 20}), [" ".join(some_texts(40, 30)), "good film"])
    assert not found.failed
    assert all(0 < count_words(text) <= 20 for text in found.columns["summary"].to_pylist())


def test_a_part_that_fails_rejects_its_text_alone(bart):
    job = job_of(bart, "summarise")
    model = resolve(job)
    tokens = Tokens(model)

    def answer(ids):
        if "awful." in words_of(tokens, ids):
            raise RuntimeError("no")
        return ids[:4]

    task = build_task(job, model)
    texts = ["good film", "the film was slow. " * 30 + "the plot was awful.", "bad"]
    found = task.score(task.prepare(texts, tokens), FakeEngine(answer), tokens)
    assert found.failed == {1: ("model_error", "no")}
    assert found.columns["summary"][0].as_py() == "good film"


def test_an_empty_summary_is_a_reject(bart):
    job = job_of(bart, "summarise")
    model = resolve(job)
    tokens = Tokens(model)
    task = build_task(job, model)
    engine = FakeEngine(
        lambda ids: [2, 0, 2, 1] if any(word.startswith("bad") for word in words_of(tokens, ids)) else ids
    )
    long = "the film was bad. " * 40
    found = task.score(task.prepare(["good", "bad", long], tokens), engine, tokens)
    assert found.failed == {
        1: ("empty_output", "the model wrote nothing"),
        2: ("empty_output", "the model wrote nothing"),
    }
    assert found.columns["summary"][0].as_py() == "good"


def test_an_early_end_ends_the_summary(bart):
    job = job_of(bart, "summarise")
    model = resolve(job)
    tokens = Tokens(model)
    good, film = (tokens.tokenizer.vocab[word] for word in ("good", "film"))
    task = build_task(job, model)
    found = task.score(task.prepare(["bad"], tokens), FakeEngine(lambda _: [2, 0, good, film, 2, 1, 1]), tokens)
    assert found.columns["summary"].to_pylist() == ["good film"]


def test_scores_that_are_no_numbers_reject_the_text(bart):
    with opened(job_of(bart, "summarise")) as (task, engine, tokens):
        encoder = engine.model.get_encoder()
        encoder.embed_tokens = copy.deepcopy(encoder.embed_tokens)  # else the output layer would be spoilt with it
        with torch.no_grad():
            encoder.embed_tokens.weight[tokens.tokenizer.vocab["broken"]] = float("nan")
        found = task.score(task.prepare(["good film", "bad and broken", "lovely phone"], tokens), engine, tokens)
    assert found.failed == {1: ("not_finite", "the model's outputs are not finite numbers")}


def test_positions_that_are_computed_may_be_missing_in_the_checkpoint(tmp_path):
    folder = make_tiny_seq2seq(tmp_path / "pegasus", WORDS, "pegasus", max_length=8)
    expected = scored(job_of(folder, "summarise"), some_texts())
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "embed_positions" not in name}
    assert len(kept) == len(weights) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    assert scored(job_of(folder, "summarise"), some_texts()).columns == expected.columns


def test_a_checkpoint_that_lacks_a_layer_is_refused(bart, tmp_path):
    folder = copied(bart, tmp_path / "bart")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {name: weights[name] for name in weights if "fc1" not in name}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ModelError, match=r"no weights for model\.decoder\.layers\.0\.fc1"):
        scored(job_of(folder, "summarise"), ["good film"])


def test_a_text_that_names_special_tokens_is_read_alike_in_any_company(bart):
    texts = ["good <pad> film </s> bad", "it was a very slow film and the plot was awful"]
    among = scored(job_of(bart, "summarise"), texts).columns["summary"]
    assert scored(job_of(bart, "summarise"), texts[:1]).columns["summary"][0] == among[0]


def test_a_prefix_that_leaves_no_room_is_an_error(bart):
    job = job_of(bart, {"name": "summarise", "prefix": "very " * 60})
    with pytest.raises(JobError, match=r"task\.prefix leaves no room"):
        scored(job, ["good film"])


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"style": "extractive"}, "cannot make extractive summaries"),
        ({"max_words": 2}, r"task\.max_words"),
        ({"num_beams": 0}, r"task\.num_beams"),
        ({"beams": 4}, "no parameter 'beams'"),
        ({"style": "short"}, r"task\.style"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(task, problem, bart):
    job = job_of(bart, {"name": "summarise", **task})
    with pytest.raises(JobError, match=problem):
        build_task(job, resolve(job))


def test_an_encoder_writes_no_summaries(tmp_path):
    job = job_of(make_tiny_classifier(tmp_path / "model", WORDS), {"name": "summarise", "style": "abstractive"})
    with pytest.raises(ModelError, match="cannot make abstractive summaries"):
        build_task(job, resolve(job))


def test_a_classifier_with_a_decoder_writes_no_summaries(bart, tmp_path):
    folder = copied(bart, tmp_path / "classifier")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": ["BartForSequenceClassification"]}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="is a classifier"):
        build_task(job_of(folder, "summarise"), resolve(job_of(folder, "summarise")))


@pytest.mark.parametrize(
    "text",
    [
        "the film was slow. " * 100,
        "very " * 500,
        "x" * 5000,
        "the plot. " + "lovely " * 300 + ". bad. " * 50,
        "很好看。" * 100,
    ],
)
def test_parts_fit_and_hold_the_whole_text(text, bart):
    tokens = Tokens(resolve(job_of(bart, "summarise")))
    parts = parts_of(text, 40, tokens)
    assert tokens.count(parts).max() <= 40
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert len(parts) <= 2 + 2 * int(tokens.count([text])[0]) // 40
