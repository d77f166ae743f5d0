"""What the tasks leave in Airflow's metadata for the page: small XComs, and the progress of lanes as a hint.

XCom windrow_load      by load     the run's reference, its counts, and the choice of the engine
XCom windrow_lane      by infer    which lane of which run this task is; told when it begins
XCom windrow_publish   by publish  the receipt in brief, so that many can be read at once
state windrow_progress of infer    texts done, speed, time left; every few seconds, gone when the lane succeeds
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from windrow.airflow.events import cost_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from windrow.job import Job
    from windrow.manifest import Manifest
    from windrow.pace import Pace

__all__ = ["LANE", "LOAD", "PROGRESS", "PUBLISH", "LaneProgress", "brief", "told_by_load"]

LOAD, LANE, PUBLISH, PROGRESS = "windrow_load", "windrow_lane", "windrow_publish", "windrow_progress"
_MOST_LABELS = 12
_BRIEF = (
    "job", "task", "partition", "run_id", "model", "engine", "device", "precision", "table",
    "rows_in", "rows_published", "rows_rejected", "texts_distinct", "texts_reused", "texts_scored",
    "tokens", "rows_per_s", "tokens_per_s", "finished_at",
)  # fmt: skip
_LOADED = ("model", "revision", "fingerprint", "engine", "device", "precision", "choice", "load_s", "rows_in",
           "rows_rejected", "texts_distinct", "texts_reused", "texts_to_score")  # fmt: skip

log = logging.getLogger("windrow")


def told_by_load(job: Job, manifest: Manifest, lanes: int) -> dict[str, Any]:
    """Return what the page shows of a run that has been loaded."""
    counts = {name: getattr(manifest, name) for name in _LOADED}
    return {**manifest.ref.to_dict(), **counts, "lanes": lanes, "table": job.warehouse.table, "task": job.task.name}


def brief(job: Job, receipt: Mapping[str, Any], lanes: int) -> dict[str, Any]:
    """Return a receipt in brief: enough to list a run and to draw it among others."""
    labels = sorted(receipt["labels"].items(), key=lambda label: -label[1])
    rest = sum(rows for _, rows in labels[_MOST_LABELS:])
    quality = receipt.get("quality") or {}
    return {
        **{name: receipt[name] for name in _BRIEF},
        "seconds": receipt["seconds"]["total"],
        "labels": dict(labels[:_MOST_LABELS]),
        "labels_rest": rest,
        "rejects": receipt["rejects"],
        "cost": cost_of(receipt["seconds"], job.price_per_hour, lanes),
        "samples": job.samples.rows,
        "checks": [check.get("status") for check in quality.get("checks") or []],
    }


class LaneProgress:
    """Writes a lane's pace into Airflow's task state store, and takes it away when the lane is done.

    Airflow keeps that state when a task is cleared, so what an earlier try left is removed at the beginning. Where
    the store cannot be written, or does not exist (Airflow before 3.3), the lane goes on without.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self.clear()

    def __call__(self, pace: Pace) -> None:
        """Keep how far the lane is."""
        from windrow.receipt import utc_now

        told = {
            "texts": pace.texts,
            "total": pace.total,
            "tokens": pace.tokens,
            "texts_per_s": round(pace.texts_per_s, 2),
            "tokens_per_s": round(pace.tokens_per_s, 1),
            "left_s": None if pace.left_s is None else round(pace.left_s, 1),
            "at": utc_now().isoformat(),
        }
        self._try("set", PROGRESS, told)

    def clear(self) -> None:
        """Remove what is kept."""
        self._try("delete", PROGRESS)

    def _try(self, verb: str, *values: Any) -> None:
        """Ask the store for something; give it up for good if it fails."""
        if self._store is None:
            return
        try:
            getattr(self._store, verb)(*values)
        except Exception as error:
            log.warning("The page will not see this lane's progress: %s", error)
            self._store = None
