"""The statements that ask and write a ledger whose warehouse is loaded through a stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from windrow.receipt import Receipt
from windrow.warehouses.nested import to_json
from windrow.warehouses.staged_catalog import Dialect, Relation, is_nested

__all__ = ["Ledger"]


@dataclass(frozen=True, slots=True)
class Ledger:
    """The table ``windrow_runs`` as it is there.

    Attributes:
        dialect: Of the warehouse.
        relation: The table.
    """

    dialect: Dialect
    relation: Relation

    @property
    def sql(self) -> str:
        """The table's full name."""
        return self.relation.sql

    def column(self, name: str) -> str:
        """Return a column's name, quoted."""
        return self.dialect.quoted(self.relation.columns[name].name)

    def runs(self, partition: str) -> str:
        """Return the query for ``(table, run_id)`` of a partition."""
        where = f"{self.column('partition')} = {self.dialect.literal(partition)}"
        return f"SELECT {self.column('table')}, {self.column('run_id')} FROM {self.sql} WHERE {where}"

    def count(self, receipt: Receipt, is_exact: bool) -> str:
        """Return the query that counts the rows of a run; if exact, of this very attempt."""
        where = f"{self.column('run_id')} = {self.dialect.literal(receipt.run_id)}"
        if is_exact:
            moment = self.dialect.literal(receipt.finished_at.isoformat(sep=" "))
            finished = self.dialect.cast(moment, self.relation.columns["finished_at"].type)
            where += f" AND {self.column('finished_at')} = {finished}"
        return f"SELECT COUNT(*) FROM {self.sql} WHERE {where}"

    def claims(self, mark: str) -> list[str]:
        """Return the statements that change a row of the ledger, so that publishers wait for each other or conflict.

        Args:
            mark: Run id of the row, which has to go again in the same transaction.
        """
        run_id, partition = self.column("run_id"), self.column("partition")
        value = self.dialect.literal(mark)
        return [
            f"INSERT INTO {self.sql} ({run_id}, {partition}) SELECT {value}, ''",
            f"UPDATE {self.sql} SET {partition} = '-' WHERE {run_id} = {value}",
        ]

    def written(self, row: pa.Table, gone: Sequence[str]) -> list[str]:
        """Return the statements that write a row in place of earlier ones.

        Args:
            row: One row, with the schema of a receipt.
            gone: Run ids whose rows go.
        """
        names, values = [], []
        with duckdb.connect() as con:
            for told in row.schema:
                array = row[told.name].combine_chunks()
                if array.null_count:
                    continue
                nested = is_nested(told.type)
                value = to_json(array, con)[0].as_py() if nested else _as_text(array[0].as_py())
                kind = self.relation.columns[told.name.lower()].type
                names.append(self.column(told.name))
                values.append(self.dialect.cast(self.dialect.literal(value), kind, nested))
        old = ", ".join(map(self.dialect.literal, gone))
        return [
            f"DELETE FROM {self.sql} WHERE {self.column('run_id')} IN ({old})",
            f"INSERT INTO {self.sql} ({', '.join(names)}) SELECT {', '.join(values)}",
        ]


def _as_text(value: Any) -> str:
    """Write a value of the ledger so that it can be cast back.

    >>> _as_text(0.1), _as_text(7)
    ('0.1', '7')
    """
    return value if isinstance(value, str) else str(value) if hasattr(value, "tzinfo") else json.dumps(value)
