"""What Airflow is told about this package; read through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from windrow import __version__
from windrow.airflow.forms import CONNECTION_TYPES

__all__ = ["get_provider_info"]

_CONFIG: dict[str, Any] = {
    "windrow": {
        "description": "Settings of Windrow.",
        "options": {
            "hub_connection": {
                "description": "Connection of the Hugging Face Hub that jobs use which name none; it need not exist.",
                "version_added": None,
                "type": "string",
                "example": None,
                "default": "windrow_models_default",
            },
            "metrics_by_job": {
                "description": "Send each metric a second time as ``windrow.<job>.<metric>``, for StatsD without tags.",
                "version_added": None,
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "samples": {
                "description": "Whether the page shows sample rows that jobs keep, to those who may read the Dag's "
                "XComs.",
                "version_added": None,
                "type": "boolean",
                "example": None,
                "default": "True",
            },
            "stores": {
                "description": "Stores in which the page looks for sample rows, separated by commas; "
                "``$WINDROW_HOME/store`` unless set. The API server has to reach them; it looks nowhere else.",
                "version_added": None,
                "type": "string",
                "example": "s3://bucket/windrow",
                "default": "",
            },
        },
    }
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's ``provider_info.schema.json`` asks for it."""
    return {
        "package-name": "windrow",
        "name": "Windrow",
        "description": "Transformer models over tables: load, infer, publish; each row exactly once.",
        "versions": [__version__],
        "integrations": [{"integration-name": "Windrow", "tags": ["service"]}],
        "operators": _modules("operators", "score"),
        "sensors": _modules("waiting"),
        "triggers": _modules("waiting", "model_watch"),
        "hooks": _modules("hooks"),
        "connection-types": CONNECTION_TYPES,
        "extra-links": ["windrow.airflow.links.RunLink", "windrow.airflow.links.TableLink"],
        "config": _CONFIG,
        "task-decorators": [{"name": "infer", "class-name": "windrow.airflow.decorator.infer_task"}],
    }


def _modules(*names: str) -> list[dict[str, Any]]:
    """Return modules of `windrow.airflow`, as the schema wants them listed."""
    return [{"integration-name": "Windrow", "python-modules": [f"windrow.airflow.{name}" for name in names]}]
