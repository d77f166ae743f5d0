"""A seam for tests: named moments of a run at which the process is killed, or stopped.

``WINDROW_KILL_AT=publish.rows`` kills the process (SIGKILL) when it first reaches that point,
``WINDROW_KILL_AT=infer.predictions:3`` when it reaches it for the third time, and
``WINDROW_KILL_AT=publish.begun:1:SIGSTOP`` only stops it. Where the variable is not set, a point costs one look
into the environment, and nothing happens.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa

__all__ = ["POINTS", "reach", "watched"]

_VARIABLE = "WINDROW_KILL_AT"

POINTS = {
    "store.put": "A file is finished in scratch, and not yet in its place.",
    "load.begun": "The source is read; nothing of the run is in the store.",
    "load.rows": "rows.parquet is there, rejects.parquet is not.",
    "load.rejects": "rows.parquet and rejects.parquet are there, no shard is.",
    "compact.merged": "Small prediction files are merged, and lie beside the merged one.",
    "load.gone": "The keys that the source deleted are there, no shard is.",
    "load.shard": "A shard is there.",
    "load.shards": "All shards are there, run.json is not.",
    "load.manifest": "run.json is there; the run is loaded.",
    "infer.begun": "The manifest is read; nothing is scored.",
    "infer.scored": "A shard is scored; its predictions are not in the store.",
    "infer.predictions": "A shard's predictions are in the store.",
    "infer.done": "All predictions of the lane are in the store, its report is not.",
    "infer.report": "The lane's report is there.",
    "publish.begun": "Rows are joined and audited; the warehouse is not opened for writing.",
    "publish.opened": "The warehouse is open; its tables are as they were.",
    "publish.checked": "Tables fit the schemas and the ledger has no later run; nothing is deleted.",
    "publish.rows.begun": "The stream of rows is started.",
    "publish.rows.passed": "A record batch of rows has gone into the warehouse.",
    "publish.rows.ended": "The stream of rows has ended.",
    "publish.rejects.begun": "The stream of rejects is started.",
    "publish.rejects.passed": "A record batch of rejects has gone into the warehouse.",
    "publish.rejects.ended": "The stream of rejects has ended.",
    "publish.staged": "In a lake: rows and rejects are files that no version names; elsewhere, tables of their own.",
    "publish.claimed": "In a lake the ledger notes that this run writes the partition; elsewhere a table does.",
    "publish.table": "Where tables commit one by one: the table is committed, the rejects are not.",
    "publish.written": "Rows and rejects are written, the ledger row is not.",
    "publish.ledger": "The ledger row is written, and not committed.",
    "publish.committed": "The transaction is committed; receipt.json is not there.",
    "publish.receipt": "receipt.json is there, the shards are too.",
    "publish.done": "The shards are removed; the run is over.",
}
"""Every point, and what is so when it is reached."""

_reached: Counter[str] = Counter()


def reach(point: str) -> None:
    """Note that a point is reached; the process ends here if the environment says so."""
    wanted = os.environ.get(_VARIABLE)
    if not wanted:
        return
    name, _, rest = wanted.partition(":")
    count, _, kind = rest.partition(":")
    if point == name:
        _reached[point] += 1
        if _reached[point] == int(count or 1):
            os.kill(os.getpid(), signal.Signals[kind or "SIGKILL"])


def watched(start: Callable[[], pa.RecordBatchReader], point: str) -> Callable[[], pa.RecordBatchReader]:
    """Return `start` with the points ``.begun``, ``.passed`` and ``.ended``, where the environment names any point."""
    if not os.environ.get(_VARIABLE):
        return start

    def begin() -> pa.RecordBatchReader:
        reach(f"{point}.begun")
        reader = start()

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in reader:
                yield batch
                reach(f"{point}.passed")
            reach(f"{point}.ended")

        return pa.RecordBatchReader.from_batches(reader.schema, batches())

    return begin
