"""Writes Dags in one process of its own, and writes down what came of it.

python authoring.py RESULT.json
"""

import json
import sys
from pathlib import Path

from airflow.sdk import DAG

import windrow.airflow
from windrow.airflow import batch_inference, table_asset
from windrow.airflow.connections import airflow_hub, airflow_url
from windrow.airflow.operators import lane_count
from windrow.errors import JobError

FIELDS = {
    "source": {"path": "reviews.parquet", "text": "body", "key": "review_id"},
    "task": "sentiment",
    "model": "windrow/minilm-sentiment",
    "warehouse": {"url": "duckdb:///w.duckdb", "table": "reviews"},
}


def refused(write, *args, **options):
    """Return the complaint about a Dag or an operator."""
    try:
        with DAG("refused", schedule=None):
            write(*args, **options)
    except JobError as error:
        return str(error)
    return ""


with DAG("placed", schedule=None) as placed:
    batch_inference("reviews", **FIELDS, queue="gpu", pool="gpus", executor_config={"pod": "big"}, lanes=4)

infer = placed.get_task("reviews.infer")
others = [placed.get_task(f"reviews.{name}") for name in ("load", "publish")]
seen = {
    "exported": [getattr(windrow.airflow, name).__name__ for name in windrow.airflow.__all__],
    "infer": {name: infer.partial_kwargs[name] for name in ("queue", "pool", "executor_config")},
    "others": [[task.queue, task.pool, task.executor_config] for task in others],
    "edges": {task.task_id: sorted(task.downstream_task_ids) for task in placed.tasks},
    "name": placed.get_task("reviews.load").job["name"],
    "rule": placed.get_task("reviews.publish").trigger_rule,
    "typo": refused(batch_inference, "reviews", **FIELDS, modle="x"),
    "both": refused(batch_inference, "reviews", job="job.yaml", limits={}),
    "no_file": refused(batch_inference, "reviews", job="nowhere.yaml"),
    "lanes": refused(lane_count, "none"),
    "no_connection": refused(airflow_url, "nowhere"),
    "assets": [
        table_asset("sales.reviews", url="postgresql://ann:s3cret@db:5432/shop?sslmode=require").name,
        table_asset("reviews", url="duckdb:///${WINDROW_HOME}/w.duckdb").name,
        table_asset("reviews", connection="warehouse").uri,
    ],
    "types": {name: airflow_url(name) for name in ("typed", "generic", "mother", "lake", "plain", "hooked")},
    "no_hub": refused(airflow_hub, "nowhere"),
    "hub": repr(airflow_hub(None)),
    "urls": {
        name: airflow_url(name)
        for name in (
            "absolute",
            "relative",
            "hosted",
            "shop",
            "snow",
            "snow_key",
            "google",
            "google_key",
            "clicks",
            "shift",
            "bricks",
        )
    },
    "bare": refused(airflow_url, "snow_bare"),
}
Path(sys.argv[1]).write_text(json.dumps(seen))
