"""Dags for the tests: one that works, one scheduled on its table, and some that fail in their own ways."""

from datetime import datetime, timedelta

from airflow.sdk import dag, task

from windrow import Job
from windrow.airflow import ScoreOperator, batch_inference, table_asset

SOURCE = {"path": "{{ var.value.data }}/{partition}.parquet", "text": "body", "key": "review_id", "keep": ["stars"]}
SCORED = {"source": SOURCE, "task": "sentiment", "model": "${TINY_MODEL}"}
START = datetime(2026, 1, 1)
QUICK = {"retries": 2, "retry_delay": timedelta(0)}
ASKING = {"label_drift": {"max_psi": 0.05, "on_breach": "ask"}, "answer_hours": 48}


def to(table: str) -> dict[str, str]:
    return {"connection": "warehouse", "table": f"analytics.{table}"}


@dag(schedule="@daily", start_date=START)
def daily():
    batch_inference("scored", **SCORED, warehouse=to("reviews"), lanes=2)


@dag(schedule=None)
def undated():
    batch_inference("scored", **SCORED, name="undated", warehouse=to("undated"))


@dag(schedule=[table_asset("analytics.undated", connection="warehouse")], start_date=START)
def downstream():
    batch_inference("again", **SCORED, warehouse=to("again"))


@dag(schedule="@daily", start_date=START, default_args=QUICK)
def season():
    source = {"path": "{{ var.value.data }}/season/{partition}.parquet", "text": "body", "key": "review_id"}
    batch_inference("scored", **{**SCORED, "source": source}, engine="torch", warehouse=to("season"))


@dag(schedule=None)
def from_file():
    batch_inference("scored", job="jobs/reviews.yaml")


@dag(schedule=None)
def from_object():
    job = Job(name="object", **SCORED, warehouse=to("object"), limits={"max_reject_share": 0.5})
    batch_inference("scored", job=job, partition="{{ dag_run.conf.get('day', '') }}")


@dag(schedule=None)
def from_hub():
    batch_inference("scored", **{**SCORED, "model": "ann/mood"}, warehouse=to("hub"))


@dag(schedule=None, default_args=QUICK)
def wrong_column():
    batch_inference("scored", **{**SCORED, "source": {**SOURCE, "text": "review"}}, warehouse=to("wrong"))


@dag(schedule=None, default_args=QUICK)
def broken_store():
    batch_inference("scored", **SCORED, warehouse=to("broken"), store="${TINY_MODEL}/config.json/store")


@dag(schedule=None, default_args=QUICK)
def interrupted():
    batch_inference("scored", **{**SCORED, "source": {**SOURCE, "keep": []}}, name="slow", warehouse=to("slow"))


@dag(schedule=None, default_args=QUICK)
def gated():
    batch_inference("scored", **SCORED, name="gated", warehouse=to("gated"), quality=ASKING, approvers=["admin"])


@dag(schedule=None, default_args=QUICK)
def gated_whole():
    job = {**SCORED, "name": "whole", "warehouse": to("whole"), "quality": ASKING}
    given = {"model": SCORED["model"], "name": "called", "warehouse": to("called"), "quality": ASKING}

    @task.infer(text="body", key="review_id", **given, approvers=["admin"])
    def called(ds=None):
        print(f"The function is called for {ds}.")
        return f"data/{ds}.parquet"

    ScoreOperator(task_id="whole", job=job, approvers=["admin"]) >> called()


@dag(schedule=None)
def secretive():
    query = {"query": "SELECT 1", "text": "body", "key": "review_id"}
    for name, place in {
        "by_url": {"url": "postgresql://ann:correct-horse@127.0.0.1:1/shop"},
        "by_connection": {"connection": "shop"},
    }.items():
        batch_inference(name, **{**SCORED, "source": {**query, **place}}, warehouse=to(name))


(
    daily(),
    season(),
    undated(),
    downstream(),
    from_file(),
    from_object(),
    from_hub(),
    wrong_column(),
    broken_store(),
    interrupted(),
    gated(),
    gated_whole(),
    secretive(),
)
