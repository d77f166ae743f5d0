"""Chat models, prompts and schemas that cannot be used, and texts that they cannot answer: exit 2, or rejects."""

from __future__ import annotations

import json

import pytest

from windrow.testing import make_tiny_causal, make_tiny_classifier

WORDS = ["good", "bad", "film", "phone", "battery", "lovely", "plot", "slow", "camera", "the", "was", "awful"]
ASK = {"name": "generate", "prompt": "Judge: {text}", "max_new_tokens": 8}


@pytest.fixture
def chat(tmp_path):
    return make_tiny_causal(tmp_path / "chat", WORDS)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (ASK, ("does not write", "BertForSequenceClassification")),
        (
            {"name": "classify", "labels": ["good", "bad"]},
            ("labels of its own (negative, positive)", "use task sentiment"),
        ),
    ],
)
def test_a_checkpoint_without_the_head_is_refused(call, refused, write_job, task, words):
    refused(call("run", write_job(task=task)), 2, *words)


def test_a_decoder_whose_head_has_no_weights_is_refused(call, refused, write_job, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = make_tiny_causal(tmp_path / "m", WORDS, follows={"good": "bad"})
    weights = load_file(folder / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    refused(call("run", write_job(model=str(folder), task=ASK)), 2, "lacks the head for generate", "lm_head.weight")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "Judge: {body}"}, ("task.prompt", "{body}", "{text}")),
        ({"prompt": "Judge!"}, ("task.prompt", "lacks {text}")),
        ({"promt": "x"}, ("no parameter 'promt'", "windrow schema --task generate")),
        ({"max_new_tokens": "many"}, ("task.max_new_tokens",)),
        ({"max_new_tokens": 4096}, ("task.max_new_tokens (4096)", "256")),
        ({"schema": {"type": "objekt"}}, ("no valid JSON schema", "objekt")),
        ({"schema": "lost.json"}, ("lost.json", "cannot be read")),
        ({"schema": "broken.json"}, ("broken.json", "not valid JSON")),
    ],
)
def test_a_wrong_question_is_refused(call, refused, write_job, chat, tmp_path, change, words):
    (tmp_path / "broken.json").write_text('{"type": ')
    refused(call("run", write_job(model=str(chat), task={**ASK, **change})), 2, *words)


def test_a_tokenizer_without_a_pad_token_is_no_obstacle(write_job, published, chat, tables):
    assert "pad_token" not in json.loads((chat / "tokenizer_config.json").read_text(encoding="utf-8"))
    receipt = published(write_job(model=str(chat), task=ASK))
    assert (receipt["rows_published"], receipt["rejects"]) == (5, {})
    assert tables("SELECT count(*) FROM {t} WHERE length(output) > 0 AND windrow_tokens > 0") == [(5,)]
    assert published(write_job(model=str(chat), task=ASK))["texts_scored"] == 0


def test_a_text_longer_than_the_context_is_a_reject_with_its_counts(write_job, published, tables, tmp_path):
    folder = make_tiny_causal(tmp_path / "short", WORDS, max_tokens=20)
    receipt = published(write_job(model=str(folder), task=ASK))
    assert receipt["rejects"]["too_long"] == receipt["rows_rejected"] > 0
    details = [detail for (detail,) in tables("SELECT detail FROM {r}")]
    assert all(detail.endswith("and 8 for the answer; the model reads 20") for detail in details)


def test_an_answer_that_never_ends_is_bounded_and_marked(write_job, published, tables, tmp_path):
    folder = make_tiny_causal(tmp_path / "endless", WORDS, follows={"<|assistant|>": "bad", "bad": "bad"})
    receipt = published(write_job(model=str(folder), task=ASK))
    assert receipt["rows_truncated"] == 5
    assert tables("SELECT DISTINCT output, windrow_truncated FROM {t}") == [(" ".join(["bad"] * 8), True)]


def test_answers_that_stay_invalid_are_rejects_with_the_reason(write_job, published, tables, tmp_path):
    folder = make_tiny_causal(tmp_path / "chatty", WORDS, max_tokens=512, follows={"<|assistant|>": "lovely"})
    receipt = published(write_job(model=str(folder), task={**ASK, "schema": {"type": "object"}}))
    assert receipt["rejects"] == {"invalid_answer": 5}
    assert tables("SELECT DISTINCT detail FROM {r}") == [("it holds no JSON; the model wrote: lovely",)]


def test_a_number_is_published_as_the_json_that_was_asked_for(write_job, published, tables, tmp_path):
    folder = make_tiny_causal(tmp_path / "counting", WORDS, max_tokens=512, follows={"<|assistant|>": "7"})
    schema = {"type": "integer", "minimum": 1}
    (tmp_path / "stars.json").write_text(json.dumps(schema))
    receipt = published(write_job(model=str(folder), task={**ASK, "schema": "stars.json"}))
    assert receipt["rejects"] == {}
    assert tables("SELECT DISTINCT output FROM {t}") == [("7",)]
    assert published(write_job(model=str(folder), task={**ASK, "schema": schema}))["texts_scored"] == 0


def test_a_model_that_writes_nothing_gives_rejects(write_job, published, tmp_path):
    folder = make_tiny_causal(tmp_path / "silent", WORDS, follows={"film": "film"})
    assert published(write_job(model=str(folder), task=ASK))["rejects"] == {"empty_output": 5}


def test_labels_are_chosen_and_counted(write_job, published, tables, tmp_path):
    folder = make_tiny_causal(tmp_path / "choosing", WORDS, follows={"<|assistant|>": "b"})
    receipt = published(write_job(model=str(folder), task={"name": "classify", "labels": ["praise", "complaint"]}))
    assert receipt["labels"] == {"complaint": 5}
    nli = make_tiny_classifier(tmp_path / "nli", WORDS, ("entailment", "neutral", "contradiction"))
    receipt = published(write_job(model=str(nli), task={"name": "classify", "labels": ["praise", "complaint"]}))
    assert sum(receipt["labels"].values()) == 5


def test_engines_that_cannot_write_say_so(call, refused, write_job, chat):
    refused(call("run", write_job(model=str(chat), task=ASK, engine="vllm")), 2, "'vllm' is not installed")
    job = write_job(model=str(chat), task={"name": "classify", "labels": ["a", "b"]}, engine="openvino", device="cpu")
    refused(call("run", job), 2, "openvino")


def test_plan_and_check_know_the_tasks(call, write_job, chat):
    job = write_job(model=str(chat), task={"name": "classify", "labels": ["praise", "complaint"]})
    for command in ("check", "plan"):
        result = call(command, job)
        assert result.returncode == 0, result.stderr
    for task in ("generate", "classify"):
        listed = call("schema", "--task", task)
        assert listed.returncode == 0
        assert ("prompt" if task == "generate" else "labels") in json.loads(listed.stdout)["properties"]
