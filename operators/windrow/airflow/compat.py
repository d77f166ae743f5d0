"""What differs between Airflow 3.1, 3.2 and 3.3 for tasks and tools; for authors see `windrow.airflow.versions`."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from typing import Any

from airflow import __version__

__all__ = [
    "INLETS_STAY",
    "AirflowFailException",
    "AirflowNotFoundException",
    "TaskDeferred",
    "add_listener",
    "dag_bag",
    "mask_secret",
    "read_dags",
    "setting",
    "stats",
]


def _found(*places: str) -> Any:
    """Return the first of ``module:name`` that this Airflow has; the newest is asked for first."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise ImportError(f"This Airflow has none of {', '.join(places)}.")


AirflowFailException: type[Exception] = _found(
    "airflow.sdk.exceptions:AirflowFailException", "airflow.exceptions:AirflowFailException"
)
"""Fails a task at once, whatever retries it has."""
AirflowNotFoundException: type[Exception] = _found(
    "airflow.sdk.exceptions:AirflowNotFoundException", "airflow.exceptions:AirflowNotFoundException"
)
"""A connection or variable is not there."""
TaskDeferred: Any = _found("airflow.sdk.exceptions:TaskDeferred", "airflow.exceptions:TaskDeferred")
"""Leaves the worker until a trigger fires."""
INLETS_STAY = tuple(map(int, __version__.split(".")[:2])) >= (3, 3)
"""Whether a task may have an inlet that no Dag writes or waits for: the scheduler of 3.1 puts it out of use within a
minute, and then fails the task."""


def dag_bag(folder: str | None) -> Any:
    """Return a ``DagBag`` with the Dags of a folder; None for Airflow's own."""
    return _found("airflow.dag_processing.dagbag:DagBag", "airflow.models.dagbag:DagBag")(folder)


def read_dags(folder: str) -> Any:
    """Return a ``DagBag`` with the Dags of a folder, which ``dag.test()`` can run."""
    bag = dag_bag(folder)
    if type(bag).__module__ == "airflow.models.dagbag":  # 3.1 runs only what its metadata know
        _found("airflow.dag_processing.bundles.manager:DagBundlesManager")().sync_bundles_to_db()
        _found("airflow.models.dagbag:sync_bag_to_db")(bag, "dags-folder", None)
    return bag


def add_listener(listener: Any) -> None:
    """Let a listener hear of the tasks of this process."""
    manager = _found("airflow.sdk.listener:get_listener_manager", "airflow.listeners.listener:get_listener_manager")
    manager().add_listener(listener)


def mask_secret(secret: str) -> None:
    """Hide a secret in logs and rendered fields; Airflow 3.1 hides it in the latter by a list of their own."""
    from airflow.sdk.log import mask_secret

    mask_secret(secret)
    with suppress(ImportError):
        _found("airflow._shared.secrets_masker:mask_secret")(secret)


def stats() -> Any:
    """Return what has Airflow's ``incr``, ``gauge`` and ``timing``: they do nothing where metrics are off."""
    return _found("airflow.sdk.observability.stats:Stats", "airflow.stats:Stats")


def setting(section: str, name: str, fallback: str) -> str:
    """Return an option of Airflow's configuration, as text."""
    return str(_found("airflow.sdk:conf", "airflow.configuration:conf").get(section, name, fallback=fallback))
