"""What tasks leave for the page: briefs, lanes, and progress that is a hint and gone when a lane is done."""

import json
import re

import pytest

from windrow.airflow import telling
from windrow.pace import Pace

pytestmark = pytest.mark.airflow


class Store:
    """A task state store that may be full."""

    def __init__(self, is_full=False):
        self.kept, self.is_full, self.asked = {"windrow_progress": "of an earlier try"}, is_full, 0

    def set(self, key, value):
        self.asked += 1
        if self.is_full:
            raise OSError("no space left")
        self.kept[key] = json.loads(json.dumps(value))

    def delete(self, key):
        self.kept.pop(key, None)


def test_progress_is_kept_while_a_lane_runs_and_gone_when_it_is_done():
    store = Store()
    progress = telling.LaneProgress({"task_state_store": store})
    assert store.kept == {}
    progress(Pace(10, 40, 500, 5.0, 15.0))
    kept = store.kept["windrow_progress"]
    assert (kept["texts"], kept["total"], kept["texts_per_s"], kept["left_s"]) == (10, 40, 2.0, 15.0)
    progress.clear()
    assert store.kept == {}


def test_a_lane_goes_on_where_its_progress_cannot_be_kept():
    store = Store(is_full=True)
    progress = telling.LaneProgress({"task_state_store": store})
    progress(Pace(10, 40, 500, 5.0, 15.0))
    progress(Pace(20, 40, 900, 9.0, 9.0))
    assert store.asked == 1


def test_a_lane_goes_on_in_an_airflow_without_a_task_state_store():
    telling.LaneProgress({})(Pace(10, 40, 500, 5.0, None))


def test_the_lanes_of_a_run_tell_a_line_that_a_person_can_follow(played):
    lines = re.findall(r"Lane (\d): 3\d\d of 3\d\d texts \(100 %\), [\d,.]+ texts/s, [\d,]+ tokens/s\.", played.log)
    assert {"1"} <= set(lines)


def test_runs_that_are_done_leave_no_progress(played):
    assert played.stage.metadata("SELECT value FROM task_state_store WHERE key = 'windrow_progress'") == []


def test_a_published_run_tells_the_page_in_brief(played):
    query = (
        "SELECT task_id, map_index, key, value FROM xcom WHERE run_id = ? AND dag_id = 'daily' AND key LIKE 'windrow%'"
    )
    rows = played.stage.metadata(query, played.runs["manual"]["run_id"])
    told = {(task, index, key): json.loads(value) for task, index, key, value in rows}
    assert sorted(told) == [
        ("scored.infer", 0, "windrow_lane"),
        ("scored.infer", 1, "windrow_lane"),
        ("scored.load", -1, "windrow_load"),
        ("scored.publish", -1, "windrow_publish"),
    ]
    brief = told["scored.publish", -1, "windrow_publish"]
    assert (brief["rows_in"], brief["rows_published"], sum(brief["labels"].values())) == (600, 600, 600)
    assert len(json.dumps(brief)) < 1500
    assert told["scored.load", -1, "windrow_load"]["lanes"] == 2
