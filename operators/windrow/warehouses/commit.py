"""What every publish decides the same way: who may write, and how the receipt is completed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa

from windrow.errors import FencedError
from windrow.faults import reach
from windrow.receipt import Receipt, Seconds, utc_now
from windrow.warehouses.base import Mode, Replacement, TableName

__all__ = ["completed", "fenced", "is_published"]


class _Run(Protocol):
    """What says who publishes what: a receipt, or the reference of a run."""

    @property
    def partition(self) -> str: ...

    @property
    def run_id(self) -> str: ...


def is_published(runs: Iterable[tuple[str, str]], table: TableName, run: _Run, mode: Mode) -> bool:
    """Tell whether this run's partition is written already, so that ``append`` has nothing left to do.

    Args:
        runs: ``(table, run_id)`` of the ledger's rows of the partition; a table may be spelled in any way.

    Raises:
        FencedError: A later run of the partition has published; or, in mode ``append``, any other.

    >>> from types import SimpleNamespace
    >>> run, table = SimpleNamespace(partition="2026-01-01", run_id="01B"), TableName(None, "reviews")
    >>> is_published([], table, run, "append"), is_published([("reviews", "01B")], table, run, "append")
    (False, True)
    """
    ours = [run_id for name, run_id in runs if TableName.parse(name).matches(table)]
    for run_id in sorted(ours, reverse=True):
        if run_id > run.run_id:
            raise fenced(run.partition, run_id)
        if mode == "append" and run_id != run.run_id:
            raise FencedError(
                f"Partition {run.partition!r} was already appended by run {run_id}; nothing was changed.",
                "nothing to do; a job that is to write it anew needs `mode: replace`.",
            )
    reach("publish.checked")
    return mode == "append" and bool(ours)


def fenced(partition: str, run_id: str) -> FencedError:
    """Return the error of a run that comes after its successor has published."""
    return FencedError(
        f"Partition {partition!r} was published by the later run {run_id}; nothing was changed.",
        "nothing to do, unless you want it anew: run the job again.",
    )


def completed(new: Replacement) -> tuple[Receipt, pa.Table]:
    """Return the receipt with publish's seconds in it, and the ledger row that it makes."""
    reach("publish.written")
    seconds = new.receipt.seconds
    publish_s = time.monotonic() - new.began
    total_s = seconds.load + seconds.infer + publish_s
    receipt = dataclasses.replace(
        new.receipt,
        seconds=Seconds(seconds.load, seconds.infer, publish_s, total_s),
        rows_per_s=new.receipt.rows_in / total_s if total_s else 0.0,
        finished_at=utc_now(),
    )
    return receipt, receipt.to_arrow()
