"""Record batches as PostgreSQL's binary COPY takes them: each column in exactly the type that its table has.

The driver encodes by the Arrow type alone: a 64-bit integer sent to a column of doubles would be stored as other
bits. So nothing is sent before its type is the one that belongs to the column.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import duckdb
import pyarrow as pa
from pyarrow import compute, types

from windrow.duck import first_line
from windrow.errors import SchemaError, WarehouseError
from windrow.overlap import in_tables, read_ahead
from windrow.postgres import Session
from windrow.warehouses.base import Part
from windrow.warehouses.nested import to_json, without_nul
from windrow.warehouses.postgres_catalog import Catalog
from windrow.warehouses.postgres_types import arrow_type, widened

__all__ = ["columns_of", "copy_in"]

_ROWS = 65_536
_BYTES = 16 << 20
_FIRST_US = -210_866_803_200_000_000
"""First moment that PostgreSQL can tell, 4713 BC, in microseconds; the driver reports none before it well."""


def columns_of(catalog: Catalog, part: Part, schema: pa.Schema) -> dict[str, str]:
    """Return the types of a table's columns by name, in the order of a schema.

    Raises:
        WarehouseError: Somebody has changed the table since it was fitted to the schema.
    """
    held, found = catalog.relation(part).columns, {}
    for wanted in schema:
        column = held.get(wanted.name.lower())
        is_fine = column and (types.is_null(wanted.type) or widened(column.type, wanted.type) == column.type)
        if column is None or not is_fine:
            problem = f"Table {catalog.names[part]!r} was changed while it was being written: column {wanted.name!r}."
            raise WarehouseError(problem, "run it again; nothing is scored twice.")
        found[column.name] = column.type
    return found


def copy_in(
    session: Session, batches: Iterable[pa.RecordBatch], columns: Mapping[str, str], table: str, **where: Any
) -> None:
    """Copy rows into a table in the open transaction; an error of the stream is raised as it is.

    Args:
        session: Of the transaction.
        batches: The rows; a part of them is in memory at a time.
        columns: The table's types, by the name that the column has in it, in the order of `batches`.
        table: Its name.
        **where: The schema or the mode, as the driver's ``adbc_ingest`` takes them.
    """
    schema = pa.schema([(name, arrow_type(kind) or pa.null()) for name, kind in columns.items()])
    failed: list[BaseException] = []

    def encoded() -> Generator[pa.RecordBatch, None, None]:
        try:
            yield from read_ahead(_encoded(batches, schema), depth=1)
        except GeneratorExit:
            raise
        except BaseException as error:
            failed.append(error)
            raise

    stream = encoded()
    try:
        with session.con.cursor() as cursor:
            cursor.adbc_ingest(table, pa.RecordBatchReader.from_batches(schema, stream), **where)
    except Exception:
        if failed:
            raise failed[0] from None
        raise
    finally:
        stream.close()


def _encoded(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Give each column the type that is sent."""
    is_nested = any(isinstance(kind, pa.JsonType) for kind in schema.types)
    with duckdb.connect() if is_nested else nullcontext() as con:
        for table in in_tables(batches, _ROWS, _BYTES):
            for batch in table.to_batches():
                arrays = [_named(*each, con) for each in zip(batch.columns, schema, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _named(column: pa.Array, field: pa.Field, con: duckdb.DuckDBPyConnection | None) -> pa.Array:
    """Return a column as `_as` does, and name it where that cannot be done."""
    try:
        return _as(column, field.type, con)
    except (pa.ArrowException, duckdb.Error) as error:
        raise SchemaError(
            f"Column {field.name!r} holds a value that PostgreSQL cannot take unchanged: {first_line(error)}.",
            "cast the column in the source, or leave it out of source.keep.",
        ) from None


def _as(column: pa.Array, kind: pa.DataType, con: duckdb.DuckDBPyConnection | None) -> pa.Array:
    """Return a column in the type that is sent; nothing is rounded."""
    if column.null_count == len(column):
        return pa.nulls(len(column), kind)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if isinstance(kind, pa.JsonType):
        texts = to_json(column, con) if con and types.is_nested(column.type) else column.cast(pa.string())
        return pa.ExtensionArray.from_storage(kind, without_nul(texts))
    if types.is_list(kind) and types.is_string(kind.value_type):
        return _relisted(column.cast(kind))
    sent = column.cast(kind)
    if types.is_timestamp(kind) and (compute.min(sent.cast(pa.int64())).as_py() or 0) < _FIRST_US:
        raise pa.ArrowInvalid("a moment before 4713 BC")
    return without_nul(sent) if types.is_string(kind) else sent


def _relisted(lists: pa.ListArray) -> pa.ListArray:
    """Return lists of texts without NUL."""
    values = lists.flatten()
    fine = without_nul(values)
    if fine is values:
        return lists
    lengths = compute.fill_null(compute.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), compute.cumulative_sum(lengths)])
    return pa.ListArray.from_arrays(offsets, fine, mask=lists.is_null())
