"""Rows of lakes: fitted to a table's columns, written as Parquet files, matched by key."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import duckdb
import pyarrow as pa
from pyarrow import compute, parquet, types

from windrow.duck import Config, quoted
from windrow.errors import SchemaError
from windrow.overlap import as_done, in_tables, read_ahead

__all__ = ["Keys", "Written", "aligned", "matching", "scanned", "write_files"]

_FIRST_DAY, _AFTER = -719_162, 2_932_897
"""0001-01-01 and 10000-01-01, in days since 1970."""
_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_ROWS = 131_072
_BYTES = 32 << 20
_FILE_BYTES = 256 << 20
"""Of rows in memory, in one file: a file may be read whole."""
_WRITERS = 2
"""Files written at once: encoding takes longer than making the rows."""


@dataclass(frozen=True, slots=True)
class Written:
    """A Parquet file as it was written."""

    path: str
    size_bytes: int
    metadata: parquet.FileMetaData


def aligned(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Fit record batches to a schema: columns by name whatever their case, cast without loss, null where missing.

    Raises:
        SchemaError: A value does not fit its column.
    """
    for batch in batches:
        at = {name.lower(): place for place, name in enumerate(batch.schema.names)}
        columns = []
        for field in schema:
            place = at.get(field.name.lower())
            column = pa.nulls(batch.num_rows, field.type) if place is None else batch.column(place)
            try:
                columns.append(column if column.type == field.type else column.cast(field.type))
            except pa.ArrowException as error:
                words = str(error).split("\n")[0].rstrip(".")
                fix = "correct the value in the source, or cast the column there."
                raise SchemaError(
                    f"A value of column {field.name!r} does not fit {field.type}: {words}.", fix
                ) from None
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def in_our_years(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield record batches as they come, if their days and moments lie in the years 1 to 9999.

    Raises:
        SchemaError: One lies elsewhere.
    """
    for batch in batches:
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if (types.is_timestamp(field.type) or types.is_date(field.type)) and not _is_ours(column):
                raise SchemaError(
                    f"A value of column {field.name!r} lies outside the years 1 to 9999, which lakes tell.",
                    "correct the value in the source, or cast the column to a number or a text there.",
                )
        yield batch


def _is_ours(column: pa.Array) -> bool:
    whole = column.cast(pa.int32() if types.is_date32(column.type) else pa.int64())
    found = compute.min_max(whole).as_py()
    day = 1 if types.is_date32(column.type) else _DAY[getattr(column.type, "unit", "ms")]
    return found["min"] is None or (_FIRST_DAY * day <= found["min"] and found["max"] < _AFTER * day)


@contextmanager
def scanned(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatchReader]:
    """Give record batches of one schema to DuckDB as a stream; their own errors come out, not DuckDB's word of them."""
    errors: list[BaseException] = []

    def guarded() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except BaseException as error:
            errors.append(error)
            raise

    try:
        yield pa.RecordBatchReader.from_batches(schema, guarded())
    except Exception:
        if errors:
            raise errors[0] from None
        raise


def write_files(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    create: Callable[[], tuple[str, Any]],
    remove: Callable[[str], None],
    compression: str,
) -> list[Written]:
    """Write record batches as Parquet files of bounded size; none remains after an error.

    Args:
        create: Opens a new file; returns its path and stream.
        remove: Deletes a file that was opened.
    """
    made: list[Written] = []
    sinks: list[_Sink] = []
    free: list[_Sink] = []

    def write(table: pa.Table) -> None:
        try:
            sink = free.pop()
        except IndexError:
            sink = _Sink(*create(), schema, compression)
            sinks.append(sink)
        if sink.write(table) < _FILE_BYTES:
            free.append(sink)
        else:
            made.append(sink.close())

    try:
        for _ in as_done(read_ahead(in_tables(batches, _ROWS, _BYTES), depth=1), write, _WRITERS):
            pass
        return [*made, *(sink.close() for sink in free)]
    except BaseException:
        for sink in sinks:
            with suppress(Exception):
                sink.close()
            with suppress(Exception):
                remove(sink.path)
        raise


class _Sink:
    """A Parquet file while it is written."""

    def __init__(self, path: str, stream: Any, schema: pa.Schema, compression: str) -> None:
        self.path, self._stream, self._held_bytes = path, stream, 0
        self._writer = parquet.ParquetWriter(stream, schema, compression=compression, store_decimal_as_integer=True)

    def write(self, table: pa.Table) -> int:
        """Write a row group; return how many bytes of rows, as they are in memory, the file holds."""
        self._writer.write_table(table, row_group_size=_ROWS)
        self._held_bytes += table.nbytes
        return self._held_bytes

    def close(self) -> Written:
        self._writer.close()
        size_bytes = self._stream.tell()
        self._stream.close()
        return Written(self.path, size_bytes, self._writer.writer.metadata)


def matching(
    batches: Iterable[pa.RecordBatch], schema: pa.Schema, equals: dict[str, list[str]], columns: Sequence[str]
) -> pa.Table:
    """Return the rows whose named columns, cast to text, have one of the texts given."""
    where = " AND ".join(f"list_contains(?, CAST({quoted(name)} AS VARCHAR))" for name in equals)
    names = ", ".join(quoted(name) for name in columns)
    query = f"SELECT {names} FROM arriving WHERE {where or 'true'}"
    with scanned(batches, schema) as arriving, duckdb.connect(config={"threads": 1}) as con:  # noqa: F841
        con.execute("SET TimeZone = 'UTC'")
        return con.execute(query, list(equals.values())).to_arrow_table()


class Keys:
    """Keys whose rows are to go, held by DuckDB, which spills what memory does not hold; a context manager.

    Args:
        schema: Key columns with the table's types; all of type string where `as_text`.
        as_text: Whether a row's key is cast to text before it is compared.
    """

    def __init__(self, schema: pa.Schema, as_text: bool = False) -> None:
        self.schema = schema
        text = [f"CAST(t.{quoted(name)} AS VARCHAR) = k.{quoted(name)}" for name in schema.names]
        same = [f"t.{quoted(name)} IS NOT DISTINCT FROM k.{quoted(name)}" for name in schema.names]
        self._same = " AND ".join(text if as_text else same)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="windrow-keys-"))
        limits: Config = {"memory_limit": "256MB", "threads": 2, "temp_directory": folder}
        self._con = self._stack.enter_context(duckdb.connect(config=limits))
        self._con.execute("SET TimeZone = 'UTC'")
        arriving = self.schema.empty_table()  # noqa: F841 (DuckDB finds it by name)
        self._con.execute("CREATE TABLE windrow_keys AS FROM arriving")
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, reader: Iterable[pa.RecordBatch]) -> None:
        """Add the keys of a stream."""
        for arriving in in_tables(reader, _ROWS, _BYTES):  # noqa: B007 (DuckDB finds it by name)
            self._con.execute("INSERT INTO windrow_keys SELECT * FROM arriving")

    def found(self, numbered: Iterable[tuple[int, pa.RecordBatch]]) -> dict[int, int]:
        """Return how many rows of each number have one of the keys; numbers without any are left out.

        Args:
            numbered: Key columns of rows, each record batch with a number, such as that of its file.
        """
        schema = self.schema.append(pa.field("windrow_file", pa.int64()))
        query = (
            f"SELECT windrow_file, count(*) FROM arriving AS t SEMI JOIN windrow_keys AS k ON {self._same} GROUP BY 1"
        )
        with scanned(_numbered(numbered, schema), schema) as arriving:  # noqa: F841 (DuckDB finds it by name)
            return dict(self._con.execute(query).fetchall())

    def without(self, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows that have none of the keys; to be read before anything else is asked."""
        query = f"SELECT t.* FROM arriving AS t ANTI JOIN windrow_keys AS k ON {self._same}"
        with scanned(batches, schema) as arriving:  # noqa: F841 (DuckDB finds it by name)
            yield from self._con.execute(query).to_arrow_reader(_ROWS // 8)


def _numbered(numbered: Iterable[tuple[int, pa.RecordBatch]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for number, batch in numbered:
        places = pa.repeat(pa.scalar(number, pa.int64()), batch.num_rows)
        yield pa.RecordBatch.from_arrays([*batch.columns, places], schema=schema)
