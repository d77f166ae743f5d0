import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.hub_stand_in import HubStandIn
from models.parts import WORDS, copied, job_of, scored
from windrow.testing import make_tiny_adapter, make_tiny_encoder

RESOLVE = """
import json, logging, os, sys
from windrow.errors import WindrowError
from windrow.models import resolve
from models.parts import job_of
logging.basicConfig(format="%(name)s: %(message)s")
answers = []
for text in sys.argv[1:]:
    model, _, adapter = text.partition("+")
    try:
        connection = "hub" if "WINDROW_CONN_HUB" in os.environ else None
        found = resolve(job_of(model, adapter=adapter or None, hub_connection=connection))
        answers.append({"name": found.name, "revision": found.revision, "folder": str(found.folder)})
    except WindrowError as error:
        answers.append({"error": type(error).__name__, "exit": error.exit_code, "text": str(error)})
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def hub(tiny_classifier, tmp_path_factory):
    """A Hub with a sound model in two revisions, and repositories that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("repositories")
    with HubStandIn() as stand_in:
        sound = {file.name: file.read_bytes() for file in tiny_classifier.iterdir()}
        clutter = {
            **dict.fromkeys(
                ("pytorch_model.bin", "tf_model.h5", "model.fp16.safetensors", "consolidated.safetensors"), b"no"
            ),
            **dict.fromkeys(("onnx/model.safetensors", "onnx/config.json", "handler.py", "modeling.py"), b"no"),
        }
        stand_in.put("models/ann/mood", sound, "v1")
        config = json.loads(sound["config.json"]) | {"id2label": {"0": "no", "1": "yes"}}
        stand_in.put("models/ann/mood", {**sound, **clutter, "config.json": json.dumps(config).encode()}, "main", "v2")
        pickled = {name: content for name, content in sound.items() if name != "model.safetensors"}
        stand_in.put("models/ann/pickled", {**pickled, "pytorch_model.bin": b"pickle"})
        coded = config | {"auto_map": {"AutoModelForSequenceClassification": "modeling.Mood"}}
        code = b"import pathlib; pathlib.Path(__file__).with_name('ran').touch()"
        stand_in.put("models/ann/coded", {**sound, "config.json": json.dumps(coded).encode(), "modeling.py": code})
        base = make_tiny_encoder(folder / "base", WORDS)
        stand_in.put("models/ann/base", base)
        poolings = {"1_Pooling/config.json": b"{}", "modules.json": b"[]"}
        poolings |= dict.fromkeys(("2_Dense/config.json", "1_old/config.json", "1_Pooling/old/config.json"), b"no")
        stand_in.put("models/ann/vectors", {**sound, **poolings})
        stand_in.put("models/ann/adapter", make_tiny_adapter(folder / "adapter", base))
        stand_in.put("models/ann/guarded", sound)
        stand_in.guard("models/ann/guarded", "hf_horse", "ann")
        stand_in.refuse("models/ann/gated", 403, "GatedRepo")
        stand_in.refuse("models/ann/private", 403)
        stand_in.refuse("models/ann/troubled", 503)
        yield stand_in


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of the Hub's client, shared by the tests of this module."""
    return tmp_path_factory.mktemp("hf_home")


def environment(hub, cache, **more):
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", **more}


def resolved(hub, cache, *names, **more):
    """What `resolve` says about each name in a process of its own, and that process's standard error."""
    tests = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(tests.parent / "operators"), str(tests)])
    told = subprocess.run(
        [sys.executable, "-c", RESOLVE, *names],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": paths,
            "WINDROW_HOME": str(cache / "windrow"),
            **environment(hub, cache, **more),
        },
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout), told.stderr


def test_a_pinned_model_is_that_commit_and_nobody_is_warned(hub, cache):
    commit = hub.repositories["models/ann/mood"].refs["v1"]
    [found], told = resolved(hub, cache, f"ann/mood@{commit}")
    assert (found["name"], found["revision"]) == ("ann/mood", commit)
    assert Path(found["folder"]).name == commit
    assert "not pinned" not in told


def test_a_model_that_is_not_pinned_works_with_one_warning_that_names_the_commit(hub, cache):
    commit = hub.repositories["models/ann/mood"].refs["main"]
    found, told = resolved(hub, cache, "ann/mood", "ann/mood", "ann/mood@v2")
    assert {answer["revision"] for answer in found} == {commit}
    assert told.count(f"Model ann/mood is not pinned; this run uses commit {commit}") == 1
    assert f"Pin it: ann/mood@{commit}" in told


def test_only_the_weights_that_are_loaded_are_fetched(hub, cache):
    hub.asked.clear()
    resolved(hub, cache / "fresh", "ann/mood", "ann/pickled")
    assert hub.fetched() == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


def test_how_a_sentence_model_pools_is_fetched_with_it(hub, cache):
    hub.asked.clear()
    resolved(hub, cache / "vectors", "ann/vectors")
    assert hub.fetched() - {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} == {
        "1_Pooling/config.json",
        "modules.json",
    }


def test_code_in_a_repository_is_neither_fetched_nor_run_and_the_receipt_names_the_commit(
    hub, cache, windrow, write_job
):
    commit = hub.repositories["models/ann/coded"].refs["main"]
    hub.asked.clear()
    job = write_job(model=f"ann/coded@{commit}")
    result = windrow("run", job, "--json", env=environment(hub, cache / "coded"))
    assert result.returncode == 0, result.stderr
    receipt = json.loads(result.stdout)
    assert (receipt["model"], receipt["revision"], receipt["rows_published"]) == ("ann/coded", commit, 5)
    assert result.stderr == "WARNING: Model ann/coded brings code of its own; it is not run.\n"
    assert "modeling.py" not in hub.fetched()
    assert not list((cache / "coded").rglob("ran"))


def test_code_in_a_folder_is_not_run(tiny_classifier, tmp_path):
    folder = copied(tiny_classifier, tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text()) | {
        "auto_map": {"AutoConfig": "modeling.Config", "AutoModelForSequenceClassification": "modeling.Mood"}
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()")
    found, expected = (scored(job_of(model), ["good film", "bad"]) for model in (folder, tiny_classifier))
    assert found.columns == expected.columns
    assert not list(tmp_path.rglob("ran"))


WRONG = {
    "ann/nothing": ("ModelError", "is not on the Hub, or is private"),
    "ann/mood@v9": ("ModelError", "there is no revision 'v9'"),
    "ann/gated": ("ModelError", "is gated"),
    "ann/private": ("ModelError", "is refused by the Hub (status 403)"),
    "ann/pickled": ("ModelError", "has no model.safetensors"),
    "ann/adapter": ("ModelError", "is an adapter over"),
    "a b/c": ("ModelError", "is neither a folder nor a Hub id"),
    "windrow/minilm-sentimental": ("ModelError", "did you mean 'windrow/minilm-sentiment'?"),
    "ann/troubled": ("HubError", "cannot be downloaded: Server error '503"),
}


@pytest.fixture(scope="module")
def answers(hub, cache):
    """What is said of all that is wrong, by name, asked in one process."""
    return dict(zip(WRONG, resolved(hub, cache, *WRONG)[0], strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_had_is_an_error_with_its_fix(name, answers):
    kind, problem = WRONG[name]
    assert answers[name]["error"] == kind
    assert problem in answers[name]["text"]
    assert "Fix: " in answers[name]["text"]
    assert answers[name]["exit"] == {"ModelError": 2, "HubError": 1}[kind]


def test_offline_the_cache_serves_and_what_is_not_there_is_an_error(hub, cache):
    commit = hub.repositories["models/ann/mood"].refs["v1"]
    resolved(hub, cache, f"ann/mood@{commit}", "ann/mood")
    hub.asked.clear()
    found, _ = resolved(hub, cache, f"ann/mood@{commit}", "ann/mood", "ann/nothing", HF_HUB_OFFLINE="1")
    assert [answer["revision"] for answer in found[:2]] == [commit, hub.repositories["models/ann/mood"].refs["main"]]
    assert found[2]["error"] == "ModelError"
    assert "not in the cache, and HF_HUB_OFFLINE is set" in found[2]["text"]
    assert hub.asked == []


def test_a_hub_that_cannot_be_reached_is_worth_another_try_unless_the_cache_serves(hub, cache):
    commit = hub.repositories["models/ann/mood"].refs["v1"]
    resolved(hub, cache, f"ann/mood@{commit}")
    nowhere = HubStandIn()
    nowhere._server.server_close()
    found, _ = resolved(nowhere, cache, f"ann/mood@{commit}", "ann/nothing")
    assert found[0]["revision"] == commit
    assert (found[1]["error"], found[1]["exit"]) == ("HubError", 1)


def test_an_adapter_may_come_from_the_hub(hub, cache):
    [found], _ = resolved(hub, cache, "ann/base+ann/adapter")
    assert found["revision"] == hub.repositories["models/ann/base"].refs["main"]


def test_an_unknown_id_ends_the_command_with_two(hub, cache, windrow, write_job):
    result = windrow("check", write_job(model="ann/nothing"), env=environment(hub, cache))
    assert result.returncode == 2
    assert result.stderr.startswith("Error: Model 'ann/nothing' is not on the Hub, or is private.\nFix: ")


def test_a_connection_gives_endpoint_token_and_cache(hub, cache, tmp_path):
    host = hub.url.removeprefix("http://")
    known = {"HF_ENDPOINT": "http://127.0.0.1:1", "WINDROW_CONN_HUB": f"http://:hf_horse@{host}?cache={tmp_path}"}
    [found], told = resolved(hub, cache, "ann/guarded", **known)
    assert Path(found["folder"]).is_relative_to(tmp_path / "hub")
    assert "hf_horse" not in told
    [refused], _ = resolved(hub, cache, "ann/guarded")
    assert "is not on the Hub, or is private" in refused["text"]
