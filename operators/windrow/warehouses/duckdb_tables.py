"""A partition in one transaction over a DuckDB connection, wherever its database lies: a file, a lake, a service."""

from __future__ import annotations

import logging
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Self

import duckdb
import pyarrow as pa

from windrow.duck import execute, first_line, literal, quoted
from windrow.errors import WarehouseError, WindrowError
from windrow.faults import reach
from windrow.overlap import flowing
from windrow.receipt import LEDGER_SCHEMA, Receipt
from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.commit import completed, is_published
from windrow.warehouses.duckdb_catalog import Catalog
from windrow.warehouses.patience import MINUTE_S, lock_wait

__all__ = ["DuckDBTables"]

log = logging.getLogger("windrow")

_ROWS = 65_536
_BYTES = 32 << 20
_CONFLICTS = ("transaction conflict", "write-write conflict", "conflict on", "database is locked")


class DuckDBTables(ABC):
    """One table in a database that DuckDB reads and writes.

    Args:
        url: Of the database.
        table: The job's table.
        writes: Whether anything will be written; a reader leaves the database as it is, even missing.
        lock_wait_s: How long to wait for others who write; ``$WINDROW_LOCK_WAIT_S`` or a minute unless given.
    """

    shared = True
    """Whether another connection may write at the same time, so that publishers must meet in a conflict."""

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        self.url, self.table, self.writes = url, table, writes
        self.lock_wait_s = lock_wait(MINUTE_S, lock_wait_s)

    @abstractmethod
    def connect(self) -> duckdb.DuckDBPyConnection:
        """Return a connection whose current database is the one of the url."""

    @abstractmethod
    def told(self, error: duckdb.Error) -> WindrowError:
        """Say what a DuckDB error means, and what to do."""

    def catalog_of(self, con: duckdb.DuckDBPyConnection) -> Catalog:
        """Return what is known of the tables."""
        return Catalog(con, self.table)

    def settle(self) -> None:  # noqa: B027 (most databases do it themselves)
        """Merge what was committed into the file."""

    def erase(self) -> None:  # noqa: B027 (most databases keep no history)
        """Remove what is left of deleted rows."""

    def __enter__(self) -> Self:
        self.con = self.connect()
        self.catalog = self.catalog_of(self.con)
        self.sql = self.catalog.sql
        return self

    def __exit__(self, *error: object) -> None:
        self.con.close()

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed."""
        return self.catalog.plan(table, rejects)

    def replace(self, new: Replacement) -> Receipt:
        """Write the partition, its rejects and its ledger row in one transaction; after a conflict, all of it anew."""
        with self._telling():
            receipt = self._until_no_conflict(new)
            self._check_ledger(receipt)
        try:
            self.settle()
        except duckdb.Error as error:
            log.warning("The run is published, but its log cannot be merged into the file yet: %s.", first_line(error))
        return receipt

    def read(self, part: Part, equals: Mapping[str, Sequence[str]], columns: Sequence[str] = ()) -> pa.Table:
        """Return the rows whose named columns, cast to text, have one of the texts given."""
        held = self.catalog.columns(part)
        if not held or any(name.lower() not in held for name in equals):
            return pa.table({})
        names = ", ".join(quoted(name) for name in columns if name.lower() in held) or "*"
        where = " AND ".join(f"list_contains(?, CAST({quoted(name)} AS VARCHAR))" for name in equals)
        query = f"SELECT {names} FROM {self.sql[part]} WHERE {where or 'true'}"
        with self._telling():
            return self.con.execute(query, [list(texts) for texts in equals.values()]).to_arrow_table()

    def forget(self, keys: pa.Table) -> dict[str, int]:
        """Delete rows and rejects of the keys from every partition, and what is left of them in files."""
        gone: dict[str, int] = {}
        same = " AND ".join(f"CAST(t.{quoted(name)} AS VARCHAR) = k.{quoted(name)}" for name in keys.column_names)
        self.con.register("windrow_keys", keys)
        try:
            with self._telling():
                with self.transaction():
                    for part in ("table", "rejects"):
                        if self.catalog.columns(part):
                            query = f"DELETE FROM {self.sql[part]} AS t USING windrow_keys AS k WHERE {same}"
                            gone[part] = self.con.execute(query).fetchall()[0][0]
                self.erase()
                self.settle()
        finally:
            self.con.unregister("windrow_keys")
        return gone

    def _until_no_conflict(self, new: Replacement) -> Receipt:
        """Publish, and begin again as long as another publisher was first and there is time to wait."""
        deadline, pause_s = time.monotonic() + self.lock_wait_s, 0.1
        while True:
            try:
                self._evolve(new)
                with self.transaction():
                    return self._replace(new)
            except duckdb.Error as error:
                if not any(words in str(error).lower() for words in _CONFLICTS) or time.monotonic() > deadline:
                    raise
                log.info("Another run was first, so publishing begins again: %s.", first_line(error))
            time.sleep(pause_s * (0.5 + random.random()))
            pause_s = min(5.0, pause_s * 1.6)

    def _replace(self, new: Replacement) -> Receipt:
        """Delete and insert inside the open transaction."""
        receipt = new.receipt
        if self.shared:
            self._claim(receipt)
        query = f'SELECT "table", run_id FROM {self.sql["ledger"]} WHERE partition = ?'
        runs = self.con.execute(query, [receipt.partition]).fetchall()
        if is_published(runs, self.table, receipt, new.mode):
            return receipt
        self._clear(new)
        self._insert("table", new.table, new.rows())
        self._insert("rejects", new.rejects, new.reject_rows())
        receipt, row = completed(new)
        self.con.execute(f"DELETE FROM {self.sql['ledger']} WHERE run_id = ?", [receipt.run_id])
        self._insert("ledger", LEDGER_SCHEMA, row.to_reader())
        reach("publish.ledger")
        return receipt

    def _claim(self, receipt: Receipt) -> None:
        """Change the ledger's comment, so that of two transactions at once only one can commit.

        Without it both might: inserts conflict with nothing, and a partition's first rows would be there twice.
        """
        told = f"Written by Windrow: one row a published run; the last is {receipt.run_id}."
        self.con.execute(f"COMMENT ON TABLE {self.sql['ledger']} IS {literal(told)}")

    def _clear(self, new: Replacement) -> None:
        """Delete what this run takes the place of."""
        partition = [new.receipt.partition]
        if new.mode == "replace":
            self.con.execute(f"DELETE FROM {self.sql['table']} WHERE windrow_partition = ?", partition)
        if new.clears_rejects:
            self.con.execute(f"DELETE FROM {self.sql['rejects']} WHERE windrow_partition = ?", partition)
        if new.mode == "upsert":
            self._clear_keys(new)

    def _clear_keys(self, new: Replacement) -> None:
        """Delete the rows and rejects of the keys that arrive, whichever partition they are in."""
        names = ", ".join(quoted(name) for name in new.keys)
        self.con.execute(f"CREATE TEMP TABLE windrow_keys AS SELECT {names} FROM {self.sql['table']} LIMIT 0")
        for reader in new.key_streams():
            with flowing(reader, _ROWS, _BYTES) as arriving:
                execute(self.con, "INSERT INTO windrow_keys SELECT * FROM arriving", arriving)
        same = " AND ".join(f"t.{quoted(name)} IS NOT DISTINCT FROM k.{quoted(name)}" for name in new.keys)
        for part in ("table", "rejects"):
            execute(self.con, f"DELETE FROM {self.sql[part]} AS t USING windrow_keys AS k WHERE {same}")
        self.con.execute("DROP TABLE windrow_keys")

    def _evolve(self, new: Replacement) -> None:
        """Create the schema and the tables, add and widen columns, in a transaction of its own."""
        with self.transaction():
            self.con.execute(f"CREATE SCHEMA IF NOT EXISTS {self.catalog.schema_sql}")
            for statement in self.plan(new.table, new.rejects):
                self.con.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end, or roll back what was done and raise."""
        self.con.execute("BEGIN TRANSACTION")
        try:
            yield
            self.con.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                self.con.execute("ROLLBACK")
            raise

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what DuckDB raises into what a person can act on."""
        try:
            yield
        except duckdb.Error as error:
            raise self.told(error) from None  # whose message may hold a password

    def _insert(self, part: Part, schema: pa.Schema, reader: pa.RecordBatchReader) -> None:
        """Insert a stream by column names, each cast to the table's type."""
        types = self.catalog.columns(part)
        names = ", ".join(quoted(f.name) for f in schema)
        values = ", ".join(f"CAST({quoted(f.name)} AS {types[f.name.lower()]})" for f in schema)
        with flowing(reader, _ROWS, _BYTES) as arriving:
            execute(self.con, f"INSERT INTO {self.sql[part]} ({names}) SELECT {values} FROM arriving", arriving)

    def _check_ledger(self, receipt: Receipt) -> None:
        """Read the commit back; a commit that is not there is an error."""
        found = self.con.execute(
            f"SELECT count(*) FROM {self.sql['ledger']} WHERE run_id = ?", [receipt.run_id]
        ).fetchall()
        if found[0][0] != 1:
            raise WarehouseError(
                f"Run {receipt.run_id} was committed, but is not in {self.sql['ledger']}.", "run the job again."
            )
