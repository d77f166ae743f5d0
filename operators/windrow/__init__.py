"""Windrow: Transformer models over tables, on Airflow's schedule. load → infer → publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Job", "Receipt", "WindrowError", "__version__", "run"]

if TYPE_CHECKING:
    from windrow.errors import WindrowError
    from windrow.job import Job
    from windrow.receipt import Receipt
    from windrow.steps import run

_HOMES = {"Job": "windrow.job", "Receipt": "windrow.receipt", "WindrowError": "windrow.errors", "run": "windrow.steps"}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that `import windrow` stays light."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
