"""The seam of warehouses: look at the schema, replace a partition in one transaction, read the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, Self

import pyarrow as pa

from windrow.errors import JobError
from windrow.receipt import Receipt
from windrow.warehouses.names import split_name

__all__ = ["LEDGER", "REJECTS", "Replacement", "TableName", "Warehouse"]

LEDGER = "windrow_runs"
REJECTS = "__rejects"


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

    def matches(self, other: TableName) -> bool:
        """Tell whether both name the same table of one warehouse; case does not count."""
        mine, theirs = ((name.schema or "", name.name) for name in (self, other))
        return tuple(map(str.lower, mine)) == tuple(map(str.lower, theirs))


@dataclass(frozen=True, slots=True)
class Replacement:
    """A partition's new content.

    Attributes:
        table: Schema of the job's table; null type where the source told none.
        rejects: Schema of the table of rejects.
        rows: Starts the stream of rows, with the columns of `table`.
        reject_rows: Starts the stream of rejects.
        receipt: Becomes the ledger row; partition and run id say what is replaced by whom.
        began: Monotonic second at which publish began, to complete the receipt.
    """

    table: pa.Schema
    rejects: pa.Schema
    rows: Callable[[], pa.RecordBatchReader]
    reject_rows: Callable[[], pa.RecordBatchReader]
    receipt: Receipt
    began: float


class Warehouse(Protocol):
    """One target table, its table of rejects and its ledger; a context manager that owns the connection."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed.

        Raises:
            SchemaError: A column has a type that cannot be widened to the one asked for.
        """
        ...

    def replace(self, new: Replacement) -> Receipt:
        """Replace the partition, its rejects and its ledger row in one transaction; return the receipt as written.

        Raises:
            FencedError: The ledger holds a later run of the partition.
            WarehouseError: The commit is not in the ledger afterwards, or a statement failed.
        """
        ...

    def read(self, query: str, values: list[object]) -> pa.Table:
        """Run a reading query; ``{table}``, ``{rejects}`` and ``{ledger}`` stand for the quoted names."""
        ...
