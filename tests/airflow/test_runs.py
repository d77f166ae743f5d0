"""Runs of real Dags through `dag.test()`: states, references, events, rows and secrets that they leave behind."""

import json

import duckdb
import pytest

pytestmark = pytest.mark.airflow
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


@pytest.mark.parametrize("secret", ["correct-horse", "battery@staple", "battery%40staple"])
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


def test_the_url_of_a_secret_is_still_shown(played):
    rendered = rendered_fields(played, "secretive", "by_url.load")
    assert rendered["job"]["source"]["url"] == "postgresql://ann:***@127.0.0.1:1/shop"
