"""Dags for the page: runs with all there is to show, hostile names, failures, and tasks that are not ours."""

from datetime import datetime

from airflow.sdk import dag, task

from windrow.airflow import batch_inference

SOURCE = {"path": "${DATA}/{partition}.parquet", "text": "body", "key": "review_id"}
SCORED = {"source": SOURCE, "model": "${TINY_MODEL}", "price_per_hour": 3.6}
START = datetime(2026, 1, 1)
HOSTILE = ["<script>document.title='owned'</script>", "\u202e恶 ✂️ \"'&"]


def to(table: str) -> dict[str, str]:
    return {"url": "duckdb:///${WINDROW_HOME}/tables.duckdb", "table": f"analytics.{table}"}


@dag(schedule=None, start_date=START)
def tickets():
    kept = {"source": {**SOURCE, "keep": ["note"]}, "samples": {"rows": 4, "redact": ["review_id"]}}
    batch_inference("tickets", **{**SCORED, **kept}, task="sentiment", warehouse=to("tickets"), lanes=2)


@dag(schedule=None, start_date=START)
def hostile():
    kept = {"source": {**SOURCE, "keep": ["note"]}, "samples": {"rows": 4}}
    labelled = {"name": "sentiment", "labels": HOSTILE}
    batch_inference("hostile", **{**SCORED, **kept}, task=labelled, warehouse=to("hostile"))

    @task
    def unrelated():
        return None

    unrelated()


@dag(schedule=None, start_date=START)
def broken():
    batch_inference(
        "broken", **{**SCORED, "source": {**SOURCE, "text": "review"}}, task="sentiment", warehouse=to("no")
    )


@dag(schedule=None, start_date=START)
def stopped():
    batch_inference("stopped", **SCORED, task="sentiment", warehouse=to("stopped"), store="${WINDROW_HOME}/other")


@dag(schedule=None, start_date=START)
def parked():
    asking = {"label_drift": {"max_psi": 0.05, "on_breach": "ask"}, "answer_hours": 48}
    batch_inference("parked", **SCORED, task="sentiment", warehouse=to("parked"), quality=asking, approvers=["admin"])


@dag(schedule=None, start_date=START)
def never():
    batch_inference("never", **SCORED, task="sentiment", warehouse=to("never"))


tickets(), hostile(), broken(), stopped(), parked(), never()
