"""The audit: counts must add up, and the job's limits must be met, or nothing is published."""

from __future__ import annotations

from windrow.errors import AuditError
from windrow.job import Job
from windrow.receipt import Receipt

__all__ = ["audit"]


def audit(job: Job, receipt: Receipt) -> None:
    """Refuse to publish a run that breaks a limit or loses a row.

    Raises:
        AuditError: With the limit, what was found, and the most frequent reason.
    """
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
