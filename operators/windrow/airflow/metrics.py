"""Counters, gauges and timings of runs, through Airflow's own metrics: StatsD, DogStatsD or OpenTelemetry.

Every metric carries the tags ``job``, ``dag_id`` and ``task_id``. Plain StatsD has no tags, so each is sent a second
time under the job's name, ``windrow.<job>.<metric>``; ``[windrow] metrics_by_job`` turns that off.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from windrow.airflow.compat import setting, stats

__all__ = ["COUNTERS", "GAUGES", "TIMINGS", "Metrics"]

COUNTERS = {
    "rows_in": "rows of the source, when their partition is published",
    "rows_published": "rows in the table",
    "rows_rejected": "rows among the rejects",
    "texts_reused": "distinct texts that had a prediction already",
    "texts_scored": "texts that a lane scored, when it ends",
    "tokens": "tokens that the model read in a lane",
    "refused": "runs that the audit refused to publish",
    "failed": "tries of a task that ended in an error of Windrow's",
}
GAUGES = {
    "texts_to_score": "texts that load left to infer",
    "rows_per_s": "rows of the run over its total time",
    "tokens_per_s": "tokens of a lane over its time",
    "reject_share": "rejected rows as a share of all",
}
TIMINGS = {
    "load": "wall time of load",
    "infer": "wall time of one lane, loading its model included",
    "publish": "wall time of publish",
    "total": "load, the longest lane and publish",
}


class Metrics:
    """Tells Airflow's metrics what a task did.

    Args:
        job: Name of the job.
        context: As the task has it; tells Dag and task.
    """

    def __init__(self, job: str, context: Mapping[str, Any]) -> None:
        task = context["ti"]
        self.job = job
        self.tags = {"job": job, "dag_id": task.dag_id, "task_id": task.task_id}

    def loaded(self, manifest: Any) -> None:
        """Tell of a `windrow.manifest.Manifest`."""
        self._gauge("texts_to_score", manifest.texts_to_score)
        self._timing("load", manifest.load_s)

    def scored(self, lane: Mapping[str, Any]) -> None:
        """Tell of a lane: the fields of a `windrow.manifest.LaneReport`."""
        self._count("texts_scored", lane["texts"])
        self._count("tokens", lane["tokens"])
        self._timing("infer", lane["seconds"])
        if lane["tokens"] and lane["seconds"]:
            self._gauge("tokens_per_s", lane["tokens"] / lane["seconds"])

    def published(self, receipt: Mapping[str, Any]) -> None:
        """Tell of a receipt: its fields, as `windrow.Receipt.to_dict` gives them."""
        for name in ("rows_in", "rows_published", "rows_rejected", "texts_reused"):
            self._count(name, receipt[name])
        self._gauge("rows_per_s", receipt["rows_per_s"])
        self._gauge("reject_share", receipt["rows_rejected"] / receipt["rows_in"] if receipt["rows_in"] else 0.0)
        for step in ("publish", "total"):
            self._timing(step, receipt["seconds"][step])

    def failed(self, kind: str) -> None:
        """Tell of an error; the name of its class is the tag ``error``."""
        self.tags = {**self.tags, "error": kind}
        self._count("refused" if kind == "AuditError" else "failed", 1)

    def _count(self, name: str, count: int) -> None:
        if count:  # Airflow's own would make one of nothing
            for full in self._names(name):
                stats().incr(full, count, tags=self.tags)

    def _gauge(self, name: str, value: float) -> None:
        for full in self._names(name):
            stats().gauge(full, round(value, 3), tags=self.tags)

    def _timing(self, name: str, seconds: float) -> None:
        for full in self._names(name):
            stats().timing(full, timedelta(seconds=seconds), tags=self.tags)

    def _names(self, name: str) -> list[str]:
        by_job = setting("windrow", "metrics_by_job", "True").lower() in {"true", "1", "t", "yes", "on"}
        return [f"windrow.{name}", *([f"windrow.{self.job}.{name}"] if by_job else [])]
