"""Dags for the tests of authoring: decorated functions, presets, partitioned assets, a sensor, a folder of jobs."""

from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
from airflow.sdk import CronPartitionTimetable, PartitionedAssetTimetable, dag, task
from pyarrow import parquet

from windrow.airflow import (
    SentimentOperator,
    SourceSensor,
    SummariseOperator,
    batch_inference,
    dags_from,
    retry_policy,
    table_asset,
)
from windrow.errors import JobError, StoreError

DATA = Path(__file__).parent / "data"
SOURCE = {"path": "data/{partition}.parquet", "text": "body", "key": "review_id", "keep": ["stars"]}
MODEL = "${TINY_MODEL}"
START = datetime(2026, 1, 1)
QUICK = {"retries": 2, "retry_delay": timedelta(0)}


def to(table):
    return {"connection": "warehouse", "table": f"authored.{table}"}


def rows(day):
    return parquet.read_table(DATA / f"{day}.parquet")


GIVEN = {"text": "body", "key": "review_id", "keep": "stars", "model": MODEL}


@dag(schedule="@daily", start_date=START, default_args=QUICK)
def decorated():
    @task.infer(**GIVEN, warehouse=to("by_path"))
    def by_path(dag_run=None):
        return f"data/{dag_run.logical_date:%F}.parquet"

    @task.infer(**GIVEN, warehouse=to("by_table"))
    def by_table(day):
        return rows(day)

    @task.infer(**GIVEN, warehouse=to("by_reader"))
    def by_reader(ds=None):
        table = rows(ds)
        return pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=100)))

    @task.infer(**GIVEN, url="duckdb:///source.duckdb", warehouse=to("by_query"))
    def by_query():
        return "SELECT * FROM reviews WHERE day = {partition}"

    by_path(), by_table("{{ ds }}"), by_reader(), by_query()


@dag(schedule=None, default_args=QUICK)
def decorated_wrong():
    @task.infer(**GIVEN, warehouse=to("wrong"))
    def nothing():
        return None

    @task.infer(**GIVEN, warehouse=to("wrong"))
    def rows_in_python():
        return [{"review_id": "1", "body": "good"}]

    @task.infer(**GIVEN, connection="warehouse", warehouse=to("wrong"))
    def rows_for_a_query():
        return rows("2026-01-05")

    nothing(), rows_in_python(), rows_for_a_query()


@dag(schedule=None, default_args=QUICK)
def mapped():
    @task.infer(**GIVEN, warehouse=to("mapped"), partition="{{ task.op_kwargs['day'] }}")
    def one_day(day):
        return f"data/{day}.parquet"

    one_day.expand(day=["2026-01-05", "2026-01-06"])


@dag(schedule="@daily", start_date=START)
def presets():
    SentimentOperator(task_id="score", source=SOURCE, warehouse=to("sentiment"), model=MODEL, price_per_hour=3.6)
    SummariseOperator(task_id="summarise", source=SOURCE, warehouse=to("summaries"), task={"name": "summarise"})


@dag(schedule=CronPartitionTimetable("@daily", timezone="UTC", key_format="%Y-%m-%d"), start_date=START)
def keyed():
    SentimentOperator(task_id="keyed", source=SOURCE, warehouse=to("keyed"), model=MODEL)


@dag(schedule=None, default_args=QUICK)
def partitioned():
    batch_inference(
        "split",
        source=SOURCE,
        task="sentiment",
        model=MODEL,
        warehouse=to("split"),
        partition="2026-01-06",
        partitioned=True,
        lane_memory_gib=1.5,
        pool="default_pool",
    )


@dag(schedule=PartitionedAssetTimetable(assets=table_asset("authored.split", connection="warehouse")))
def per_partition():
    SentimentOperator(task_id="again", source=SOURCE, warehouse=to("again"), model=MODEL)


@dag(schedule=None, default_args={**QUICK, "retry_policy": retry_policy()})
def policies():
    @task
    def hopeless():
        raise JobError("No.", "none.")

    @task
    def hopeless_inside():
        raise ValueError("wrapped") from JobError("No.", "none.")

    @task
    def hopeful():
        raise StoreError("Later.", "wait.")

    @task(templates_dict={"day": "{{ nothing.at.all }}"})
    def unrendered(templates_dict=None):
        return templates_dict

    hopeless(), hopeless_inside(), hopeful(), unrendered()


@dag(schedule=None, default_args=QUICK)
def waiting():
    job = {"name": "late", "source": {**SOURCE, "path": "late/{partition}.parquet"}, "task": "sentiment"}
    job |= {"model": MODEL, "warehouse": to("late")}
    options = {"job": job, "partition": "2026-01-05", "poll_s": 0.01}
    SourceSensor(task_id="comes", **options)
    SourceSensor(task_id="never_comes", **{**options, "partition": "never"}, timeout_s=0)
    SourceSensor(task_id="may_not_come", **{**options, "partition": "never"}, timeout_s=0, soft_fail=True)


@dag(schedule=None)
def lacking():
    options = {"pool": "gpu", "pool_slots": 4, "queue": "gpu"}
    nowhere = {"connection": "nowhere", "table": "lacking"}
    batch_inference("scored", source=SOURCE, task="sentiment", model=MODEL, warehouse=nowhere, **options)
    far = {"warehouse": to("lacking"), "model": MODEL, "device": "cuda:9", "hub_connection": "no_hub"}
    SentimentOperator(task_id="preset", source=SOURCE, **far)
    SentimentOperator(task_id="sent_elsewhere", source=SOURCE, **{**far, "device": "auto"}, queue="gpu")

    @task.infer(text="body", key="review_id", **far)
    def decorated():
        return "data/2026-01-05.parquet"

    decorated()


(
    decorated(),
    decorated_wrong(),
    mapped(),
    presets(),
    keyed(),
    partitioned(),
    per_partition(),
    policies(),
    waiting(),
    lacking(),
)
dags_from("jobs", start_date=START, retries=1)
