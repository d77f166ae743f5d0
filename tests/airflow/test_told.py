"""What tasks told a real StatsD listener and OpenLineage's own transport while the runs of `stage.py` were made."""

import json

import airflow.sdk.exceptions
import pytest

from windrow.airflow.metrics import COUNTERS, GAUGES, TIMINGS

pytestmark = pytest.mark.airflow
ROWS, TEXTS = 600, 599


def metric(played, name):
    """Return all values that were sent under a name."""
    found = [line.split(":", 1)[1].split("|") for line in played.metrics if line.startswith(f"airflow.{name}:")]
    return [(float(value), kind) for value, kind, *_ in found]


@pytest.fixture(scope="module")
def published(played):
    """The event of the first publish of the daily Dag."""
    return played.events("daily.scored.publish")[0]


def columns(output):
    """Return for each column of an output the columns that it is made of, and how."""
    fields = output["facets"]["columnLineage"]["fields"]
    return {
        name: [(each["name"], each["field"], each["transformations"][0]["subtype"]) for each in told["inputFields"]]
        for name, told in fields.items()
    }


def test_every_metric_of_the_page_is_sent(played):
    for names, kind in ((COUNTERS, "c"), (GAUGES, "g"), (TIMINGS, "ms")):
        sent = {name for name in names if any(each == kind for _, each in metric(played, f"windrow.{name}"))}
        refused = set() if hasattr(airflow.sdk.exceptions, "TaskAwaitingInput") else {"refused"}  # nobody could answer
        assert sent == set(names) - {"rows_rejected"} - refused, kind


def test_metrics_count_what_a_job_did(played):
    assert metric(played, "windrow.object.rows_published") == [(ROWS, "c")]
    assert metric(played, "windrow.object.texts_reused") == [(TEXTS, "c")]
    assert metric(played, "windrow.object.texts_scored") == []
    assert metric(played, "windrow.object.reject_share") == [(0, "g")]
    ((total, _),), ((publish, _),) = (metric(played, f"windrow.object.{name}") for name in ("total", "publish"))
    assert total > publish > 0


def test_each_lane_tells_what_it_scored(played):
    assert metric(played, "windrow.slow.texts_scored") == [(TEXTS, "c")]
    assert len(metric(played, "windrow.slow.infer")) == 1


def test_errors_are_counted_by_job(played):
    assert metric(played, "windrow.slow.failed") == [(1, "c")]


def test_the_lineage_of_publish_leads_from_the_source_to_the_table(played, published):
    source = ("file", f"{played.stage.place.dags}/data")
    assert [(each["namespace"], each["name"]) for each in published["inputs"]] == [source]
    place = f"duckdb://{played.stage.warehouse}"
    names = ["warehouse.analytics.reviews", "warehouse.analytics.reviews__rejects"]
    assert [(each["namespace"], each["name"]) for each in published["outputs"]] == [(place, name) for name in names]


def test_columns_lead_from_the_text_to_the_label(played, published):
    source = f"{played.stage.place.dags}/data"
    assert columns(published["outputs"][0]) == {
        "review_id": [(source, "review_id", "IDENTITY")],
        "stars": [(source, "stars", "IDENTITY")],
        "label": [(source, "body", "TRANSFORMATION")],
        "score": [(source, "body", "TRANSFORMATION")],
    }


def test_the_events_carry_schema_and_counts(published):
    table, rejects = published["outputs"]
    kinds = {field["name"]: field["type"] for field in table["facets"]["schema"]["fields"]}
    assert kinds["label"] == "string"
    assert kinds["stars"] == "int8"
    assert kinds["windrow_tokens"] == "int32"
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == ROWS
    assert rejects["outputFacets"]["outputStatistics"]["rowCount"] == 0
    (source,) = published["inputs"]
    quality = source["inputFacets"]["dataQualityMetrics"]
    assert quality["rowCount"] == ROWS
    assert quality["columnMetrics"]["body"] == {"nullCount": 0, "distinctCount": TEXTS, "quantiles": {}}


def test_the_run_tells_the_model_and_the_fingerprint(published):
    facts = published["run"]["facets"]["windrow"]["facts"]
    assert facts["partition"] == "2026-01-05"
    assert (facts["texts_scored"], facts["texts_reused"]) == (TEXTS, 0)
    assert len(facts["fingerprint"]) == 64


def test_load_tells_what_it_read(played):
    event = played.events("daily.scored.load")[0]
    assert [each["name"] for each in event["inputs"]] == [f"{played.stage.place.dags}/data"]
    assert event["outputs"] == []


@pytest.mark.parametrize("secret", ["correct-horse", "battery@staple", "battery%40staple", "hf_correct_horse"])
def test_secrets_reach_neither_lineage_nor_metrics(played, secret):
    told = (played.stage.place.root / "lineage.jsonl").read_text()
    assert "by_url.load" in told
    assert secret not in told
    assert secret not in json.dumps(played.metrics)
