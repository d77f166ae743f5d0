"""Whether source, task and table fit together: looked at before anything is scored."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from windrow.errors import SchemaError
from windrow.job import Job
from windrow.sampling import check_redacted
from windrow.schema import rejects_schema, table_schema
from windrow.sources import RowSource, require_columns
from windrow.store import RunRef
from windrow.tasks import Task
from windrow.warehouses import TableName, open_warehouse
from windrow.warehouses.commit import is_published

__all__ = ["carried_columns", "check_table"]


def carried_columns(job: Job, source: RowSource, task: Task) -> pa.Schema:
    """Return key and kept columns with the source's types, all columns of the job checked.

    Raises:
        SourceError: A column is missing.
        SchemaError: A column has a type that cannot be carried unchanged.
        JobError: A column has the name of one that Windrow adds, or one to be redacted does not exist.
    """
    schema = source.schema()
    names = tuple(dict.fromkeys((*job.source.key, *job.source.keep)))
    if not schema.names:
        schema = pa.schema([(name, pa.null()) for name in job.source.columns])
    require_columns(schema, job.source.columns, "the source")
    fields = [schema.field(name).remove_metadata() for name in names]
    carried = pa.schema([field.with_type(_held(field.type)) for field in fields])
    for field in carried:
        if _holds_span(field.type):
            raise SchemaError(
                f"Column {field.name!r} has type {field.type}, a span of time, which would lose its microseconds.",
                "leave it out, or turn it into a number or a text in the source.",
            )
        _check_held(field)
    table_schema(job, carried, task.columns)
    check_redacted(job, [*names, *task.columns.names])
    return carried


def _held(kind: pa.DataType) -> pa.DataType:
    """Return the type in which values are staged in DuckDB, whose moments with a zone and times are in microseconds.

    >>> _held(pa.list_(pa.timestamp("ns", tz="UTC")))
    ListType(list<item: timestamp[us, tz=UTC]>)
    """
    if pa.types.is_timestamp(kind) and (kind.tz or kind.unit != "ns"):
        return pa.timestamp("us", tz=kind.tz)
    if pa.types.is_time64(kind):
        return pa.time64("us")
    if pa.types.is_float16(kind):
        return pa.float32()
    if pa.types.is_list(kind):
        return pa.list_(_held(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([part.with_type(_held(part.type)) for part in kind])
    return kind


def _check_held(field: pa.Field) -> None:
    """Refuse a type that DuckDB does not have."""
    with duckdb.connect() as con:
        try:
            con.from_arrow(pa.schema([field]).empty_table())
        except duckdb.Error:
            raise SchemaError(
                f"Column {field.name!r} has type {field.type}, which cannot be carried unchanged.",
                "leave it out of source.keep, or cast it in the source.",
            ) from None


def _holds_span(kind: pa.DataType) -> bool:
    """Tell whether a type is a span of time or holds one: Parquet keeps its milliseconds only."""
    inside = [kind.field(number).type for number in range(kind.num_fields)]
    return pa.types.is_duration(kind) or pa.types.is_interval(kind) or any(map(_holds_span, inside))


def check_table(
    job: Job, task: Task, carried: pa.Schema, untyped: tuple[str, ...], ref: RunRef | None = None
) -> list[str]:
    """Let the warehouse refuse a table that this job cannot fill, before anything is scored.

    Args:
        ref: The run that will publish.

    Returns:
        Ids of the runs that have published the partition of `ref`.

    Raises:
        FencedError: In mode ``append``, another run has written the partition.
        SchemaError: The table exists with other types.
    """
    loose = pa.schema([pa.field(f.name, pa.null()) if f.name in untyped else f for f in carried])
    keys = pa.schema([loose.field(name) for name in job.source.key])
    with open_warehouse(job, writes=False) as warehouse:
        warehouse.plan(table_schema(job, loose, task.columns), rejects_schema(keys))
        if not ref:
            return []
        published = warehouse.read("ledger", {"partition": [ref.partition]}, ["table", "run_id"]).to_pylist()
    runs = [(row["table"], row["run_id"]) for row in published]
    if job.warehouse.mode == "append":
        is_published(runs, TableName.parse(job.warehouse.table), ref, "append")
    return [run_id for _, run_id in runs]
