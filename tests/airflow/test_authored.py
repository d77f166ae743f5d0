"""Ways to write a job in a Dag, run through `dag.test()`: functions, presets, partitions, policies, job files."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

HERE = Path(__file__).parent
pytestmark = pytest.mark.airflow
ROWS, TEXTS = 600, 599
BAD = {
    "bad_field.yaml": ("task: sentiment", "taks: sentiment", "Unknown field 'taks'; did you mean 'task'?"),
    "bad_cron.yaml": ("@daily", "every day", "Field 'dag.schedule': 'every day' is no cron text"),
    "bad_zone.yaml": ("Berlin", "Bern1in", "Field 'dag.timezone': there is no time zone 'Europe/Bern1in'."),
    "bad_unit.yaml": ("lanes: 2", "lane: 2", "Unknown field 'dag.lane'; did you mean 'lanes'?"),
    "bad_after.yaml": ('schedule: "@daily"', "after: job_dialy", "there is no sound job 'job_dialy' in this folder"),
    "bad_model.yaml": ('schedule: "@daily"', "on_model_update: true", "Model '${TINY_MODEL}' never moves"),
    "bad_deadline.yaml": ("lanes: 2", "deadline: -1", "Field 'dag.deadline': input should be greater than 0 seconds"),
    "bad_yaml.yaml": ("name: ", "name: [", "is not valid YAML at line"),
}


@dataclass(frozen=True)
class Authored:
    """What the runs of `authored_stage.py` left behind."""

    root: Path
    warehouse: Path
    seen: dict[str, Any]
    log: str
    metadata: Any
    environment: dict[str, str]

    def rows(self, query: str, warehouse: Path | None = None) -> list[Any]:
        with duckdb.connect(str(warehouse or self.warehouse), read_only=True) as con:
            return con.execute(query).fetchall()

    def states(self, run: str) -> dict[str, str]:
        return {task: state for task, (state, _) in self.seen[run]["tasks"].items()}

    def events(self, run: str) -> list[tuple[str | None, dict[str, Any]]]:
        query = "SELECT partition_key, extra FROM asset_event WHERE source_run_id = ? AND source_dag_id = ?"
        found = self.metadata(query, self.seen[run]["run_id"], run)
        return [(key, json.loads(extra)) for key, extra in found]

    def command(self, *words: str) -> Any:
        program = [sys.executable, "-c", "from windrow.cli import main; main()", *words]
        return subprocess.run(program, env=self.environment, capture_output=True, text=True, check=False, timeout=200)

    def xcoms(self, dag_id: str) -> dict[str, Any]:
        query = "SELECT task_id, map_index, value FROM xcom WHERE dag_id = ? AND key = 'return_value'"
        return {f"{task}[{index}]": json.loads(value) for task, index, value in self.metadata(query, dag_id)}


@pytest.fixture(scope="module")
def authored(new_stage):
    """The Dags of `authored/`, with bad job files among the sound ones, all run once."""
    stage = new_stage()
    dags = stage.place.dags
    shutil.rmtree(dags / "jobs")
    for file in dags.glob("*.py"):
        file.unlink()
    shutil.copytree(HERE / "authored", dags, dirs_exist_ok=True)
    sound = (dags / "jobs/daily.yaml").read_text()
    for name, (good, bad, _) in BAD.items():
        assert good in sound
        (dags / "jobs" / name).write_text(sound.replace(good, bad).replace("job_daily", name.partition(".")[0]))
    (dags / "jobs/same_name.yaml").write_text(sound)
    with duckdb.connect(str(dags / "source.duckdb")) as con:
        con.execute(f"CREATE TABLE reviews AS SELECT *, '2026-01-05' AS day FROM '{dags}/data/2026-01-05.parquet'")
    result = stage.place.root / "authored.json"
    log = stage.run(str(HERE / "authored_stage.py"), str(result))
    return Authored(
        stage.place.root, stage.warehouse, json.loads(result.read_text()), log, stage.metadata, stage.environment()
    )


def test_each_bad_job_file_is_an_import_error_of_its_own(authored):
    errors = authored.seen["import_errors"]
    assert set(errors) == {f"jobs/{name}" for name in (*BAD, "same_name.yaml")}
    for name, (_, _, problem) in BAD.items():
        assert problem in errors[f"jobs/{name}"]
        assert "Fix: " in errors[f"jobs/{name}"]
        assert "Traceback" not in errors[f"jobs/{name}"]
    assert "Job 'job_daily' is described in daily.yaml already." in errors["jobs/same_name.yaml"]


def test_the_sound_job_files_are_dags_all_the_same(authored):
    daily, after = (authored.seen["dags"][name] for name in ("job_daily", "job_after"))
    assert "CronDataIntervalTimetable" in daily["timetable"]
    assert "Europe/Berlin" in daily["timetable"]
    assert (daily["tags"], daily["owner"]) == (["ours"], "ann")
    assert daily["start"] == "2025-12-31T23:00:00+00:00"
    assert {task["retries"] for task in daily["tasks"].values()} == {1}
    assert "windrow://duckdb/../folder.duckdb/job_daily" in after["timetable"]
    assert "ann/mood on the Hub" in after["timetable"]


def test_a_job_file_says_who_approves_by_when_and_whether_events_have_partitions(authored):
    daily, after = (authored.seen["dags"][name] for name in ("job_daily", "job_after"))
    assert after["deadlines"] == [["DagRunQueuedAtDeadline", "2:30:00"]]
    assert after["people"]["job_after.publish"] == ["ann", "bob"]
    assert after["partitioned"] == ["job_after.publish"]
    assert (daily["deadlines"], daily["people"]["job_daily.publish"], daily["partitioned"]) == ([], [], [])


def test_the_dag_of_a_job_file_publishes(authored):
    assert authored.seen["job_daily"]["state"] == "success"
    folder = authored.root / "dags/folder.duckdb"
    owned = "SELECT windrow_partition, count(*) FROM job_daily GROUP BY 1"
    assert authored.rows(owned, folder) == [("2026-01-05", ROWS)]  # the day that had ended in Berlin


@pytest.mark.parametrize("table", ["by_path", "by_table", "by_reader", "by_query"])
def test_what_a_decorated_function_returns_is_scored(authored, table):
    assert authored.states("decorated")[f"{table}[-1]"] == "success"
    found = authored.rows(f"SELECT count(*), count(DISTINCT review_id), count(label), min(stars) FROM authored.{table}")
    assert found == [(ROWS, ROWS, ROWS, 1)]


def test_all_that_a_decorated_function_returns_scores_each_text_once(authored):
    receipts = authored.xcoms("decorated").values()
    assert sorted(receipt["texts_scored"] for receipt in receipts) == [0, 0, 0, TEXTS]


def test_the_xcom_of_a_decorated_function_is_its_receipt_and_no_rows(authored):
    receipts = authored.xcoms("decorated")
    assert len(receipts) == 4
    assert {receipt["rows_published"] for receipt in receipts.values()} == {ROWS}
    assert "film number" not in json.dumps(receipts)


def test_a_function_that_returns_nothing_to_score_fails_at_once(authored):
    assert authored.seen["decorated_wrong"]["tasks"] == {
        f"{name}[-1]": ["failed", 1] for name in ("nothing", "rows_in_python", "rows_for_a_query")
    }
    assert "The function returned nothing." in authored.log
    assert "A list is no stream of Arrow rows." in authored.log
    assert "The function returned a Table, but `connection` or `url` asks for a query." in authored.log


def test_a_decorated_function_can_be_mapped(authored):
    assert authored.states("mapped") == {"one_day[0]": "success", "one_day[1]": "success"}
    found = authored.rows("SELECT windrow_partition, count(*) FROM authored.mapped GROUP BY 1 ORDER BY 1")
    assert found == [("2026-01-05", ROWS), ("2026-01-06", ROWS)]


def test_presets_need_a_source_and_a_warehouse_only(authored):
    assert authored.states("presets") == {"score[-1]": "success", "summarise[-1]": "success"}
    assert authored.rows("SELECT count(*) FROM authored.sentiment WHERE label IS NOT NULL") == [(ROWS,)]
    assert authored.rows("SELECT count(*) FROM authored.summaries WHERE summary IS NOT NULL") == [(ROWS,)]


def test_the_event_tells_speed_and_cost(authored):
    ours = [extra for _, extra in authored.events("presets") if "cost" in extra]
    (event,) = ours
    assert event["cost"] == pytest.approx(event["seconds"] / 1000, rel=1e-3)
    assert event["rows_per_s"] > 0
    assert len(event["revision"]) == 64


def test_source_and_model_are_inlets_and_the_table_is_an_outlet(authored):
    score = authored.seen["dags"]["presets"]["tasks"]["score"]
    assert score["inlets"] == ["windrow://source/data/{partition}.parquet", "windrow://model/${TINY_MODEL}"]
    assert score["outlets"] == ["windrow://connection/warehouse/authored.sentiment"]
    load = authored.seen["dags"]["partitioned"]["tasks"]["split.load"]
    assert load["inlets"] == score["inlets"]
    assert load["outlets"] == []


@pytest.mark.parametrize(
    ("dag_id", "task", "fields"),
    [
        ("presets", "score", {"job", "partition", "approvers"}),
        ("decorated", "by_path", {"op_args", "op_kwargs", "job", "partition", "approvers"}),
        ("partitioned", "split.load", {"job", "partition", "lanes"}),
        ("waiting", "comes", {"job", "partition"}),
    ],
)
def test_all_that_can_be_a_template_is_one(authored, dag_id, task, fields):
    assert set(authored.seen["dags"][dag_id]["tasks"][task]["templates"]) == fields


def test_a_run_with_a_partition_key_owns_that_partition_and_hands_it_on(authored):
    assert authored.seen["keyed"]["state"] == "success"


def test_a_partitioned_publish_gives_its_event_the_partition_as_key(authored):
    ((key, event),) = authored.events("partitioned")
    assert (key, event["partition"]) == ("2026-01-06", "2026-01-06")


def test_memory_of_a_lane_becomes_slots_of_its_pool(authored):
    assert authored.seen["dags"]["partitioned"]["tasks"]["split.infer"]["pool"] == ["default_pool", 2]


def test_a_lane_loads_its_model_once(authored):
    assert authored.seen["job_daily"]["loads"] == 0  # all texts are known
    assert authored.seen["decorated"]["loads"] == 1
    assert authored.seen["mapped"]["loads"] == 1


def test_the_retry_policy_fails_at_once_on_what_no_retry_fixes(authored):
    assert authored.seen["policies"]["tasks"] == {
        "hopeless[-1]": ["failed", 1],
        "hopeless_inside[-1]": ["failed", 1],
        "hopeful[-1]": ["failed", 3],
        "unrendered[-1]": ["failed", 1],
    }


def test_a_sensor_waits_for_the_source_and_gives_up_in_the_end(authored):
    assert authored.seen["waiting"]["tasks"] == {
        "comes[-1]": ["success", 1],
        "never_comes[-1]": ["failed", 1],
        "may_not_come[-1]": ["skipped", 1],
    }
    assert "has not come in 0:00:00" in authored.log


def test_what_a_dag_lacks_is_named_with_the_command_that_creates_it(authored):
    missing = {(one["task"], one["kind"]): one for one in authored.seen["missing"]["lacking"]}
    pool, queue = missing["scored.infer", "pool"], missing["scored.infer", "queue"]
    assert pool["problem"] == "Pool 'gpu' does not exist, so the task would wait forever."
    assert pool["fix"].startswith("airflow pools set gpu 4 ")
    assert "The LocalExecutor has no queues" in queue["problem"]
    fix = missing["scored.load", "connection"]["fix"]
    assert fix.startswith("airflow connections add nowhere --conn-type windrow_duckdb ")
    assert "`device: cuda`" in missing["scored.infer", "device"]["fix"]
    assert ("scored.load", "pool") not in missing


@pytest.mark.parametrize("task", ["preset", "decorated"])
def test_a_whole_job_in_one_task_is_asked_about_its_device_and_its_hub(authored, task):
    missing = {(one["task"], one["kind"]): one for one in authored.seen["missing"]["lacking"]}
    assert "Device 'cuda:9' is not on this machine" in missing[task, "device"]["problem"]
    hub = missing[task, "connection"]
    assert (hub["name"], hub["fix"].partition(" --conn-password")[0]) == (
        "no_hub",
        "airflow connections add no_hub --conn-type windrow_models",
    )
    assert ("sent_elsewhere", "device") not in missing  # there, load and infer see the same device


def test_a_dag_that_lacks_nothing_is_told_so(authored):
    assert authored.seen["missing"]["presets"] == []


def test_a_small_model_takes_one_slot_of_a_gib(authored):
    assert authored.seen["lane_slots"] == 1


def test_the_command_names_what_is_missing_and_ends_with_2(authored):
    done = authored.command("preflight", "lacking", "--dags", str(authored.root / "dags"))
    assert done.returncode == 2
    assert "Fix: airflow pools set gpu 4" in done.stderr.replace("\n", " ")
