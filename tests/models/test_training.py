"""The training of the bundled adapter, on corpora of a few sentences in the formats of the real ones."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from conftest import REPOSITORY
from windrow.models import corpora, training
from windrow.models.corpora import Recipe

GOOD, BAD = "a warm and funny film number {}", "a dull and tired film number {}"
PROS, CONS = (
    "it is very light number {}\nbright clear screen number {}",
    "it has no light number {}\npoor dark screen {}",
)
RECIPES = (Recipe(1, 2, ((None, 6),), 0, 1), Recipe(2, 2, ((True, 3), (False, 3)), 4, 2))
LINE = r"recipe of seed (\d), epoch (\d) of 2: last loss \d\.\d{3}, \d+\.\d minutes"


def lines(*texts, end=""):
    return "".join(f"{text}{end}\n" for text in texts)


def numbered(text, count=8):
    return [line for number in range(count) for line in text.replace("{}", str(number)).split("\n")]


def phrases(mark, text):
    return lines(*(f"<{mark}>{phrase}</{mark}>" for phrase in numbered(text)))


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Return a folder of small corpora whose digests are those expected."""
    products = lines("size[+2]##the size is just right", "price[-1]##the price is too high")
    labelled = lines("a good one\t1", "a bad one\t0")
    archives = {
        "sentence_polarity.zip": {"rt.neg": lines(*numbered(BAD)), "rt.pos": lines(*numbered(GOOD))},
        "pros_cons.zip": {"Cons.txt": phrases("Cons", CONS), "Pros.txt": phrases("Pros", PROS)},
        "product_reviews_1.zip": {"a.txt": products},
        "product_reviews_2.zip": {"b.txt": products},
        "SEntFiN.csv": "Title,Decisions\nShares rise,\"{'A': 'positive'}\"\nShares fall,\"{'A': 'negative'}\"\n",
        "train.tsv": lines(*(f"so glad {i}\t0\tx" for i in range(5)), *(f"so angry {i}\t2\tx" for i in range(5))),
        **{f"{name}_labelled.txt": labelled for name in ("amazon_cells", "imdb", "yelp")},
    }
    folder = tmp_path / "data" / "corpora"
    folder.mkdir(parents=True)
    for name, content in archives.items():
        if isinstance(content, str):
            (folder / name).write_text(content)
            continue
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, text in content.items():
                archive.writestr(member, text)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in archives}
    assert digests.keys() == corpora.SHA256.keys()
    monkeypatch.setattr(corpora, "SHA256", digests)
    monkeypatch.setattr(corpora, "HELD_OUT", 2)
    monkeypatch.setattr(training, "RECIPES", RECIPES)
    return folder.parent


def trained(monkeypatch, data, out):
    monkeypatch.setattr(sys, "argv", ["training", "--data", str(data), "--out", str(out)])
    training.main()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft asks for it
def test_training_tells_each_epoch_and_writes_the_adapter_and_its_scores(data, tmp_path, monkeypatch, capsys):
    trained(monkeypatch, data, tmp_path / "out")
    told = [re.fullmatch(LINE, line).groups() for line in capsys.readouterr().out.splitlines()]
    assert told == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2")]
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["r"] == training.RANK * len(RECIPES)
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {name: score["n"] for name, score in scores.items()} == {
        "held_out_mr": 4, "amazon_cells": 2, "imdb": 2, "yelp": 2, "product_reviews_1": 2, "product_reviews_2": 2,
    }  # fmt: skip


@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_an_archive_that_only_the_scores_need_is_asked_for_before_anything_is_trained(
    data, tmp_path, monkeypatch, capsys, damage
):
    archive = data / "corpora" / "yelp_labelled.txt"
    archive.write_text("another\t1\n") if damage == "altered" else archive.unlink()
    with pytest.raises(SystemExit) as ended:
        trained(monkeypatch, data, tmp_path / "out")
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert f"Not in {data}/* with the expected SHA-256: yelp_labelled.txt." in told.err
    assert f"{corpora.SHA256['yelp_labelled.txt']}  yelp_labelled.txt" in told.err
    assert not (tmp_path / "out").exists()


def test_a_folder_without_corpora_is_told_in_words_with_all_that_it_lacks(tmp_path):
    command = [sys.executable, "-m", "windrow.models.training", "--data", tmp_path, "--out", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "operators")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: Not in {tmp_path}/* with the expected SHA-256: sentence_polarity.zip, ")
    assert "Fix: put into a folder there the files of these digests:" in done.stderr
    assert all(f"{digest}  {name}" in done.stderr for name, digest in corpora.SHA256.items())
    assert list(tmp_path.iterdir()) == []
