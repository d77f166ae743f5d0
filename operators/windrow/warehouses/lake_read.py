"""Reading a table of a lake: its newest version, rows of its files, rows that have asked values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from windrow.errors import WarehouseError
from windrow.warehouses.lake_rows import aligned, matching
from windrow.warehouses.lake_table import Head, LakeFile, LakeTable

__all__ = ["head_of", "read", "rows_of"]


def head_of(table: LakeTable) -> Head:
    """Return the newest version.

    Raises:
        WarehouseError: There is no table any more.
    """
    head = table.head()
    if head is None:
        raise WarehouseError(f"Table {table.name!r} has vanished.", "run the job again.")
    return head


def rows_of(table: LakeTable, head: Head, files: Iterable[LakeFile], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Read columns of files as record batches of one schema."""
    for file in files:
        yield from aligned(table.rows(head, file, schema.names), schema)


def read(table: LakeTable, equals: Mapping[str, Sequence[str]], columns: Sequence[str]) -> pa.Table:
    """Return the rows whose named columns, cast to text, have one of the texts given; none if there is no table.

    Args:
        columns: Which to return; those that the table lacks are left out, and all are returned where none is left.
    """
    head = table.head()
    if head is None:
        return pa.table({})
    names = {name.lower(): name for name in head.schema.names}
    if any(name.lower() not in names for name in equals):
        return pa.table({})
    asked = {names[name.lower()]: list(texts) for name, texts in equals.items()}
    shown = [names[name.lower()] for name in columns if name.lower() in names] or head.schema.names
    needed = pa.schema([f for f in head.schema if f.name in asked or f.name in shown])
    files = table.files(head, asked)
    return matching(rows_of(table, head, files, needed), needed, asked, shown)
