"""A real scheduler and triggerer: a model that moves on the Hub, partitions handed on, a task that is killed."""

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import duckdb
import psutil
import pytest

from airflow_api import Api, awaited, ended
from models.hub_stand_in import HubStandIn
from windrow.airflow.home import AirflowHome, free_port
from windrow.airflow.standalone import running

HERE = Path(__file__).parent
pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]
ROWS, TEXTS, SHARD = 600, 599, 100
DAGS = {"split", "per_partition", "killed", "rescored"}


@dataclass(frozen=True)
class WatchedHome(AirflowHome):
    """A home whose Airflow asks a Hub of the test's own, every second."""

    hub: str
    model: Path

    def environment(self, **more):
        return {
            **super().environment(DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL="2", **more),
            "HF_ENDPOINT": self.hub,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.root / "hub"),
            "TINY_MODEL": str(self.model),
            "WINDROW_MODEL_POLL_S": "1",
            "WINDROW_SHARD_TEXTS": str(SHARD),
            "PYTHONPATH": str(HERE.parents[1] / "operators"),
        }


@pytest.fixture(scope="module")
def watched(new_stage, tiny_classifier):
    """Start Airflow, let the model move, hand on partitions, kill a task; return what was seen."""
    stage = new_stage()
    dags = stage.place.dags
    shutil.rmtree(dags / "jobs")
    for file in dags.glob("*.py"):
        file.unlink()
    shutil.copytree(HERE / "watched", dags, dirs_exist_ok=True)
    bad = (dags / "jobs/rescored.yaml").read_text().replace("name: rescored", "name: bad").replace("task:", "taks:")
    (dags / "jobs/bad.yaml").write_text(bad)
    model = {file.name: file.read_bytes() for file in tiny_classifier.iterdir()}
    with HubStandIn() as hub:
        seen = {"dags": dags, "first": hub.put("models/ann/mood", model)}
        place = WatchedHome(stage.place.root, hub.url, tiny_classifier)
        port = free_port(8180)
        with running(place, port) as airflow:
            assert airflow.answers()
            api = Api(airflow.url)
            api.log_in(place.password)
            play(api, hub, model, seen)
    return seen


def play(api, hub, model, seen):
    """Make happen what a Dag can be scheduled by, and stop a task."""
    awaited(lambda: {dag["dag_id"] for dag in api("GET", "/api/v2/dags")["dags"]} >= DAGS, "Dags")
    seen["errors"] = awaited(lambda: api("GET", "/api/v2/importErrors")["import_errors"], "the import error")
    for dag_id in DAGS:
        api("PATCH", f"/api/v2/dags/{dag_id}", is_paused=False)
    for day in ("2026-01-05", "2026-01-06"):
        api("POST", "/api/v2/dags/split/dagRuns", logical_date=None, conf={"day": day})
    api("POST", "/api/v2/dags/killed/dagRuns", logical_date=None)
    kill(seen)
    asked = len(hub.asked)
    awaited(lambda: sum("/api/models/ann/mood" in path for path in hub.asked[asked:]) > 1, "a question to the Hub")
    labels = json.loads(model["config.json"]) | {"id2label": {"0": "no", "1": "yes"}}
    seen["second"] = hub.put("models/ann/mood", {**model, "config.json": json.dumps(labels).encode()})
    seen["rescored"] = awaited(lambda: ended(api, "rescored", "asset_triggered"), "the end of a run by the model")
    run = f"/api/v2/dags/rescored/dagRuns/{seen['rescored'][0]['dag_run_id']}"
    seen["events"] = api("GET", f"{run}/upstreamAssetEvents")["asset_events"]
    seen["split"] = awaited(lambda: two(ended(api, "split", "manual")), "the end of both runs")
    seen["per_partition"] = awaited(lambda: two(ended(api, "per_partition", "asset_triggered")), "a run a partition")
    seen["killed"] = awaited(lambda: ended(api, "killed", "manual"), "the end of the killed run")
    run = f"/api/v2/dags/killed/dagRuns/{seen['killed'][0]['dag_run_id']}"
    seen["tasks"] = api("GET", f"{run}/taskInstances")["task_instances"]
    seen["lane"] = api("GET", f"{run}/taskInstances/infer/xcomEntries/return_value?map_index=0")["value"]
    seen["log"] = json.dumps(api("GET", f"{run}/taskInstances/infer/logs/1?map_index=0"))


def two(runs):
    return runs if runs and len(runs) == 2 else None


def kill(seen):
    """Send SIGTERM to the task's process in the middle of its work, as a worker that ends does."""
    file = seen["dags"] / "stopped.pid"
    awaited(lambda: file.exists() and file.read_text(), "the task")
    process = psutil.Process(int(file.read_text()))
    awaited(lambda: process.status() == psutil.STATUS_STOPPED, "the middle of its work")

    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.wait(60)


def rows(watched, table, query):
    with duckdb.connect(str(watched["dags"] / f"{table}.duckdb"), read_only=True) as con:
        return con.execute(query).fetchall()


def test_a_bad_job_file_is_an_import_error_beside_sound_dags(watched):
    (error,) = watched["errors"]
    assert error["filename"] == "jobs/bad.yaml"
    assert "Unknown field 'taks'; did you mean 'task'?" in error["stack_trace"]


def test_a_model_that_moves_on_the_hub_triggers_the_dag(watched):
    assert [run["state"] for run in watched["rescored"]] == ["success"]
    (event,) = watched["events"]
    moved = {"model": "ann/mood", "revision": watched["second"], "previous": watched["first"]}
    assert event["extra"] == {"from_trigger": True, "payload": moved}


def test_the_table_is_scored_anew_by_the_new_revision(watched):
    assert rows(watched, "rescored", "SELECT revision, rows_published FROM windrow_runs") == [(watched["second"], ROWS)]
    assert rows(watched, "rescored", "SELECT DISTINCT label FROM rescored WHERE label NOT IN ('no', 'yes')") == []


def test_each_partition_of_a_table_triggers_a_run_that_owns_it(watched):
    assert {run["state"] for run in watched["per_partition"]} == {"success"}
    assert {run["partition_key"] for run in watched["per_partition"]} == {"2026-01-05", "2026-01-06"}
    counts = "SELECT windrow_partition, count(*) FROM again GROUP BY 1 ORDER BY 1"
    assert rows(watched, "again", counts) == [("2026-01-05", ROWS), ("2026-01-06", ROWS)]


def test_a_task_that_is_killed_stops_and_its_retry_goes_on_where_it_was(watched):
    tries = {task["task_id"]: (task["state"], task["try_number"]) for task in watched["tasks"]}
    assert tries == {"load": ("success", 1), "infer": ("success", 2), "publish": ("success", 1)}
    assert "The task was asked to stop; nothing was half published." in watched["log"]
    assert 0 < watched["lane"]["texts"] <= TEXTS - 2 * SHARD
    assert rows(watched, "killed", "SELECT count(*), count(label) FROM killed") == [(ROWS, ROWS)]
    assert rows(watched, "killed", "SELECT texts_scored FROM windrow_runs") == [(TEXTS,)]


def test_a_deadline_that_will_be_missed_is_told_in_the_middle_of_the_work(watched):
    assert (watched["dags"] / "late.txt").read_text().startswith("killed: ")
    assert "minutes after the deadline" in watched["log"]
