"""load: the source as rows with keys and text hashes, rejects with reasons, and shards of texts not yet predicted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import compute

from windrow.duck import execute, first_line, literal, quoted
from windrow.engines import check_engine, choose_engine
from windrow.engines.device import choose_device, choose_precision
from windrow.errors import JobError, SchemaError, SourceError
from windrow.job import Job
from windrow.manifest import Manifest, Shard
from windrow.models import resolve
from windrow.predictions import Predictions
from windrow.receipt import utc_now
from windrow.schema import rejects_schema, table_schema
from windrow.sources import RowSource, needs_partition, open_source, require_columns
from windrow.staging import file_schema, stage
from windrow.store import RunRef, Store, new_run_id
from windrow.tasks import Task, build_task, fingerprint
from windrow.warehouses import open_warehouse

__all__ = ["DEFAULT_PARTITION", "load", "partition_of"]

DEFAULT_PARTITION = "all"
SHARD_TEXTS = int(os.environ.get("WINDROW_SHARD_TEXTS", "4096"))
SHARD_BYTES = 512 << 10
_READ_TEXTS = 2048


def partition_of(job: Job, partition: str | None) -> str:
    """Return the partition that a run owns: the one named, or ``all``.

    Raises:
        SourceError: The source reads another place for each partition, and none is named.
    """
    if partition is None and needs_partition(job):
        raise SourceError(
            "The source contains {partition}, but the run names none.", "add --partition, for example a day."
        )
    if partition == "":
        raise JobError("The partition is an empty text.", "name one, for example a day, or leave it out.")
    if partition and partition.encode("utf-8", "replace").decode() != partition:
        raise JobError("The partition is not UTF-8 text.", "name it in UTF-8.")
    return DEFAULT_PARTITION if partition is None else partition


def load(job: Job, partition: str | None = None, *, limit: int | None = None, run_id: str | None = None) -> Manifest:
    """Read the source of one partition and write rows, rejects and shards into a new run folder.

    Nothing is scored and the warehouse is only looked at.

    Args:
        limit: Read at most so many rows of the source.
        run_id: Id of the run; a new one unless given.

    Raises:
        JobError: Job, source, model or table do not fit together.
        StoreError: The store cannot be written.
    """
    began, started_at = time.monotonic(), utc_now()
    ref = RunRef(job.name, partition_of(job, partition), run_id or new_run_id())
    check_engine(job.engine)
    model = resolve(job)
    task = build_task(job, model)
    device = choose_device(job.device)
    precision = choose_precision(job.precision, device)
    mark = fingerprint(task, model, precision)
    source = open_source(job, partition)
    carried = carried_columns(job, source, task)
    store = Store(job.store_url)
    predictions = Predictions(store, mark, task.columns)
    predictions.compact()
    with store.scratch() as folder, store.connect(folder) as con:
        _stage(con, job, source, carried, model.english_only, limit)
        untyped = tuple(f.name for f in carried if pa.types.is_null(f.type))
        files = _copied(con, folder, carried.names, job)
        check_table(job, task, file_schema(con, files["rows"], carried.names), untyped)
        for part, file in files.items():
            store.put(file, f"{ref.folder}/{part}.parquet")
        distinct, reused = _find_new(con, predictions)
        shards = tuple(_write_shards(con, store, ref, folder))
        rows_in, rejected = con.execute("SELECT count(*), count(windrow_reason) FROM staged").fetchall()[0]
    engine = choose_engine(job.engine, task.head, device, precision, distinct)
    manifest = Manifest(
        ref, started_at.isoformat(), model.name, model.revision, mark, engine, device, precision,
        rows_in, rejected, distinct, reused, time.monotonic() - began, untyped, shards,
    )  # fmt: skip
    manifest.write(store)
    return manifest


def _stage(
    con: duckdb.DuckDBPyConnection,
    job: Job,
    source: RowSource,
    carried: pa.Schema,
    english_only: bool,
    limit: int | None,
) -> None:
    """Stage the source, and say which column DuckDB cannot hold."""
    try:
        stage(con, job, source, carried, english_only, limit)
    except (duckdb.ConversionException, duckdb.NotImplementedException, duckdb.InvalidInputException) as error:
        raise SchemaError(
            f"A column has a type or a value that cannot be carried: {first_line(error)}.",
            "leave it out of source.keep, or cast it in the source.",
        ) from None


def carried_columns(job: Job, source: RowSource, task: Task) -> pa.Schema:
    """Return key and kept columns with the source's types, all columns of the job checked.

    Raises:
        SourceError: A column is missing.
        SchemaError: A column has a type that cannot be carried unchanged.
        JobError: A column has the name of one that Windrow adds.
    """
    schema = source.schema()
    names = tuple(dict.fromkeys((*job.source.key, *job.source.keep)))
    if not schema.names:
        schema = pa.schema([(name, pa.null()) for name in job.source.columns])
    require_columns(schema, job.source.columns, "the source")
    carried = pa.schema([schema.field(name).remove_metadata() for name in names])
    for field in carried:
        if _holds_span(field.type):
            raise SchemaError(
                f"Column {field.name!r} has type {field.type}, a span of time, which would lose its microseconds.",
                "leave it out, or turn it into a number or a text in the source.",
            )
    table_schema(job, carried, task.columns)
    return carried


def _holds_span(kind: pa.DataType) -> bool:
    """Tell whether a type is a span of time or holds one: Parquet keeps its milliseconds only."""
    inside = [kind.field(number).type for number in range(kind.num_fields)]
    return pa.types.is_duration(kind) or pa.types.is_interval(kind) or any(map(_holds_span, inside))


def check_table(job: Job, task: Task, carried: pa.Schema, untyped: tuple[str, ...]) -> None:
    """Let the warehouse refuse a table that this job cannot fill, before anything is scored.

    Raises:
        SchemaError: The table exists with other types.
    """
    loose = pa.schema([pa.field(f.name, pa.null()) if f.name in untyped else f for f in carried])
    keys = pa.schema([loose.field(name) for name in job.source.key])
    with open_warehouse(job, writes=False) as warehouse:
        warehouse.plan(table_schema(job, loose, task.columns), rejects_schema(keys))


def _copied(con: duckdb.DuckDBPyConnection, folder: Path, names: list[str], job: Job) -> dict[str, Path]:
    """Write ``rows.parquet`` (key, kept columns, hash) and ``rejects.parquet`` (key, reason) as scratch files."""
    kept, keys = (", ".join(map(quoted, part)) for part in (names, job.source.key))
    parts = {
        "rows": f"SELECT {kept}, windrow_hash FROM staged WHERE windrow_reason IS NULL",
        "rejects": f"SELECT {keys}, windrow_reason, windrow_detail FROM staged WHERE windrow_reason IS NOT NULL",
    }
    files = {part: folder / f"{part}.parquet" for part in parts}
    for part, query in parts.items():
        execute(con, f"COPY ({query}) TO {literal(files[part])} (FORMAT parquet)")
    return files


def _find_new(con: duckdb.DuckDBPyConnection, predictions: Predictions) -> tuple[int, int]:
    """Make table `wanted` of the distinct texts without a prediction; return ``(distinct, reused)``."""
    execute(
        con,
        "CREATE TABLE wanted AS SELECT windrow_hash, min(windrow_row) AS windrow_row "
        "FROM staged WHERE windrow_reason IS NULL GROUP BY windrow_hash",
    )
    distinct = con.execute("SELECT count(*) FROM wanted").fetchall()[0][0]
    predictions.select(con, "wanted", "predicted", columns=[])
    execute(con, "DELETE FROM wanted WHERE windrow_hash IN (SELECT windrow_hash FROM predicted)")
    new = con.execute("SELECT count(*) FROM wanted").fetchall()[0][0]
    return distinct, distinct - new


def _write_shards(con: duckdb.DuckDBPyConnection, store: Store, ref: RunRef, folder: Path) -> Iterator[Shard]:
    """Write the wanted texts as Arrow IPC files, in the order of the source."""
    reader = execute(
        con,
        "SELECT windrow_hash, windrow_text FROM staged WHERE windrow_row IN (SELECT windrow_row FROM wanted)",
    ).to_arrow_reader(_READ_TEXTS)
    for number, table in enumerate(_cut(reader)):
        name = f"shards/{number:05d}.arrow"
        file = folder / "shard.arrow"
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        store.put(file, f"{ref.folder}/{name}")
        yield Shard(name, table.num_rows, table.nbytes)


def _cut(reader: pa.RecordBatchReader) -> Iterator[pa.Table]:
    """Cut texts into shards; where a shard ends depends on its texts alone.

    So what a killed run left is cut as it was, falls into the same micro-batches, and gets the same
    predictions to the last bit.
    """
    waiting: list[pa.RecordBatch] = []
    texts = size_bytes = 0
    for batch in reader:
        ends = np.cumsum(compute.binary_length(batch.column("windrow_text")).to_numpy(zero_copy_only=False))
        start = before = 0
        while start < batch.num_rows:
            enough = int(np.searchsorted(ends, before + SHARD_BYTES - size_bytes)) + 1
            end = min(enough, start + SHARD_TEXTS - texts, batch.num_rows)
            waiting.append(batch.slice(start, end - start))
            texts, size_bytes = texts + end - start, size_bytes + int(ends[end - 1]) - before
            if texts >= SHARD_TEXTS or size_bytes >= SHARD_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting, texts, size_bytes = [], 0, 0
            start, before = end, int(ends[end - 1])
    if waiting:
        yield pa.Table.from_batches(waiting)
