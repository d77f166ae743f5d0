"""Connection types as data: what their forms show, in the words of Airflow's provider info."""

from __future__ import annotations

from typing import Any

__all__ = ["CONNECTION_TYPES", "behaviour", "widgets"]

_HOOKS = "windrow.airflow.hooks"


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}


CONNECTION_TYPES: list[dict[str, Any]] = [
    {
        "connection-type": "windrow_models",
        "hook-class-name": f"{_HOOKS}.ModelsHook",
        "hook-name": "Windrow: models (Hugging Face Hub)",
        "ui-field-behaviour": {
            "hidden-fields": ["login", "port", "schema", "extra"],
            "relabeling": {"host": "Endpoint", "password": "Hub token"},
            "placeholders": {
                "host": "https://huggingface.co (unless given), or a mirror",
                "password": "hf_… (only for private and gated repositories)",
            },
        },
        "conn-fields": {
            "cache": _text(
                "Cache folder",
                "On the workers, with hub/ and datasets/ in it; HF_HOME unless given.",
            ),
        },
    },
    {
        "connection-type": "windrow_duckdb",
        "hook-class-name": f"{_HOOKS}.DuckDBFileHook",
        "hook-name": "Windrow: DuckDB file or MotherDuck",
        "ui-field-behaviour": {
            "hidden-fields": ["login", "port", "schema", "extra"],
            "relabeling": {"host": "File, or md:database", "password": "MotherDuck token"},
            "placeholders": {
                "host": "/data/warehouse.duckdb (a path on the workers)",
                "password": "only for md:database",
            },
        },
    },
    {
        "connection-type": "windrow_lake",
        "hook-class-name": f"{_HOOKS}.LakeHook",
        "hook-name": "Windrow: lake (Delta, Iceberg, Parquet, DuckLake)",
        "ui-field-behaviour": {
            "hidden-fields": ["port", "schema"],
            "relabeling": {"host": "Url without secrets", "extra": "Options of the catalog or object store"},
            "placeholders": {
                "host": "delta+s3://bucket/folder, iceberg+rest://host, ducklake+postgresql://host/db?data=s3://bucket/x",
                "login": "of the catalog's database, if it has one",
                "password": "of the catalog's database, if it has one",
                "extra": '{"region": "eu-central-1"}',
            },
        },
    },
]
"""Entries of ``connection-types``."""


def behaviour(connection_type: str) -> dict[str, Any]:
    """Return how a form treats the standard fields, with the names that Airflow 3.1 asks the hook for."""
    told = _entry(connection_type)["ui-field-behaviour"]
    return {name.replace("-", "_"): value for name, value in told.items()}


def widgets(connection_type: str) -> dict[str, Any]:
    """Return a form's own fields as Airflow 3.1 asks the hook for them; later ones read the provider info."""
    from wtforms import StringField

    fields = _entry(connection_type).get("conn-fields", {})
    return {name: StringField(told["label"], description=told["description"]) for name, told in fields.items()}


def _entry(connection_type: str) -> dict[str, Any]:
    return next(entry for entry in CONNECTION_TYPES if entry["connection-type"] == connection_type)
