"""Snowflake: rows go up as Parquet files into a temporary table; one transaction moves them into place.

Statements that make or change tables commit what is open, so all of them come first. Publishers meet in the ledger:
each changes a row of its own there, for which Snowflake locks the table until the transaction ends.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from windrow.faults import reach
from windrow.pooling import answers, let_go, pooled
from windrow.receipt import Receipt
from windrow.warehouses.base import PARTS, Part, Replacement, TableName
from windrow.warehouses.commit import completed, is_published
from windrow.warehouses.snowflake_session import Address, connect, driver, is_lost, told
from windrow.warehouses.snowflake_types import SnowflakeDialect, catalog_type
from windrow.warehouses.staged import Stage, StagedWarehouse
from windrow.warehouses.staged_catalog import Column, Relation, names_of
from windrow.warehouses.staged_commit import committed, transaction
from windrow.warehouses.staged_ledger import Ledger
from windrow.warehouses.staged_rows import sent_type

__all__ = ["SnowflakeWarehouse"]

log = logging.getLogger("windrow")

_FORMAT = "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE)"
_KINDS = {"VIEW": "a view", "MATERIALIZED VIEW": "a materialized view", "EXTERNAL TABLE": "an external table"}


class SnowflakeWarehouse(StagedWarehouse):
    """One table in a Snowflake database.

    Args:
        url: ``snowflake://user:password@account/database/schema?warehouse=name&role=name``.
        table: The job's table.
        writes: Whether anything will be written.
        lock_wait_s: How long to wait for another run; ``$WINDROW_LOCK_WAIT_S`` or ten minutes unless given.
    """

    dialect = SnowflakeDialect()

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        self.address = Address.of(url)
        self.database = self.dialect.spelled(self.address.database)
        self.schema = table.schema or self.address.schema
        self._schema = ""

    def connect(self) -> None:
        """Open a session."""
        key = ("snowflake", self.url, self.lock_wait_s)
        self.con = pooled(key, lambda: connect(self.address, self.lock_wait_s), answers)

    def close(self, is_sound: bool) -> None:
        """Leave the session to the next step, or end it."""
        let_go(self.con, is_sound)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what the driver raises into what a person can act on."""
        try:
            yield
        except driver().errors.Error as error:
            raise told(error, self.address.place) from None

    def relations(self) -> dict[Part, Relation]:
        """Ask the information schema; case does not count where it tells no two names apart."""
        schema = self._schema_name()
        names = names_of(self.table)
        low = ", ".join(self.dialect.literal(name.lower()) for name in names.values())
        kinds: dict[str, str] = {}
        columns: dict[str, dict[str, Column]] = {}
        for table, kind, name, data_type, precision, scale in self.rows(
            "SELECT C.TABLE_NAME, T.TABLE_TYPE, COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE "
            f"FROM {self._information('COLUMNS')} AS C LEFT JOIN {self._information('TABLES')} AS T "
            "ON T.TABLE_SCHEMA = C.TABLE_SCHEMA AND T.TABLE_NAME = C.TABLE_NAME "
            f"WHERE C.TABLE_SCHEMA = {self.dialect.literal(schema)} AND LOWER(C.TABLE_NAME) IN ({low}) "
            "ORDER BY ORDINAL_POSITION"
        ):
            kinds[table] = kind or "VIEW"
            columns.setdefault(table, {})[name.lower()] = Column(name, catalog_type(data_type, precision, scale))
        return {part: self._relation(schema, names[part], kinds, columns) for part in PARTS}

    def places(self) -> list[str]:
        """Return the statement that makes the schema, if it is missing."""
        if self._found_schema():
            return []
        return [f"CREATE SCHEMA IF NOT EXISTS {self.dialect.quoted(self.database, self._schema_name())}"]

    def run(self, statement: str) -> None:
        """Run a statement."""
        self._do(statement)

    def query(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        with self.con.cursor() as cursor:
            cursor.execute(query)
            found = cursor.fetch_arrow_all(force_return_table=True)
            return pa.table({}) if found is None else found

    def sent_type(self, kind: pa.DataType) -> pa.DataType:
        """Return the type in Parquet; nanoseconds are kept."""
        return sent_type(kind)

    def load(self, name: str, columns: list[Column], schema: pa.Schema, files: Iterator[Path]) -> str:  # noqa: ARG002
        """Put files into a temporary stage one after another, and copy all into a temporary table at once."""
        place = self.dialect.quoted(self.database, self._schema_name(), name.upper())
        is_begun = False
        for file in files:
            if not is_begun:
                made = ", ".join(f"{self.dialect.quoted(column.name)} {column.type}" for column in columns)
                self._do(f"CREATE TEMPORARY TABLE {place} ({made})")
                self._do(f"CREATE TEMPORARY STAGE {place}")
                is_begun = True
            self._do(f"PUT {self.dialect.literal(f'file://{file}')} @{place} AUTO_COMPRESS = FALSE")
            file.unlink()
        if not is_begun:
            return ""
        self._do(f"COPY INTO {place} FROM @{place} {_FORMAT} MATCH_BY_COLUMN_NAME = CASE_SENSITIVE")
        return place

    def drop(self, stage: Stage) -> None:
        """Drop the table and its files; else they go with the session."""
        with suppress(driver().errors.Error):
            self._do(f"DROP TABLE IF EXISTS {stage.sql}")
            self._do(f"DROP STAGE IF EXISTS {stage.sql}")

    def write(self, new: Replacement, statements: list[str], ledger: Ledger) -> Receipt:
        """Write in one transaction; whoever comes second waits at the ledger."""
        mark = f"claim-{uuid.uuid4().hex}"
        with transaction(self._do):
            for statement in ledger.claims(mark):
                self._do(statement)
            is_done = is_published(self.runs(ledger, new.receipt.partition), self.table, new.receipt, new.mode)
            if not is_done:
                for statement in statements:
                    self._do(statement)
                receipt, row = completed(new)
                for statement in ledger.written(row, [mark, receipt.run_id]):
                    self._do(statement)
                reach("publish.ledger")
                committed(self._do, receipt, driver().errors.Error, is_lost)
                return receipt
            self._do("ROLLBACK")
        return new.receipt

    def changed(self, statements: list[str]) -> list[int]:
        """Run statements in one transaction."""
        with transaction(self._do):
            counts = [self._do(statement) for statement in statements]
            self._do("COMMIT")
        return counts

    def _do(self, statement: str) -> int:
        """Run a statement; return how many rows it changed."""
        with self.con.cursor() as cursor:
            cursor.execute(statement)
            return int(cursor.rowcount or 0)

    def _information(self, view: str) -> str:
        return f"{self.dialect.quoted(self.database)}.INFORMATION_SCHEMA.{view}"

    def _found_schema(self) -> str:
        """Return the schema's name as Snowflake has it; empty if it is not there."""
        if not self._schema:
            wanted = self.dialect.literal(self.schema.lower())
            view = self._information("SCHEMATA")
            found = self.rows(f"SELECT SCHEMA_NAME FROM {view} WHERE LOWER(SCHEMA_NAME) = {wanted}")
            names = [name for (name,) in found]
            best = (self.schema, self.dialect.spelled(self.schema))
            self._schema = next((name for name in best if name in names), names[0] if names else "")
        return self._schema

    def _schema_name(self) -> str:
        return self._found_schema() or self.dialect.spelled(self.schema)

    def _relation(
        self, schema: str, asked: str, kinds: dict[str, str], columns: dict[str, dict[str, Column]]
    ) -> Relation:
        """Return what has a name, best as it is asked for, then as a new one would be spelled."""
        there = [name for name in columns if name.lower() == asked.lower()]
        best = (asked, self.dialect.spelled(asked))
        name = next((each for each in best if each in there), there[0] if there else best[1])
        sql = self.dialect.quoted(self.database, schema, name)
        if not there:
            return Relation(name, sql)
        what = "" if kinds[name] == "BASE TABLE" else _KINDS.get(kinds[name], "no table")
        return Relation(name, sql, columns[name], what)
