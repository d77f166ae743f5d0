import json

import numpy as np
import pytest
import torch
from transformers import AutoModel

from models.parts import WORDS, copied, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.models.bundled import base_folder
from windrow.models.tokens import Tokens
from windrow.tasks import build_task
from windrow.testing import FakeEngine, make_tiny_encoder, make_tiny_seq2seq

TEXTS = [
    "The battery lasts two days.",
    "battery life is great, two full days!",
    "A dull film.",
    "Dr. Smith was not amused; he left after ten minutes.",
    "I",
    "naïve café 5 % 👍",
]
POOLING = {"word_embedding_dimension": 32}


def vectors(found):
    return np.asarray(found.columns["embedding"].to_pylist(), dtype=np.float32)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return make_tiny_encoder(tmp_path_factory.mktemp("models") / "encoder", WORDS, max_tokens=16)


@pytest.fixture
def sentence_model(encoder, tmp_path):
    """Make a Sentence Transformers folder over the tiny encoder."""

    def make(pooling=None, normalize=True, told=None, reading=None, extra=()):
        folder = copied(encoder, tmp_path / f"model{len(list(tmp_path.iterdir()))}")
        kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), *([("2_Normalize", "Normalize")] if normalize else [])]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate([*kinds, *extra])
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        settings = {**POOLING, **(pooling or {"pooling_mode_mean_tokens": True})}
        (folder / "1_Pooling/config.json").write_text(json.dumps(settings))
        if told:
            (folder / "config_sentence_transformers.json").write_text(json.dumps(told))
        if reading:
            (folder / "sentence_bert_config.json").write_text(json.dumps(reading))
        return folder

    return make


def reference(folder, texts, **settings):
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(texts, **settings)


def test_vectors_of_the_bundled_model_are_those_of_sentence_transformers(home):
    found = vectors(scored(job_of("windrow/minilm-embed", "embed"), TEXTS))
    np.testing.assert_allclose(found, reference(base_folder(), TEXTS), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_truncated_long_texts_are_read_as_far_as_sentence_transformers_reads_them(home):
    texts = ["the film was slow and the plot was thin " * 60, TEXTS[0]]
    found = scored(job_of("windrow/minilm-embed", {"name": "embed", "truncate": True}), texts)
    assert (found.truncated.tolist(), found.tokens.tolist()[0]) == ([True, False], 256)
    np.testing.assert_allclose(vectors(found), reference(base_folder(), texts), atol=1e-4)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_lasttoken": True},
        {"pooling_mode": "mean"},
    ],
    ids=str,
)
def test_pooling_and_scaling_are_those_that_the_folder_tells(pooling, normalize, sentence_model):
    folder = sentence_model(pooling, normalize)
    texts = ["good film", "the battery was awful", "bad"]
    found = vectors(scored(job_of(folder, "embed"), texts))
    np.testing.assert_allclose(found, reference(folder, texts), atol=1e-4)


def test_the_default_prompt_of_the_folder_stands_before_each_text_unless_another_is_told(sentence_model):
    told = {"prompts": {"query": "good ", "document": "bad "}, "default_prompt_name": "document"}
    folder = sentence_model(told=told)
    texts = ["film", "the phone"]
    found = vectors(scored(job_of(folder, "embed"), texts))
    np.testing.assert_allclose(found, reference(folder, texts), atol=1e-4)
    other = vectors(scored(job_of(folder, {"name": "embed", "prefix": "good "}), texts))
    np.testing.assert_allclose(other, reference(folder, texts, prompt_name="query"), atol=1e-4)
    plain = vectors(scored(job_of(folder, {"name": "embed", "prefix": ""}), texts))
    assert np.abs(plain - found).max() > 1e-2


def test_windows_and_case_are_those_that_the_folder_tells(sentence_model):
    folder = sentence_model(reading={"max_seq_length": 8, "do_lower_case": True})
    texts = ["GOOD Film", "good film " * 20]
    with opened(job_of(folder, {"name": "embed", "truncate": True})) as (task, engine, tokens):
        windows = task.prepare(texts, tokens)
        found = vectors(task.score(windows, engine, tokens))
    assert windows.lengths.tolist() == [4, 8]
    np.testing.assert_allclose(found, reference(folder, texts), atol=1e-4)


def test_parameters_go_before_what_the_folder_tells(sentence_model, encoder):
    folder = sentence_model({"pooling_mode_cls_token": True}, normalize=False)
    parameters = {"name": "embed", "pooling": "mean", "normalize": True}
    texts = ["good film", "bad"]
    np.testing.assert_allclose(
        vectors(scored(job_of(folder, parameters), texts)), vectors(scored(job_of(encoder, "embed"), texts)), atol=1e-6
    )


def test_without_a_folder_of_sentence_transformers_vectors_are_means_of_length_one(encoder):
    found = vectors(scored(job_of(encoder, "embed"), ["good film"]))
    model = AutoModel.from_pretrained(encoder, dtype=torch.float32).eval()
    ids = Tokens(resolve(job_of(encoder, "embed"))).windows(["good film"]).ids
    with torch.inference_mode():
        mean = model(torch.tensor(ids[None].astype(np.int64))).last_hidden_state[0].mean(0).numpy()
    np.testing.assert_allclose(found[0], mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_long_text_is_the_mean_of_its_windows_weighted_by_tokens(normalize, encoder):
    text = " ".join(WORDS)
    parameters = {"name": "embed", "normalize": normalize}
    with opened(job_of(encoder, parameters)) as (task, engine, tokens):
        windows = task.prepare([text, "bad"], tokens)
        parts = engine.embed(windows, "mean", normalize).values
        found = vectors(task.score(windows, engine, tokens))
    assert len(parts) == 3
    mean = (parts[:2] * windows.lengths[:2, None]).sum(axis=0) / windows.lengths[:2].sum()
    expected = mean / np.linalg.norm(mean) if normalize else mean
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_fewer_dimensions_are_the_first_ones_scaled_anew(normalize, encoder):
    texts = ["good film", "bad"]
    whole = vectors(scored(job_of(encoder, {"name": "embed", "normalize": normalize}), texts))
    found = vectors(scored(job_of(encoder, {"name": "embed", "normalize": normalize, "dimensions": 8}), texts))
    cut = whole[:, :8]
    expected = cut / np.linalg.norm(cut, axis=1, keepdims=True) if normalize else cut
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_vector_of_nothing_is_a_reject(encoder):
    job = job_of(encoder, "embed")
    model = resolve(job)
    task, tokens = build_task(job, model), Tokens(model)
    engine = FakeEngine(lambda ids: [0.0, 0.0] if len(ids) == 3 else [3.0, 4.0])
    found = task.score(task.prepare(["bad", "good film"], tokens), engine, tokens)
    assert found.failed == {0: ("no_direction", "the vector has length zero")}
    np.testing.assert_allclose(found.columns["embedding"][1].as_py(), [0.6, 0.8], atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"extra": [("2_Dense", "Dense")]}, "makes its vectors with Dense"),
        ({"pooling": {"pooling_mode_weightedmean_tokens": True}}, "pools by weightedmean"),
        ({"pooling": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}}, "pools by cls and mean"),
        (
            {
                "pooling": {"pooling_mode": "mean", "include_prompt": False},
                "told": {"prompts": {"q": "good "}, "default_prompt_name": "q"},
            },
            "leaves its prompt out",
        ),
    ],
)
def test_a_folder_that_asks_for_what_is_not_done_is_refused(settings, problem, sentence_model):
    job = job_of(sentence_model(**settings), "embed")
    with pytest.raises(ModelError, match=problem):
        build_task(job, resolve(job))


def test_a_folder_that_lost_a_part_or_has_a_broken_one_is_refused(sentence_model):
    folder = sentence_model()
    (folder / "modules.json").write_text("[")
    job = job_of(folder, "embed")
    with pytest.raises(ModelError, match=r"modules.json .* is broken"):
        build_task(job, resolve(job))
    folder = sentence_model()
    (folder / "1_Pooling/config.json").unlink()
    job = job_of(folder, "embed")
    with pytest.raises(ModelError, match=r"lacks 1_Pooling/config.json"):
        build_task(job, resolve(job))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"dimensions": 33}, "vectors have 32 numbers"),
        ({"dimensions": 0}, "task.dimensions"),
        ({"pooling": "median"}, "task.pooling"),
        ({"normalise": True}, "no parameter 'normalise'"),
    ],
)
def test_parameters_that_do_not_fit_are_errors(parameters, problem, encoder):
    job = job_of(encoder, {"name": "embed", **parameters})
    with pytest.raises(JobError, match=problem):
        build_task(job, resolve(job))


def test_a_prefix_that_leaves_no_room_is_an_error(encoder):
    job = job_of(encoder, {"name": "embed", "prefix": "good " * 12})
    model = resolve(job)
    with pytest.raises(JobError, match="leaves no room"):
        build_task(job, model).prepare(["film"], Tokens(model))


def test_a_seq2seq_model_is_refused(tmp_path):
    job = job_of(make_tiny_seq2seq(tmp_path / "model", WORDS), "embed")
    with pytest.raises(ModelError, match="seq2seq"):
        build_task(job, resolve(job))
