"""Runs of real Dags through `dag.test()`: states, references, events, rows and secrets that they leave behind."""

import json

import airflow.sdk.exceptions
import duckdb
import pytest

pytestmark = pytest.mark.airflow
answered = pytest.mark.skipif(
    not hasattr(airflow.sdk.exceptions, "TaskAwaitingInput"),
    reason="dag.test() of this Airflow cannot wait for an answer: test_scheduler does",
)
ROWS, TEXTS = 600, 599


def states(run):
    return {task: state for task, (state, _) in run["tasks"].items()}


def xcoms(played, dag_id, run):
    query = "SELECT task_id, map_index, key, value FROM xcom WHERE dag_id = ? AND run_id = ?"
    rows = played.stage.metadata(query, dag_id, run["run_id"])
    return {(task, index, key): json.loads(value) for task, index, key, value in rows}


def events(played, run):
    rows = played.stage.metadata("SELECT extra FROM asset_event WHERE source_run_id = ?", run["run_id"])
    return [json.loads(extra) for (extra,) in rows]


def rendered_fields(played, dag_id, task_id):
    query = "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = ? AND task_id = ?"
    return json.loads(played.stage.metadata(query, dag_id, task_id)[0][0])


def table(played, query):
    with duckdb.connect(str(played.stage.warehouse), read_only=True) as con:
        return con.execute(query).fetchall()


def test_all_dags_are_imported_the_shipped_ones_too(played):
    assert played.runs["import_errors"] == {}
    assert {"review_sentiment", "article_summaries", "daily"} <= set(played.runs["outlets"])


def test_a_run_loads_infers_in_lanes_and_publishes(played):
    expected = ["load[-1]", "infer[0]", "infer[1]", "publish[-1]"]
    assert states(played.runs["first"]) == {f"scored.{task}": "success" for task in expected}


def test_every_row_is_published_once(played):
    counts = "count(*), count(DISTINCT review_id), count(label)"
    by_day = table(played, f"SELECT {counts} FROM analytics.reviews GROUP BY windrow_partition")
    assert by_day == [(ROWS, ROWS, ROWS)] * 3


def test_the_event_of_the_published_table_carries_the_counts(played):
    (event,) = events(played, played.runs["first"])
    assert event["partition"] == "2026-01-05"
    assert (event["rows_in"], event["rows_published"], event["rows_rejected"]) == (ROWS, ROWS, 0)
    assert (event["texts_scored"], event["texts_reused"]) == (TEXTS, 0)
    assert sum(event["labels"].values()) == ROWS
    assert event["run_id"]


def test_the_same_partition_again_scores_nothing_and_publishes_the_same(played):
    again = played.runs["second"]
    assert states(again) == {
        "scored.load[-1]": "success",
        "scored.infer[-1]": "skipped",
        "scored.publish[-1]": "success",
    }
    (event,) = events(played, again)
    assert (event["rows_published"], event["texts_scored"], event["texts_reused"]) == (ROWS, 0, TEXTS)


def test_a_manual_run_publishes_its_day(played):
    assert [event["partition"] for event in events(played, played.runs["manual"])] == ["2026-01-06"]


def test_a_run_without_a_logical_date_publishes_the_day_it_runs(played):
    assert played.runs["undated"]["state"] == "success"
    assert [event["partition"] for event in events(played, played.runs["undated"])] == ["2026-01-07"]


def test_xcoms_hold_references_and_counts_and_no_rows(played):
    found = xcoms(played, "daily", played.runs["manual"])
    lanes = found["scored.load", -1, "return_value"]
    assert [sorted(lane) for lane in lanes] == [["job", "lane", "lanes", "partition", "run_id"]] * 2
    assert found["scored.load", -1, "run"]["texts_to_score"] == TEXTS
    assert sum(found["scored.infer", lane, "return_value"]["texts"] for lane in (0, 1)) == TEXTS
    assert found["scored.publish", -1, "return_value"]["rows_published"] == ROWS
    assert "film number" not in json.dumps([*found.values()])


def test_each_lane_is_named_on_the_grid(played):
    query = "SELECT rendered_map_index FROM task_instance WHERE run_id = ? AND map_index >= 0 ORDER BY map_index"
    assert played.stage.metadata(query, played.runs["manual"]["run_id"]) == [("1 of 2",), ("2 of 2",)]


def test_templates_of_a_job_are_rendered(played):
    query = (
        "SELECT rendered_fields FROM rendered_task_instance_fields WHERE dag_id = 'daily' AND task_id = 'scored.load'"
    )
    rendered = json.loads(played.stage.metadata(query)[0][0])
    assert rendered["job"]["source"]["path"] == f"{played.stage.place.dags}/data/{{partition}}.parquet"


def test_a_job_file_is_found_beside_the_dag_and_its_paths_beside_the_job(played):
    assert played.runs["from_file"]["state"] == "success"
    assert played.runs["outlets"]["from_file"] == ["windrow://duckdb/../warehouse.duckdb/analytics.from_file"]
    (event,) = events(played, played.runs["from_file"])
    assert (event["partition"], event["rows_published"]) == ("2026-01-05", ROWS)
    assert (played.stage.place.dags / "warehouse.duckdb").exists()


def test_a_text_scored_by_one_dag_is_not_scored_by_another(played):
    (event,) = events(played, played.runs["from_file"])
    assert (event["texts_scored"], event["texts_reused"]) == (0, TEXTS)


def test_a_job_object_and_a_partition_template_do_the_same(played):
    assert played.runs["from_object"]["state"] == "success"
    (event,) = events(played, played.runs["from_object"])
    assert event["partition"] == "2026-01-06"


def test_an_error_that_trying_again_cannot_mend_fails_at_once(played):
    assert played.runs["wrong_column"]["state"] == "failed"
    assert played.runs["wrong_column"]["tasks"]["scored.load[-1]"] == ["failed", 1]
    assert "Column 'review' is not in" in played.log
    assert "Fix: " in played.log


def test_an_error_that_may_pass_is_tried_again(played):
    assert played.runs["broken_store"]["tasks"]["scored.load[-1]"] == ["failed", 3]


def test_a_task_that_is_asked_to_stop_is_tried_again_and_goes_on(played):
    assert played.runs["interrupted"]["state"] == "success"
    assert played.runs["interrupted"]["tasks"]["scored.infer[0]"] == ["success", 2]
    assert [event["rows_published"] for event in events(played, played.runs["interrupted"])] == [ROWS]


def test_a_gate_that_asks_changes_nothing_where_all_is_well(played):
    assert set(played.runs["outlets"]["gated"]) == {"windrow://connection/warehouse/analytics.gated"}
    assert states(played.runs["gated_first"]) == {
        "scored.load[-1]": "success",
        "scored.infer[-1]": "skipped",  # the texts of this day have been scored by another Dag
        "scored.publish[-1]": "success",
    }


@answered
def test_a_gate_that_asks_shows_its_finding_both_histograms_and_rows(played):
    (form,) = played.runs["gated_rejected"]["forms"]
    assert form["subject"] == "Publish partition 2026-01-09 of analytics.gated?"
    assert form["options"] == ["Approve", "Reject"]
    assert [user["id"] for user in form["assigned_users"]] == ["admin"]
    assert "| label_drift.max_psi | **asks** | labels against 2026-01-05: PSI" in form["body"]
    assert "| label | here | before | moved by |" in form["body"]
    assert "| bad film number " in form["body"]


@answered
@pytest.mark.parametrize(("run", "task"), [("gated_rejected", "scored.publish"), ("whole_rejected", "whole")])
def test_the_page_of_a_run_that_waits_shows_the_question_and_where_to_answer(played, run, task):
    (form,) = played.runs[run]["forms"]
    assert "needs approval" in form["page"]
    assert f"A quality gate asks a person.</strong> {form['subject']}" in form["page"]
    assert f"/tasks/{task}/required_actions" in form["page"]
    assert "| bad film number " not in form["page"]  # rows are for those who may see required actions


@answered
def test_a_rejection_leaves_the_table_as_it_was_and_is_not_tried_again(played):
    run = played.runs["gated_rejected"]
    assert (run["state"], run["tasks"]["scored.publish[-1]"]) == ("failed", ["failed", 1])
    assert events(played, run) == []
    assert "admin has rejected partition '2026-01-09'" in played.log


@answered
def test_an_approval_publishes_and_the_receipt_says_who_gave_it(played):
    run = played.runs["gated_approved"]
    assert run["state"] == "success"
    receipt = xcoms(played, "gated", run)["scored.publish", -1, "return_value"]
    assert receipt["quality"]["decided_by"] == "admin"
    assert [check["status"] for check in receipt["quality"]["checks"]] == ["approved"]
    rows = table(played, "SELECT windrow_partition, windrow_run_id FROM analytics.gated GROUP BY ALL ORDER BY ALL")
    assert [day for day, _ in rows] == ["2026-01-05", "2026-01-09"]
    assert rows[1][1] == receipt["run_id"]


@answered
def test_a_task_that_is_stopped_once_it_is_answered_does_not_ask_again(played):
    run = played.runs["gated_approved"]
    assert run["tasks"]["scored.publish[-1]"] == ["success", 2]
    assert [form["answered"] for form in run["forms"]] == [200]


@answered
@pytest.mark.parametrize("task", ["whole", "called"])
def test_a_job_in_one_task_waits_too_and_publishes_the_run_that_was_asked_about(played, task):
    run = played.runs["whole_approved"]
    assert (run["state"], run["tasks"][f"{task}[-1]"]) == ("success", ["success", 1])
    assert {form["subject"] for form in run["forms"]} == {
        f"Publish partition 2026-01-09 of analytics.{name}?" for name in ("whole", "called")
    }
    receipt = xcoms(played, "gated_whole", run)[task, -1, "return_value"]
    assert receipt["quality"]["decided_by"] == "admin"
    rows = table(played, f"SELECT DISTINCT windrow_partition, windrow_run_id FROM analytics.{task} ORDER BY 1")
    assert [day for day, _ in rows] == ["2026-01-05", "2026-01-09"]
    assert rows[1][1] == receipt["run_id"]


@answered
def test_a_job_in_one_task_reads_its_source_once_a_run_though_it_waits(played):
    assert len(list(played.stage.place.root.rglob("runs/whole/2026-01-09/*/run.json"))) == 2  # rejected, approved
    assert played.log.count("The function is called for 2026-01-09.") == 1  # the rejected run ends before it


@answered
def test_a_rejected_job_in_one_task_is_not_tried_again(played):
    run = played.runs["whole_rejected"]
    assert run["tasks"]["whole[-1]"] == ["failed", 1]
    assert events(played, run) == []


@pytest.mark.parametrize("secret", ["correct-horse", "battery@staple", "battery%40staple", "hf_correct_horse"])
def test_secrets_reach_neither_log_nor_rendered_fields_nor_xcom(played, secret):
    assert states(played.runs["secretive"])["by_url.load[-1]"] == "failed"
    assert states(played.runs["secretive"])["by_connection.load[-1]"] == "failed"
    assert secret not in played.log
    for column, name in (
        ("rendered_fields", "rendered_task_instance_fields"),
        ("value", "xcom"),
        ("extra", "asset_event"),
    ):
        assert not played.stage.metadata(f"SELECT 1 FROM {name} WHERE CAST({column} AS TEXT) LIKE ?", f"%{secret}%")


def test_a_private_model_is_fetched_through_the_connection_of_the_hub(played):
    assert played.runs["from_hub"]["state"] == "success"
    assert [event["rows_published"] for event in events(played, played.runs["from_hub"])] == [ROWS]
    assert (played.stage.place.root / "cache/hub/models--ann--mood").is_dir()


def test_the_url_of_a_secret_is_still_shown(played):
    rendered = rendered_fields(played, "secretive", "by_url.load")
    assert rendered["job"]["source"]["url"] == "postgresql://ann:***@127.0.0.1:1/shop"
