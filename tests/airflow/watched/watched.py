"""Dags for a scheduler: one that follows a model on the Hub, partitions handed on, and a task that is stopped."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from airflow.sdk import PartitionedAssetTimetable, XComArg, dag

from windrow.airflow import (
    InferOperator,
    LoadOperator,
    PublishOperator,
    SentimentOperator,
    batch_inference,
    dags_from,
    deadline,
    table_asset,
)

SOURCE = {"path": "data/{partition}.parquet", "text": "body", "key": "review_id"}
JOB = {"source": SOURCE, "task": "sentiment", "model": "${TINY_MODEL}"}
START = datetime(2026, 1, 1)


def to(table):
    return {"url": f"duckdb:///{table}.duckdb", "table": table}


@dag(schedule=None)
def split():
    partition = "{{ dag_run.conf['day'] }}"
    batch_inference("split", **JOB, warehouse=to("split"), partition=partition, partitioned=True)


@dag(schedule=PartitionedAssetTimetable(assets=table_asset("split", url=to("split")["url"])), start_date=START)
def per_partition():
    SentimentOperator(task_id="again", source=SOURCE, model="${TINY_MODEL}", warehouse=to("again"))


class StoppedOperator(InferOperator):
    """Is stopped in the middle of its first try, so that it can be killed there."""

    def execute(self, context):
        if context["ti"].try_number == 1:
            os.environ["WINDROW_KILL_AT"] = "infer.predictions:2:SIGSTOP"
            Path(__file__).with_name("stopped.pid").write_text(str(os.getpid()))
        return super().execute(context)


def write_down(context):
    told = f"{context['dag'].dag_id}: {context['remaining']}; due {context['due']}\n"
    Path(__file__).with_name("late.txt").write_text(told)


@dag(schedule=None, default_args={"retries": 1, "retry_delay": timedelta(0)}, deadline=deadline(timedelta(seconds=1)))
def killed():
    job = {"name": "killed", **JOB, "warehouse": to("killed"), "source": {**SOURCE, "path": "data/2026-01-07.parquet"}}
    load = LoadOperator(task_id="load", job=job, partition="all")
    infer = StoppedOperator.partial(task_id="infer", job=job, on_late=write_down).expand(lane=load.output)
    infer >> PublishOperator(task_id="publish", job=job, run=XComArg(load, key="run"))


split(), per_partition(), killed()
dags_from("jobs", start_date=START)
