"""What ClickHouse would let pass, or refuse too late: odd moments, missing privileges, tables of other kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from windrow.errors import JobError, SchemaError
from windrow.warehouses.clickhouse_session import driver
from windrow.warehouses.clickhouse_types import PARTITION, quoted
from windrow.warehouses.staged_catalog import Column

__all__ = ["demand", "odd_moments", "refuse_moments", "unfit"]

_SYNTAX_ERROR = 62
_FIRST, _LAST = "1900-01-01", "2299-12-31"


def odd_moments(stage: str, columns: Sequence[Column]) -> str:
    """Return the query that counts, by column of a stage, days and moments that ClickHouse cannot show.

    >>> odd_moments("s", [Column("C0", "Nullable(String)")])
    ''
    """
    counts = [
        f"countIf(toDate32({quoted(column.name)}) <= '{_FIRST}' OR toDate32({quoted(column.name)}) >= '{_LAST}')"
        if column.type == "wall time" or "DateTime64" in column.type or "Date32" in column.type
        else "0"
        for column in columns
    ]
    return f"SELECT {', '.join(counts)} FROM {stage}" if any(count != "0" for count in counts) else ""


def refuse_moments(schema: pa.Schema, counts: Sequence[int]) -> None:
    """Raise if there are any.

    Raises:
        SchemaError: There are; the column is named.
    """
    for told, count in zip(schema, counts, strict=True):
        if count:
            problem = f"Column {told.name!r} holds {count} moments that are not after {_FIRST} and before {_LAST}"
            fix = "correct them in the source, or cast the column to text there; nothing was changed."
            raise SchemaError(f"{problem}, as ClickHouse needs.", fix)


def unfit(engine: str, key: str, columns: Mapping[str, Column]) -> str:
    """Say what a table is whose partitions cannot be replaced; empty if they can.

    >>> unfit("MergeTree", "windrow_partition", {}), unfit("Memory", "", {})
    ('', 'a table of engine Memory, which has no partitions to replace')
    """
    if engine.endswith("View"):
        return "a view"
    if not engine.endswith("MergeTree"):
        return f"a table of engine {engine}, which has no partitions to replace"
    if PARTITION in columns and key.strip("`") != PARTITION:
        return f"a table that is not partitioned by {PARTITION} alone"
    return ""


def demand(client: Any, privileges: str, database: str) -> None:
    """Raise if a privilege is missing; a server that is too old to be asked is not.

    Raises:
        JobError: It is missing; the fix is the statement that grants it.
    """
    place = f"{quoted(database)}.*"
    try:
        granted = str(client.command(f"CHECK GRANT {privileges} ON {place}")).strip()
    except driver().driver.exceptions.Error as error:
        if error.code != _SYNTAX_ERROR:
            raise
        return
    if granted == "0":
        user = str(client.command("SELECT currentUser()"))
        fix = f"let an administrator run: GRANT {privileges} ON {place} TO {quoted(user)};"
        raise JobError(f"ClickHouse's user {user!r} lacks a privilege that publishing needs, on {place}.", fix)
