"""The audit: counts must add up, and the job's limits and gates must be met, or nothing is published."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from windrow.errors import AuditError, ReviewError
from windrow.receipt import Receipt

if TYPE_CHECKING:
    from windrow.job import Job

__all__ = ["audit"]

log = logging.getLogger("windrow")


def audit(job: Job, receipt: Receipt) -> None:
    """Refuse to publish a run that loses a row, breaks a limit or breaches a gate; log what a gate only warns of.

    Raises:
        AuditError: With the limit, what was found, and the most frequent reason.
        ReviewError: A gate asks for a person's decision, and none refuses.
    """
    _check_counts(job, receipt)
    by_status: dict[str, list[dict[str, Any]]] = {}
    for check in receipt.quality.get("checks", ()):
        by_status.setdefault(check["status"], []).append(check)
    if failed := by_status.get("fail"):
        fields = ", ".join(f"quality.{check['name']}" for check in failed)
        raise AuditError(
            f"Quality gates refuse partition {receipt.partition!r}: {_told(failed)}. Nothing was published.",
            f"look at the source and the model; or change {fields}, or its on_breach, in the job.",
        )
    if asking := by_status.get("ask"):
        raise ReviewError(
            f"Quality gates ask about partition {receipt.partition!r}: {_told(asking)}. Nothing was published.",
            "look at the source and the model; to publish all the same, run it with --approve (nothing is scored "
            "twice).",
        )
    for check in by_status.get("warn", ()):
        log.warning("Quality gate %s of partition %s: %s.", check["name"], receipt.partition, check["detail"])


def _told(checks: list[dict[str, Any]]) -> str:
    return "; ".join(f"{check['name']}: {check['detail']}" for check in checks)


def _check_counts(job: Job, receipt: Receipt) -> None:
    if receipt.rows_in != receipt.rows_published + receipt.rows_rejected:
        written = f"{receipt.rows_published} + {receipt.rows_rejected}"
        raise AuditError(
            f"{receipt.rows_in} rows were read, but {written} would be written.",
            "run the partition again; if it stays, report it with the run's folder.",
        )
    share = receipt.rows_rejected / receipt.rows_in if receipt.rows_in else 0.0
    if share > job.limits.max_reject_share:
        reasons = ", ".join(f"{reason} {count}" for reason, count in receipt.rejects.items())
        raise AuditError(
            f"{receipt.rows_rejected} of {receipt.rows_in} rows are rejects ({share:.1%}; {reasons}); "
            f"limits.max_reject_share is {job.limits.max_reject_share:.1%}. Nothing was published.",
            "mend the source, or raise limits.max_reject_share.",
        )
