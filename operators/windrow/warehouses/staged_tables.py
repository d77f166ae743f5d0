"""What a warehouse with a stage has to bring, and the statements that move rows from the stage into its tables."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa

from windrow.errors import JobError
from windrow.receipt import Receipt
from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.patience import TEN_MINUTES_S, lock_wait
from windrow.warehouses.staged_catalog import Column, Dialect, Relation, is_nested
from windrow.warehouses.staged_ledger import Ledger
from windrow.warehouses.staged_rows import staged_names

__all__ = ["LostCommitError", "Stage", "StagedTables"]


class LostCommitError(Exception):
    """The connection broke at the commit, so that the ledger has to tell whether the run is published.

    Args:
        receipt: Of the run.
        error: What the driver said.
    """

    def __init__(self, receipt: Receipt, error: Exception) -> None:
        super().__init__(receipt, error)
        self.receipt, self.error = receipt, error


class Stage:
    """A table that holds what was uploaded, under plain names; `sql` is empty if nothing was.

    Args:
        sql: Its full name.
        schema: Of what was uploaded.
    """

    def __init__(self, sql: str, schema: pa.Schema) -> None:
        self.sql, self.schema = sql, schema
        self.columns = dict(zip(schema.names, staged_names(schema), strict=True))


class StagedTables(ABC):
    """The tables of a job in a warehouse in which rows arrive as Parquet files.

    Args:
        url: Of the warehouse.
        table: The job's table.
        writes: Whether anything will be written.
        lock_wait_s: How long to wait for others who write; ``$WINDROW_LOCK_WAIT_S`` or ten minutes unless given.
    """

    dialect: Dialect

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        self.url, self.table, self.writes = url, table, writes
        self.lock_wait_s = lock_wait(TEN_MINUTES_S, lock_wait_s)

    @abstractmethod
    def connect(self) -> None:
        """Connect, or raise what a person can act on."""

    @abstractmethod
    def close(self, is_sound: bool) -> None:
        """Let the connection go; the next step may have it if it is sound."""

    @abstractmethod
    def telling(self) -> AbstractContextManager[None]:
        """Return a context that turns what the driver raises into what a person can act on."""

    @abstractmethod
    def relations(self) -> dict[Part, Relation]:
        """Return what is there now under the names of the job's tables."""

    @abstractmethod
    def places(self) -> list[str]:
        """Return the statements that make the schema, if it is missing."""

    @abstractmethod
    def run(self, statement: str) -> None:
        """Run a statement that changes a table's shape."""

    @abstractmethod
    def query(self, query: str) -> pa.Table:
        """Return the rows of a query, as the driver reads them."""

    @abstractmethod
    def load(self, name: str, columns: list[Column], schema: pa.Schema, files: Iterator[Path]) -> str:
        """Make a stage of that name and load files into it, each removed when it is; return its full name."""

    @abstractmethod
    def sent_type(self, kind: pa.DataType) -> pa.DataType:
        """Return the type that Parquet files have for an Arrow type."""

    @abstractmethod
    def drop(self, stage: Stage) -> None:
        """Drop a stage; what cannot be dropped now the warehouse drops later."""

    @abstractmethod
    def write(self, new: Replacement, statements: list[str], ledger: Ledger) -> Receipt:
        """Run statements in one transaction under the partition's lock, with fence and ledger row, and commit.

        Raises:
            FencedError: Another run was first.
            LostCommitError: Nobody knows whether it was committed.
        """

    @abstractmethod
    def changed(self, statements: list[str]) -> list[int]:
        """Run statements in one transaction; return how many rows each changed."""

    def ledger(self, relations: Mapping[Part, Relation]) -> Ledger:
        """Return how the ledger is asked and written.

        Raises:
            JobError: A table is not to be seen, although it was made or is there.
        """
        for relation in relations.values():
            if not relation.columns:
                problem = f"Table {relation.sql} cannot be seen by this user of {self.dialect.product}."
                raise JobError(problem, "grant SELECT, INSERT and DELETE on it, or drop what has its name.")
        return Ledger(self.dialect, relations["ledger"])

    def runs(self, ledger: Ledger, partition: str) -> list[tuple[str, str]]:
        """Return ``(table, run_id)`` of the ledger's rows of a partition."""
        return [(row[0], row[1]) for row in self.rows(ledger.runs(partition))]

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query as tuples."""
        found = self.query(query)
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def _statements(
        self, new: Replacement, stages: Mapping[str, Stage], relations: Mapping[Part, Relation]
    ) -> list[str]:
        """Return what moves the stages into the tables."""
        table, rejects = relations["table"], relations["rejects"]
        partition = self.dialect.literal(new.receipt.partition)
        statements = []
        for relation, goes in ((table, new.mode == "replace"), (rejects, new.clears_rejects)):
            if goes:
                key = self.dialect.quoted(relation.columns["windrow_partition"].name)
                statements.append(f"DELETE FROM {relation.sql} WHERE {key} = {partition}")
        if new.mode == "upsert":
            loaded = [stage for stage in stages.values() if stage.sql]
            statements += [
                self._deleted(relation, stage, new.keys, False) for relation in (table, rejects) for stage in loaded
            ]
        moved = (("table", table, new.table), ("rejects", rejects, new.rejects))
        return statements + [self._inserted(held, stages[name], told) for name, held, told in moved if stages[name].sql]

    def _inserted(self, relation: Relation, stage: Stage, schema: pa.Schema) -> str:
        """Return the statement that moves a stage into a table, each column cast to the table's type."""
        names, values = [], []
        for told in schema:
            column = relation.columns[told.name.lower()]
            if not pa.types.is_null(told.type):
                names.append(self.dialect.quoted(column.name))
                values.append(self.dialect.cast(stage.columns[told.name], column.type, self._is_json(told.type)))
        return f"INSERT INTO {relation.sql} ({', '.join(names)}) SELECT {', '.join(values)} FROM {stage.sql}"

    def _is_json(self, kind: pa.DataType) -> bool:
        return is_nested(kind) and pa.types.is_string(self.sent_type(kind))

    def _deleted(self, relation: Relation, stage: Stage, keys: Sequence[str], is_text: bool) -> str:
        pairs = [(self.dialect.quoted(relation.columns[name.lower()].name), stage.columns[name]) for name in keys]
        return self.dialect.deleted(relation.sql, stage.sql, pairs, is_text)
