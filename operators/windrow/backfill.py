"""One run a partition over a span of time, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from windrow.errors import JobError, WindrowError
from windrow.job import Job
from windrow.receipt import Receipt
from windrow.sources import needs_partition
from windrow.steps import run
from windrow.warehouses import TableName, open_warehouse

__all__ = ["backfill"]


def backfill(
    job: Job, partitions: Sequence[str], missing: bool = False, told: Callable[[Receipt], None] = lambda _: None
) -> list[Receipt]:
    """Run a job for each of some partitions, one after the other; texts that have a prediction are not scored again.

    Args:
        partitions: In the order in which they are to be written.
        missing: Leave out those that the ledger says are published.
        told: Is given each receipt as it comes.

    Raises:
        JobError: The source is the same for every partition, so that each would hold the same rows.
        WindrowError: A run failed; the partitions before it are published.
    """
    if not needs_partition(job):
        raise JobError(
            "The source is the same for every partition: it does not contain {partition}.",
            "write {partition} into source.path or source.query, or use windrow run.",
        )
    done = _published(job) if missing else set()
    left = [partition for partition in partitions if partition not in done]
    receipts: list[Receipt] = []
    for partition in left:
        try:
            receipts.append(run(job, partition))
        except WindrowError as error:
            error.problem = f"Partition {partition} ({len(receipts)} of {len(left)} are published): {error.problem}"
            raise
        told(receipts[-1])
    return receipts


def _published(job: Job) -> set[str]:
    """Return the partitions of the job's table that the ledger knows."""
    table = TableName.parse(job.warehouse.table)
    with open_warehouse(job, writes=False) as warehouse:
        runs = warehouse.read("ledger", {"job": [job.name]}, ["table", "partition"]).to_pylist()
    return {run["partition"] for run in runs if TableName.parse(run["table"]).matches(table)}
