"""What Airflow is told about this package; read through the entry point ``apache_airflow_provider``."""

from __future__ import annotations

from typing import Any

from windrow import __version__

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, as Airflow's ``provider_info.schema.json`` asks for it."""
    return {
        "package-name": "windrow",
        "name": "Windrow",
        "description": "Transformer models over tables: load, infer, publish; each row exactly once.",
        "versions": [__version__],
        "integrations": [{"integration-name": "Windrow", "tags": ["service"]}],
        "operators": [{"integration-name": "Windrow", "python-modules": ["windrow.airflow.operators"]}],
    }
