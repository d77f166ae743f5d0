"""Windrow in Airflow: three operators, and the task group that joins them. Light: no model is imported here.

    from windrow.airflow import batch_inference

Names are imported when they are first used, so that a Dag file is parsed quickly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["InferOperator", "LoadOperator", "PublishOperator", "batch_inference", "default_partition", "table_asset"]

if TYPE_CHECKING:
    from windrow.airflow.assets import table_asset
    from windrow.airflow.group import batch_inference
    from windrow.airflow.operators import InferOperator, LoadOperator, PublishOperator
    from windrow.airflow.partitions import default_partition

_HOMES = {
    "InferOperator": "windrow.airflow.operators",
    "LoadOperator": "windrow.airflow.operators",
    "PublishOperator": "windrow.airflow.operators",
    "batch_inference": "windrow.airflow.group",
    "default_partition": "windrow.airflow.partitions",
    "table_asset": "windrow.airflow.assets",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
