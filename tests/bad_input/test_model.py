"""Models that cannot be used: exit 2, what and the fix, nothing scored."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def copy(tiny_classifier, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(tiny_classifier, folder)
    return folder


def test_a_model_without_safetensors_is_refused(call, refused, write_job, copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refused(call("run", write_job(model=str(copy))), 2, "safetensors", "pytorch_model.bin")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_model_folder_with_a_missing_file_names_the_file(call, refused, write_job, copy, name):
    (copy / name).unlink()
    refused(call("run", write_job(model=str(copy))), 2, name)


@pytest.mark.parametrize(
    ("name", "content"), [("config.json", b"{"), ("model.safetensors", b"rubbish"), ("tokenizer.json", b"[]")]
)
def test_a_broken_file_of_a_model_is_refused(call, refused, write_job, copy, name, content):
    (copy / name).write_bytes(content)
    refused(call("run", write_job(model=str(copy))), 2, "odel")


def test_a_truncated_weights_file_is_refused(call, refused, write_job, copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(call("run", write_job(model=str(copy))), 2, "odel")


def test_labels_that_do_not_fit_the_head_are_refused(call, refused, write_job, copy):
    refused(call("run", write_job(task={"name": "sentiment", "labels": ["a", "b", "c"]})), 2, "3 names", "2 labels")
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    config["label2id"] = {"a": 0, "b": 1, "c": 2}
    (copy / "config.json").write_text(json.dumps(config), encoding="utf-8")
    refused(call("run", write_job(model=str(copy))), 2, "odel")


def test_a_model_of_the_wrong_kind_for_the_task_is_refused(call, refused, write_job):
    job = write_job(task={"name": "summarise", "style": "abstractive"})
    refused(call("run", job), 2, "cannot make abstractive summaries", "seq2seq")


def test_an_unknown_hub_model_offline_is_refused(call, refused, write_job):
    refused(call("run", write_job(model="nobody/no-such-model")), 2, "nobody/no-such-model", "HF_HUB_OFFLINE")
