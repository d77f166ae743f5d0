"""A source read from where the last published run ended; and its deleted rows set apart.

The place that a run reached comes from the data that it read, never from a clock, and is published with the run: so a
run that fails or is killed has reached nothing. Rows at the place itself are read again (others with the same value
may have come since), which changes nothing where keys are upserted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import compute, parquet

from windrow.errors import SourceError
from windrow.job import Job
from windrow.sources import RowSource, needs_partition, open_source, require_columns
from windrow.sources.files import FileSource
from windrow.sources.redaction import Redaction
from windrow.sources.since import Since, check_grows, text_of, value_of
from windrow.warehouses import TableName, Warehouse, open_warehouse
from windrow.warehouses.commit import fenced
from windrow.warehouses.widening import plain

__all__ = ["Increment", "check_latest", "last_success", "open_rows"]

_FILES = "<files>"
_TIME = pa.timestamp("us", "UTC")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PARTS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


def open_rows(job: Job, partition: str | None, full: bool = False) -> Increment:
    """Open the source of a job, from where its last published run ended if the job asks for that.

    Args:
        full: Read all of it all the same.

    Raises:
        SourceError: The source is missing or broken, or its watermark is not what was published.
    """
    source = open_source(job, partition)
    if not job.source.since:
        return Increment(job, source, None)
    with open_warehouse(job, writes=False) as warehouse:
        last = last_success(warehouse, job, partition)
    return Increment(job, source, last.get("watermark"), full)


def last_success(warehouse: Warehouse, job: Job, partition: str | None) -> dict[str, Any]:
    """Return the ledger's row of the last run of the job's table that reached a watermark; empty if there is none.

    Where each partition reads another place, only its own runs count.
    """
    table = TableName.parse(job.warehouse.table)
    asked = {"job": [job.name], **({"partition": [partition or ""]} if needs_partition(job) else {})}
    names = ("table", "run_id", "watermark", "fingerprint")
    runs = warehouse.read("ledger", asked, names).to_pylist()
    ours = [run for run in runs if run.get("watermark") and TableName.parse(run["table"]).matches(table)]
    return max(ours, key=lambda run: str(run["run_id"]), default={})


def check_latest(warehouse: Warehouse, job: Job, partition: str, run_id: str) -> None:
    """Refuse to publish what a run read before a later one has published: its rows may be older.

    Raises:
        FencedError: There is such a run.
    """
    later = last_success(warehouse, job, partition).get("run_id", "") if job.source.since else ""
    if later > run_id:
        raise fenced(partition, later)


class Increment:
    """The rows of a source that a run has to score, as a source.

    Args:
        job: Names watermark, lag and the column that marks deleted rows.
        source: All rows.
        last: What the last published run reached, as in the ledger.
        full: Read from the beginning all the same.

    Attributes:
        since: Value from which rows are read; None for all of them.
        rows_deleted: Rows read that the source marks as deleted.
    """

    def __init__(self, job: Job, source: RowSource, last: str | None, full: bool = False) -> None:
        self.job, self.source, self._last = job, source, None if full else last
        self.watermark, self.deleted = job.source.watermark, job.source.deleted
        self.since: str | None = None
        self.rows_deleted = 0
        self._redaction = Redaction(job.source)
        self._top: pa.Scalar | None = None
        self._condition: Since | None = None
        self._spool: _Spool | None = None
        if job.source.since:
            self._begin()

    def schema(self) -> pa.Schema:
        """Return the columns that the source has.

        Raises:
            SourceError: Watermark or deletion mark are missing or of another type.
        """
        schema = self.source.schema()
        if schema.names:
            require_columns(schema, [name for name in (self.watermark, self.deleted) if name], "the source")
        if self.watermark and schema.names:
            check_grows(self.watermark, schema.field(self.watermark).type)
        if self.deleted and schema.names and not _is_mark(schema.field(self.deleted).type):
            raise SourceError(
                f"Column {self.deleted!r} of source.deleted has type {schema.field(self.deleted).type}, not boolean.",
                "name a column of true and false, or make one in the source.",
            )
        return schema

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:  # noqa: ARG002
        """Yield the rows that are to be scored; deleted ones are counted, and their keys kept."""
        ours = (name for name in (self.watermark, self.deleted) if name)
        for batch in self.source.batches(tuple(dict.fromkeys((*columns, *ours))), self._condition):
            if self.watermark:
                top = compute.max(batch.column(self.watermark))
                self._top = top if self._top is None else _later(self._top, top)
            yield self._redaction.batch(self._alive(batch).select(list(columns)))

    def malformed(self) -> list[str]:
        """Return what could not be read as a row."""
        return [self._redaction.text(line) for line in self.source.malformed()]

    def spool_to(self, folder: Path) -> None:
        """Keep the keys of deleted rows in a file in `folder`, for a table in which they may still stand."""
        if self.job.warehouse.mode == "upsert":
            self._spool = _Spool(folder / "gone.parquet", tuple(self.job.source.key))

    def gone(self) -> Path | None:
        """Return the finished file of deleted keys, if there are any."""
        return self._spool.finished() if self._spool else None

    def reached(self) -> str | None:
        """Return how far the rows that were read reach, as the ledger keeps it."""
        if not self.job.source.since or self._top is None or not self._top.is_valid:
            return self._last
        return f"{self.watermark or _FILES}={text_of(self._top)}"

    def _begin(self) -> None:
        """Find out from which value on to read."""
        kind = self._kind()
        before = self._before(kind)
        start = None if before is None else _earlier(before, self.job.source.lag)
        self.since = None if start is None else text_of(start)
        self._top = before
        if self.watermark and start is not None:
            self._condition = Since(self.watermark, start)
        elif isinstance(self.source, FileSource) and not self.watermark:
            newest = pa.scalar(self.source.narrow(None if start is None else start.value), _TIME)
            self._top = newest if before is None else _later(newest, before)

    def _kind(self) -> pa.DataType:
        """Return the type of the watermark; null where the source has nothing to tell it by."""
        if not self.watermark:
            return _TIME
        schema = self.schema()
        return schema.field(self.watermark).type if schema.names else pa.null()

    def _before(self, kind: pa.DataType) -> pa.Scalar | None:
        """Read back what the last published run reached."""
        name, _, text = (self._last or "").rpartition("=")
        if not self._last or pa.types.is_null(kind):
            return None
        problem = f"The last published run of job {self.job.name!r} reached {self._last!r}, "
        fix = "correct source.watermark, or read everything once: windrow run --full."
        if name != (self.watermark or _FILES):
            raise SourceError(f"{problem}which is no value of {self.watermark or 'file times'!r}.", fix)
        try:
            return value_of(text, kind)
        except pa.ArrowInvalid:
            raise SourceError(f"{problem}but {name!r} is now of type {kind}.", fix) from None

    def _alive(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows that are not deleted."""
        if not self.deleted:
            return batch
        gone = compute.fill_null(batch.column(self.deleted).cast(pa.bool_()), False)
        rows = batch.filter(gone)
        self.rows_deleted += rows.num_rows
        if self._spool and rows.num_rows:
            self._spool.write(rows)
        return batch.filter(compute.invert(gone))


def _later(one: pa.Scalar, other: pa.Scalar) -> pa.Scalar:
    """Return the greater of two values of one type; null only if both are."""
    return compute.max(pa.array([one, other], one.type))


def _is_mark(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind) or pa.types.is_null(kind))


class _Spool:
    """A Parquet file of keys, made when the first ones come; a key with a null part names no row."""

    def __init__(self, file: Path, keys: tuple[str, ...]) -> None:
        self.file, self.keys = file, keys
        self._writer: parquet.ParquetWriter | None = None

    def write(self, rows: pa.RecordBatch) -> None:
        """Add the keys of some rows."""
        found = pa.Table.from_batches([rows.select(list(self.keys))]).drop_null()
        table = found.cast(pa.schema([pa.field(f.name, plain(f.type)) for f in found.schema]))
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self.file, table.schema)
        self._writer.write_table(table)

    def finished(self) -> Path | None:
        """Close the file and return it; None if there was nothing to write."""
        if self._writer is None:
            return None
        self._writer.close()
        return self.file


def _earlier(value: pa.Scalar, lag: str | None) -> pa.Scalar:
    """Return the value that lies `lag` before another.

    Raises:
        SourceError: It is a span of time and the values are numbers, or the other way round.
    """
    kind = value.type
    is_time = pa.types.is_temporal(kind)
    if lag is None:
        return value
    if is_time != lag[-1].isalpha():
        example = "a span such as 90m, 12h or 2d" if is_time else "a whole number"
        raise SourceError(f"source.lag is {lag!r}, but the watermark is of type {kind}.", f"write {example}.")
    if not is_time:
        earlier = value.as_py() - int(lag)
        return pa.scalar(max(0, earlier) if pa.types.is_unsigned_integer(kind) else earlier, kind)
    seconds = int(lag[:-1]) * _SECONDS[lag[-1]]
    if pa.types.is_date(kind):
        days = -(-seconds // _SECONDS["d"])
        return pa.scalar(value.value - days * (1 if pa.types.is_date32(kind) else 86_400_000), kind)
    return pa.scalar(value.value - seconds * _PARTS[kind.unit], kind)
