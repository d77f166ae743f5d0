"""Which earlier runs a partition is compared with: told by the ledger."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from windrow.receipt import Receipt

if TYPE_CHECKING:
    from windrow.job import Job

__all__ = ["Reference", "chosen", "reference"]

_COLUMNS = ("table", "partition", "run_id", "fingerprint", "labels")
_DATED = re.compile(r"\d{4}")


@dataclass(frozen=True, slots=True)
class Reference:
    """Runs to compare with: their partitions, oldest first, and their rows by label, added up."""

    run_id: str
    partitions: tuple[str, ...]
    labels: dict[str, int]
    same_fingerprint: bool


def reference(job: Job, receipt: Receipt, partitions: int) -> Reference | None:
    """Read the ledger for the runs that a run is compared with; None if there are none.

    Args:
        partitions: At most so many of them; see `chosen`.

    Raises:
        WarehouseError: The ledger cannot be read.
    """
    from windrow.warehouses import TableName, open_warehouse

    table = TableName.parse(job.warehouse.table)
    with open_warehouse(job, writes=False) as warehouse:
        runs = warehouse.read("ledger", {"task": [receipt.task]}, _COLUMNS).to_pylist()
    ours = [run for run in runs if TableName.parse(run["table"]).matches(table)]
    return chosen(ours, receipt, partitions, replaces=job.warehouse.mode == "replace")


def chosen(runs: Iterable[dict[str, Any]], receipt: Receipt, partitions: int, replaces: bool) -> Reference | None:
    """Choose among the ledger's runs of a table.

    A partition whose name begins with a year is compared with those before it: with the last run of each, the
    newest `partitions` of them taken together, so that a weekday weighs little. Any other partition (``all``,
    ``eu``) is compared with the runs of its own before this one; where each replaces the one before, with the last.
    Runs of this run's fingerprint are preferred; where there are none, as after a change of the model, others serve.
    """
    told = [run for run in runs if dict(run["labels"] or ())]
    if _DATED.match(receipt.partition):
        last: dict[str, dict[str, Any]] = {}
        for run in sorted(told, key=lambda run: str(run["run_id"])):
            if run["partition"] < receipt.partition:
                last[run["partition"]] = run
        found = [last[name] for name in sorted(last) if _DATED.match(name)]
    else:
        own = (run for run in told if run["partition"] == receipt.partition and run["run_id"] < receipt.run_id)
        found = sorted(own, key=lambda run: str(run["run_id"]))[-1 if replaces else 0 :]
    same = [run for run in found if run["fingerprint"] == receipt.fingerprint]
    taken = (same or found)[-partitions:]
    if not taken:
        return None
    labels: Counter[str] = Counter()
    for run in taken:
        labels.update(dict(run["labels"]))
    return Reference(taken[-1]["run_id"], tuple(run["partition"] for run in taken), dict(labels), bool(same))
