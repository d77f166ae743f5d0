"""Redshift: rows go to S3 as Parquet and from there by COPY into temporary tables; one transaction moves them in.

Publishers meet in the ledger: each locks it before anything else in its transaction, so that one comes after another.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import types

from windrow.faults import reach
from windrow.pooling import answers, let_go, pooled
from windrow.receipt import Receipt
from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.commit import completed, is_published
from windrow.warehouses.redshift_session import Address, connect, driver, is_lost, told
from windrow.warehouses.redshift_stage import staged
from windrow.warehouses.redshift_types import RedshiftDialect, catalog_type, statements_of
from windrow.warehouses.staged import Stage, StagedWarehouse
from windrow.warehouses.staged_catalog import Column, Relation, names_of
from windrow.warehouses.staged_commit import committed, transaction
from windrow.warehouses.staged_ledger import Ledger
from windrow.warehouses.staged_rows import sent_type

__all__ = ["RedshiftWarehouse"]

_KINDS = {"v": "a view", "m": "a materialized view"}
_RELATIONS = """
    SELECT c.relname, c.relkind, a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname = {schema} AND c.relkind IN ('r', 'v', 'm') AND LOWER(c.relname) IN ({names}) ORDER BY a.attnum
"""


class RedshiftWarehouse(StagedWarehouse):
    """One table in a Redshift database.

    Args:
        url: ``redshift://user:password@host:5439/database?stage=s3://bucket/folder&iam_role=arn``.
        table: The job's table.
        writes: Whether anything will be written.
        lock_wait_s: How long to wait for another run; ``$WINDROW_LOCK_WAIT_S`` or ten minutes unless given.
    """

    dialect = RedshiftDialect()

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        self.address = Address.of(url)
        self.schema = self.dialect.spelled(table.schema or "public")

    def connect(self) -> None:
        """Open a session."""
        self.con = pooled(("redshift", self.url), lambda: connect(self.address), answers)
        try:
            with self.telling():
                self._wait_for_others(True)
        except BaseException:
            self.close(is_sound=False)
            raise

    def close(self, is_sound: bool) -> None:
        """Leave the session to the next step, or end it."""
        let_go(self.con, is_sound)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what the driver raises into what a person can act on."""
        try:
            yield
        except (driver().Error, OSError) as error:
            raise told(error, self.address.place) from None

    def relations(self) -> dict[Part, Relation]:
        """Ask the catalog."""
        names = {part: self.dialect.spelled(name) for part, name in names_of(self.table).items()}
        asked = ", ".join(self.dialect.literal(name.lower()) for name in names.values())
        kinds: dict[str, str] = {}
        columns: dict[str, dict[str, Column]] = {}
        for table, kind, name, held in self.rows(
            _RELATIONS.format(schema=self.dialect.literal(self.schema), names=asked)
        ):
            kinds[table] = kind
            if name is not None:
                columns.setdefault(table, {})[name.lower()] = Column(name, catalog_type(held))
        return {
            part: Relation(
                name, self._full(name), columns.get(name, {}), _KINDS.get(_text(kinds.get(name, "r")), "")
            )
            for part, name in names.items()
        }  # fmt: skip

    def places(self) -> list[str]:
        """Return the statement that makes the schema, if it is missing."""
        there = self.rows(f"SELECT 1 FROM pg_namespace WHERE nspname = {self.dialect.literal(self.schema)}")
        return [] if there else [f"CREATE SCHEMA IF NOT EXISTS {self.dialect.quoted(self.schema)}"]

    def run(self, statement: str) -> None:
        """Change a table's shape, in a transaction of its own."""
        with self._transaction():
            self._wait_for_others(False)  # a column may be widened by writing it anew
            for each in statements_of(statement):
                self._do(each)
            self._do("COMMIT")

    def query(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        with self.con.cursor() as cursor:
            cursor.paramstyle = "qmark"
            cursor.execute(query)
            names = [str(_text(column[0])) for column in cursor.description]
            rows = cursor.fetchall()
        columns = list(zip(*rows, strict=True)) if rows else [()] * len(names)
        return pa.table([pa.array(list(column)) for column in columns], names=names)

    def sent_type(self, kind: pa.DataType) -> pa.DataType:
        """Return the type in Parquet: moments as UTC without a zone, times of day as texts."""
        sent = sent_type(kind, "us")
        if types.is_time(sent):
            return pa.string()
        return pa.timestamp("us") if types.is_timestamp(sent) else sent

    def load(self, name: str, columns: list[Column], schema: pa.Schema, files: Iterator[Path]) -> str:  # noqa: ARG002
        """Put files into the bucket one after another, copy all into a temporary table, and delete them."""
        with staged(self.address, name, files) as place:
            if not place:
                return ""
            made = ", ".join(f"{self.dialect.quoted(column.name)} {column.type}" for column in columns)
            stage = self.dialect.quoted(name)
            self._do(f"CREATE TEMP TABLE {stage} ({made})")
            self._wait_for_others(False)
            try:
                self._do(f"COPY {stage} FROM {self.dialect.literal(place)} {self._copying}")
            finally:
                with suppress(driver().Error, OSError):  # the connection may be what broke
                    self._wait_for_others(True)
            return stage

    def drop(self, stage: Stage) -> None:
        """Drop a stage; else it goes with the session."""
        with suppress(driver().Error, OSError):
            self._do(f"DROP TABLE IF EXISTS {stage.sql}")

    def write(self, new: Replacement, statements: list[str], ledger: Ledger) -> Receipt:
        """Write in one transaction, the ledger locked before anything is read."""
        with self._transaction():
            self._lock(ledger.sql)
            if is_published(self.runs(ledger, new.receipt.partition), self.table, new.receipt, new.mode):
                self._do("ROLLBACK")
                return new.receipt
            for statement in statements:
                self._do(statement)
            receipt, row = completed(new)
            for statement in ledger.written(row, [receipt.run_id]):
                self._do(statement)
            reach("publish.ledger")
            committed(self._do, receipt, (driver().Error, OSError), is_lost)
        return receipt

    def changed(self, statements: list[str]) -> list[int]:
        """Run statements in one transaction."""
        with self._transaction():
            self._lock(self.dialect.quoted(self.schema, self.table.ledger.name))
            counts = [self._do(statement) for statement in statements]
            self._do("COMMIT")
        return counts

    def _deleted(self, relation: Relation, stage: Stage, keys: Any, is_text: bool) -> str:
        """Compare keys in the table's own types."""
        pairs = []
        for name in keys:
            held, staged = relation.columns[name.lower()], stage.columns[name]
            pairs.append((self.dialect.quoted(held.name), staged if is_text else self.dialect.cast(staged, held.type)))
        return self.dialect.deleted(relation.sql, stage.sql, pairs, is_text)

    def _decoded(self, values: pa.ChunkedArray, held: str, known: pa.DataType | None) -> pa.Array | pa.ChunkedArray:
        """Return a column as it was written; bytes come as hexadecimal digits."""
        if self.dialect.arrow_type(held) == pa.binary() and types.is_string(values.type):
            return pa.array(
                [None if text is None else bytes.fromhex(text.removeprefix("\\x")) for text in values.to_pylist()],
                pa.binary(),
            )
        return super()._decoded(values, held, known)

    def _lock(self, ledger: str) -> None:
        """Wait until nobody else writes; it has to be the transaction's first statement that reads a table."""
        self._do(f"LOCK TABLE {ledger}")
        self._wait_for_others(False)

    def _wait_for_others(self, is_bounded: bool) -> None:
        """Bound how long a statement may take; those that move rows may take as long as they like."""
        self._do(f"SET statement_timeout TO {max(1000, round(self.lock_wait_s * 1000)) if is_bounded else 0}")

    @property
    def _copying(self) -> str:
        role = self.address.iam_role
        role = "default" if role == "default" else self.dialect.literal(role)
        region = f" REGION {self.dialect.literal(self.address.region)}" if self.address.region else ""
        return f"IAM_ROLE {role} FORMAT AS PARQUET{region}"

    def _do(self, statement: str) -> int:
        """Run a statement; return how many rows it changed."""
        with self.con.cursor() as cursor:
            cursor.paramstyle = "qmark"
            cursor.execute(statement)
            return int(cursor.rowcount or 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begin; roll back if it does not end well; later statements are bounded again."""
        try:
            with transaction(self._do):
                yield
        finally:
            with suppress(driver().Error, OSError):
                self._wait_for_others(True)

    def _full(self, name: str) -> str:
        return self.dialect.quoted(self.schema, name)


def _text(told: Any) -> Any:
    """Return what the driver gives as bytes as a text."""
    return told.decode() if isinstance(told, bytes) else told
