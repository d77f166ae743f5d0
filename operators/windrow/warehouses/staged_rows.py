"""Record batches as Parquet files for a stage: a few at a time, in types that every warehouse reads the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pyarrow as pa
from pyarrow import compute, parquet, types

from windrow.duck import first_line
from windrow.errors import SchemaError
from windrow.overlap import in_tables, read_ahead
from windrow.warehouses.nested import to_json
from windrow.warehouses.widening import COMMON, plain

__all__ = ["Sent", "parquet_files", "sent_type", "staged_names"]

FILE_BYTES = 64 << 20
"""Of Arrow in one file: what is on the disk and under way at a time."""
_ROWS = 65_536
_BYTES = 16 << 20
_SENT = {**COMMON, pa.int8(): pa.int32(), pa.int16(): pa.int32(), pa.uint8(): pa.int32()}

Sent = Callable[[pa.DataType], pa.DataType]
"""Which type is written for an Arrow type; a text for a nested one is its JSON."""


def sent_type(kind: pa.DataType, unit: str = "ns") -> pa.DataType:
    """Return the type that is written for an Arrow type.

    Args:
        kind: Of the column that arrives.
        unit: The finest that moments and times of day are kept in.

    >>> sent_type(pa.uint8()), sent_type(pa.list_(pa.int8())), sent_type(pa.timestamp("s", tz="Asia/Tokyo"))
    (DataType(int32), DataType(string), TimestampType(timestamp[us, tz=UTC]))
    """
    kind = plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
    if types.is_nested(kind):
        return pa.string()
    if types.is_timestamp(kind):
        return pa.timestamp("ns" if kind.unit == unit == "ns" else "us", tz="UTC" if kind.tz else None)
    if types.is_time(kind):
        return pa.time64("ns" if kind == pa.time64("ns") and unit == "ns" else "us")
    return pa.binary() if types.is_fixed_size_binary(kind) else _SENT.get(kind, kind)


def staged_names(schema: pa.Schema) -> list[str]:
    """Return what columns are called in the stage: names that need no quotes anywhere."""
    return [f"C{number}" for number in range(len(schema))]


def parquet_files(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, folder: Path, sent: Sent, product: str
) -> Iterator[Path]:
    """Write files one after another, each to be taken before the next is made; the caller removes them.

    Args:
        batches: The rows; a part of them is in memory at a time.
        schema: Theirs.
        folder: Where the files go.
        sent: Which types are written.
        product: The warehouse, for errors.

    Raises:
        SchemaError: A value cannot be written as it is; the column is named.
    """
    written = pa.schema(list(zip(staged_names(schema), [sent(f.type) for f in schema], strict=True)))
    with duckdb.connect() as con, closing(read_ahead(in_tables(batches, _ROWS, _BYTES), depth=1)) as tables:
        for number, group in enumerate(_groups(tables)):
            path = folder / f"{number:06d}.parquet"
            with parquet.ParquetWriter(path, written, compression="zstd", store_schema=False) as writer:
                for table in group:
                    columns = []
                    for column, told, kind in zip(table.columns, schema, written.types, strict=True):
                        try:
                            columns.append(_sent(column, kind, con))
                        except (pa.ArrowException, duckdb.Error) as error:
                            problem = f"Column {told.name!r} holds a value that {product} cannot take unchanged"
                            fix = "cast the column in the source, or leave it out of source.keep."
                            raise SchemaError(f"{problem}: {first_line(error)}.", fix) from None
                    writer.write_table(pa.Table.from_arrays(columns, schema=written))
            yield path


def _groups(tables: Iterator[pa.Table]) -> Iterator[Iterator[pa.Table]]:
    """Yield runs of tables of about `FILE_BYTES`; each must be read to its end before the next is asked for."""

    def group(first: pa.Table) -> Iterator[pa.Table]:
        size, table = 0, first
        while table is not None:
            yield table
            size += table.nbytes
            table = next(tables, None) if size < FILE_BYTES else None

    while (first := next(tables, None)) is not None:
        yield group(first)


def _sent(chunks: pa.ChunkedArray, kind: pa.DataType, con: duckdb.DuckDBPyConnection) -> pa.Array:
    """Return a column in the type that is written; nothing is rounded."""
    column = pa.concat_arrays(chunks.chunks) if chunks.num_chunks else pa.array([], chunks.type)
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_nested(column.type) and types.is_string(kind):
        return to_json(column, con)
    if types.is_list(kind):
        _refuse_null_lists(column)
    return column.cast(kind)


def _refuse_null_lists(column: pa.Array) -> None:
    """Refuse what an array of BigQuery cannot tell from an empty one, or hold."""
    if column.null_count or compute.list_flatten(column).null_count:
        raise pa.ArrowInvalid("a list that is null, or has a null in it")
