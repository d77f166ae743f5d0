"""Windrow in Airflow: operators, the task group that joins them, ``@task.infer``, and Dags made of job files.

    from windrow.airflow import batch_inference

Light: no model is imported here, and names are imported when they are first used, so that a Dag file is parsed quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "InferOperator",
    "LoadOperator",
    "PublishOperator",
    "ScoreOperator",
    "SentimentOperator",
    "SourceSensor",
    "SummariseOperator",
    "batch_inference",
    "dags_from",
    "deadline",
    "default_partition",
    "infer_task",
    "model_asset",
    "preflight",
    "retry_policy",
    "source_asset",
    "table_asset",
]

if TYPE_CHECKING:
    from windrow.airflow.assets import model_asset, source_asset, table_asset
    from windrow.airflow.deadlines import deadline
    from windrow.airflow.decorator import infer_task
    from windrow.airflow.folder import dags_from
    from windrow.airflow.group import batch_inference
    from windrow.airflow.operators import InferOperator, LoadOperator, PublishOperator
    from windrow.airflow.partitions import default_partition
    from windrow.airflow.resources import preflight
    from windrow.airflow.retry import retry_policy
    from windrow.airflow.score import ScoreOperator, SentimentOperator, SummariseOperator
    from windrow.airflow.waiting import SourceSensor

_HOMES = {
    "InferOperator": "windrow.airflow.operators",
    "LoadOperator": "windrow.airflow.operators",
    "PublishOperator": "windrow.airflow.operators",
    "ScoreOperator": "windrow.airflow.score",
    "SentimentOperator": "windrow.airflow.score",
    "SourceSensor": "windrow.airflow.waiting",
    "SummariseOperator": "windrow.airflow.score",
    "batch_inference": "windrow.airflow.group",
    "dags_from": "windrow.airflow.folder",
    "deadline": "windrow.airflow.deadlines",
    "default_partition": "windrow.airflow.partitions",
    "infer_task": "windrow.airflow.decorator",
    "model_asset": "windrow.airflow.assets",
    "preflight": "windrow.airflow.resources",
    "retry_policy": "windrow.airflow.retry",
    "source_asset": "windrow.airflow.assets",
    "table_asset": "windrow.airflow.assets",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
