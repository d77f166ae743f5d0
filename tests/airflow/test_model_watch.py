"""The trigger that follows a model on the Hub, with the Hub's real client against a stand-in."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from windrow.airflow.assets import is_watched, watched_model
from windrow.errors import JobError

HERE = Path(__file__).parent
pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What `moves.py` wrote down."""
    home = tmp_path_factory.mktemp("moves")
    paths = os.pathsep.join([str(HERE.parents[1] / "operators"), str(HERE.parent)])
    environment = {**os.environ, "AIRFLOW_HOME": str(home), "HF_HOME": str(home / "hub"), "PYTHONPATH": paths}
    command = [sys.executable, str(HERE / "moves.py"), str(home / "seen.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads((home / "seen.json").read_text())


def test_the_first_revision_fires_nothing_and_a_move_fires_once(seen):
    assert seen["moved"] == {"model": "ann/mood", "revision": seen["moved"]["revision"], "previous": seen["first"]}
    assert seen["moved"]["revision"] != seen["first"]


def test_a_move_while_nobody_looked_is_seen_afterwards(seen):
    assert seen["missed"] == seen["moved"]


def test_the_last_revision_is_kept(seen):
    assert seen["kept"]["windrow_revision"] in {seen["first"], seen["moved"]["revision"]}


def test_a_hub_in_trouble_is_asked_again(seen):
    assert seen["mended"]["previous"] == seen["moved"]["revision"]
    assert any("It is asked again later." in line for line in seen["log"])


def test_a_branch_is_followed_by_its_name(seen):
    main, dev = seen["branches"]
    assert main == seen["mended"]["revision"]
    assert dev != main


def test_a_private_model_of_a_mirror_is_followed_through_the_connection(seen):
    assert seen["refused"] is None
    told, now = seen["guarded"]
    assert told == now


def test_the_token_is_no_part_of_the_trigger(seen):
    assert seen["guarded_kwargs"] == {"model": "ann/guarded"}
    assert "hf_horse" not in " ".join(seen["log"])


def test_the_triggerer_can_make_the_trigger_anew(seen):
    assert seen["serialized"] == ["windrow.airflow.model_watch.ModelUpdateTrigger", {"model": "ann/mood"}]


@pytest.mark.parametrize("model", ["windrow/minilm-sentiment", "/models/mood", "./mood", f"ann/mood@{'a' * 40}"])
def test_a_model_that_never_moves_is_not_waited_for(model):
    assert not is_watched(model)
    with pytest.raises(JobError, match="never moves"):
        watched_model(model)
