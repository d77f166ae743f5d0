"""The seam of warehouses: look at the schema, write a partition in one transaction, read rows back, forget some."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

import pyarrow as pa

from windrow.errors import JobError
from windrow.receipt import Receipt
from windrow.warehouses.names import split_name

__all__ = [
    "LEDGER",
    "PARTS",
    "REJECTS",
    "Mode",
    "Part",
    "Replacement",
    "TableName",
    "Warehouse",
    "comment_of",
    "selected",
]

LEDGER = "windrow_runs"
REJECTS = "__rejects"

Part = Literal["table", "rejects", "ledger"]
"""The job's table, its table of rejects, the ledger."""
PARTS: tuple[Part, ...] = ("table", "rejects", "ledger")
Mode = Literal["replace", "upsert", "append"]
"""How a partition is written.

``replace``: its earlier rows and rejects go. ``upsert``: earlier rows and rejects of the same keys go, in whichever
partition they are. ``append``: nothing goes, and a partition is written once.
"""


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's name in parts; a dot separates the schema, and double quotes take a name literally.

    >>> TableName.parse('analytics."odd.name"')
    TableName(schema='analytics', name='odd.name')
    """

    schema: str | None
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``table`` or ``schema.table``; each part may be quoted as in SQL.

        Raises:
            JobError: There are other than one or two parts, one is empty, or the name is one that Windrow uses.
        """
        parts = split_name(text)
        if parts[-1].lower() == LEDGER or parts[-1].lower().endswith(REJECTS):
            fix = f"choose another name than {LEDGER}, not ending in {REJECTS}."
            raise JobError(f"warehouse.table {text!r} is a name that Windrow itself uses.", fix)
        return cls(parts[0] if len(parts) == 2 else None, parts[-1])

    @property
    def rejects(self) -> TableName:
        """The table of rejects beside this one."""
        return TableName(self.schema, f"{self.name}{REJECTS}")

    @property
    def ledger(self) -> TableName:
        """The ledger in the same schema."""
        return TableName(self.schema, LEDGER)

    def of(self, part: Part) -> TableName:
        """Return the name of the table, its rejects or its ledger."""
        return {"table": self, "rejects": self.rejects, "ledger": self.ledger}[part]

    def matches(self, other: TableName) -> bool:
        """Tell whether both name the same table of one warehouse; case does not count."""
        mine, theirs = ((name.schema or "", name.name) for name in (self, other))
        return tuple(map(str.lower, mine)) == tuple(map(str.lower, theirs))


@dataclass(frozen=True, slots=True)
class Replacement:
    """A partition's new content.

    Attributes:
        table: Schema of the job's table; null type where the source told none. A field's metadata may hold a
            ``comment``, what the column means.
        rejects: Schema of the table of rejects.
        rows: Starts the stream of rows, with the columns of `table`; may be started more than once.
        reject_rows: Starts the stream of rejects; may be started more than once.
        receipt: Becomes the ledger row; partition and run id say what is replaced by whom.
        began: Monotonic second at which publish began, to complete the receipt.
        keys: Key columns, in `table` and `rejects`.
        mode: What of earlier runs goes.
        gone: Starts the stream of keys whose rows are to go because the source deleted them; for ``upsert`` alone.
        is_increment: Whether this is but a part of what the partition has: rejects of other keys stay as well.
    """

    table: pa.Schema
    rejects: pa.Schema
    rows: Callable[[], pa.RecordBatchReader]
    reject_rows: Callable[[], pa.RecordBatchReader]
    receipt: Receipt
    began: float
    keys: tuple[str, ...] = ()
    mode: Mode = "replace"
    gone: Callable[[], pa.RecordBatchReader] | None = None
    is_increment: bool = False

    @property
    def clears_rejects(self) -> bool:
        """Whether all rejects of the partition go."""
        return self.mode != "append" and not self.is_increment

    def key_streams(self) -> Iterator[pa.RecordBatchReader]:
        """Start one stream after another of the keys whose earlier rows go in an ``upsert``.

        A stream may end when the next one is started, as those of one DuckDB connection do.
        """
        for start in (self.rows, self.reject_rows, *([self.gone] if self.gone else [])):
            yield selected(start(), self.keys)


def comment_of(metadata: Mapping[bytes, bytes] | None) -> str:
    """Return what a field or schema means, from its Arrow metadata; empty if nobody said."""
    return (metadata or {}).get(b"comment", b"").decode()


def selected(reader: pa.RecordBatchReader, names: Sequence[str]) -> pa.RecordBatchReader:
    """Return the stream with the named columns alone."""
    schema = pa.schema([reader.schema.field(name) for name in names])
    return pa.RecordBatchReader.from_batches(schema, (batch.select(list(names)) for batch in reader))


class Warehouse(Protocol):
    """One target table, its table of rejects and its ledger; a context manager that owns the connection.

    A writer makes what is missing (schema, tables); a reader (`writes` false) changes nothing, and sees tables that
    are not there as empty.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed.

        Raises:
            SchemaError: A column has a type that cannot be widened to the one asked for, or that the warehouse
                cannot hold unchanged.
        """
        ...

    def replace(self, new: Replacement) -> Receipt:
        """Write the partition, its rejects and its ledger row in one transaction; return the receipt as written.

        A run that is in the ledger already is not written again by ``append``; the other modes write it anew.

        Raises:
            FencedError: The ledger holds a later run of the partition; or, in mode ``append``, another run.
            WarehouseError: The commit is not in the ledger afterwards, or a statement failed.
        """
        ...

    def read(self, part: Part, equals: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> pa.Table:
        """Return the rows of a table whose named columns, each cast to text, have one of the texts given.

        Args:
            columns: Those to return; all unless given. One that the table lacks is left out.
        """
        ...

    def forget(self, keys: pa.Table) -> dict[str, int]:
        """Delete rows and rejects of the keys from every partition, in one transaction, history included.

        Args:
            keys: One column for each key column, all of type string: keys cast to text, as in `read`.

        Returns:
            How many rows went, by part.
        """
        ...
