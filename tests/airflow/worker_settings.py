"""Airflow's local settings in the installations that the tests start; read by each of Airflow's programs.

The programs that run tasks import the heavy packages before they fork, so that a task does not. Shards are small, and
an infer that has scored a third shard stops there until it is killed: a later try has fewer shards left. That a task
is dead is found out within half a minute.
"""

import os
import sys

os.environ["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT"] = "20"
os.environ["AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL"] = "3"
os.environ["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] = "2"

if {"scheduler", "celery"} & set(sys.argv):
    import torch  # noqa: F401
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

    import windrow.infer
    import windrow.load
    import windrow.publish

    windrow.load.SHARD_TEXTS = 400
    os.environ["WINDROW_KILL_AT"] = "infer.scored:3:SIGSTOP"


def worker_name() -> str:
    """Name the machine of a task as the Celery worker that runs it is named."""
    return os.environ.get("WORKER_NAME", "here")
