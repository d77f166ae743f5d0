"""ClickHouse: rows go up as Parquet into a stage; a statement that reads it replaces the partition in the table."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from windrow.receipt import Receipt
from windrow.warehouses.base import PARTS, Part, Replacement, TableName
from windrow.warehouses.claimed import PREFIXES, ClaimedWarehouse
from windrow.warehouses.clickhouse_checks import demand, odd_moments, refuse_moments, unfit
from windrow.warehouses.clickhouse_session import Address, connect, driver, told
from windrow.warehouses.clickhouse_types import PARTITION, ClickHouseDialect, is_vector
from windrow.warehouses.staged import Stage
from windrow.warehouses.staged_catalog import Column, Relation, names_of
from windrow.warehouses.staged_rows import sent_type
from windrow.warehouses.widening import plain

__all__ = ["ClickHouseWarehouse"]

_INSERTING = {"async_insert": 0, "insert_deduplicate": 0, "max_partitions_per_insert_block": 0}
"""Rows are there when the statement ends, and two equal lots of rows are two."""
_EMPTYING = "allow_replace_partition_from_empty_source"
_NULLS_MATCH = {"transform_null_in": 1}
_WRITTEN: tuple[Part, ...] = ("table", "rejects")


class ClickHouseWarehouse(ClaimedWarehouse):
    """One table in a ClickHouse database, partitioned by ``windrow_partition``.

    Args:
        url: ``clickhouse://user:password@host:8443/database``, the HTTP interface.
        table: The job's table.
        writes: Whether anything will be written.
        lock_wait_s: How long to wait for another run; ``$WINDROW_LOCK_WAIT_S`` or ten minutes unless given.
    """

    dialect = ClickHouseDialect()

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        self.address = Address.of(url)
        self.asked_database = table.schema or self.address.database
        self._made: list[str] = []

    def connect(self) -> None:
        """Connect, and find the database as ClickHouse spells it."""
        self.client = connect(self.address)
        with self.telling():
            low = f"lower(name) = lower({self.dialect.literal(self.asked_database)})"
            found = [name for (name,) in self.rows(f"SELECT name FROM system.databases WHERE {low}")]
        self.database = self.asked_database if self.asked_database in found or not found else found[0]

    def close(self, is_sound: bool) -> None:  # noqa: ARG002
        """Let the connection go."""
        with suppress(Exception):  # the connection may be what broke
            self.client.close()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what the driver raises into what a person can act on."""
        try:
            yield
        except driver().driver.exceptions.Error as error:
            raise told(error, self.address.place) from None

    def relations(self) -> dict[Part, Relation]:
        """Ask the system tables; case does not count where it tells no two names apart."""
        asked = names_of(self.table)
        low = ", ".join(self.dialect.literal(name.lower()) for name in asked.values())
        place = f"database = {self.dialect.literal(self.database)} AND lower"
        tables = {
            name: (engine, key)
            for name, engine, key in self.rows(
                f"SELECT name, engine, partition_key FROM system.tables WHERE {place}(name) IN ({low})"
            )
        }
        columns: dict[str, dict[str, Column]] = {}
        query = f"SELECT table, name, type, comment FROM system.columns WHERE {place}(table) IN ({low})"
        for table, name, kind, comment in self.rows(f"{query} ORDER BY position"):
            held = Column(name, self.dialect.held_type(kind, comment), comment)
            columns.setdefault(table, {})[name.lower()] = held
        return {part: self._relation(asked[part], tables, columns) for part in PARTS}

    def places(self) -> list[str]:
        """Return the statement that makes the database, if it is missing."""
        found = self.rows(f"SELECT name FROM system.databases WHERE name = {self.dialect.literal(self.database)}")
        return [] if found else [f"CREATE DATABASE IF NOT EXISTS {self.dialect.quoted(self.database)}"]

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; privileges are looked at as well."""
        statements = super().plan(table, rejects)
        if not statements or not statements[0].startswith("CREATE DATABASE"):
            with self.telling():
                demand(self.client, "SELECT, INSERT, ALTER DELETE, CREATE TABLE, DROP TABLE", self.database)
        return statements

    def replace(self, new: Replacement) -> Receipt:
        """Upload rows and rejects, then replace the partition in one table after another, the ledger last."""
        self._made = []
        try:
            return super().replace(new)
        finally:
            for made in self._made:
                with suppress(Exception):  # the next attempt drops it
                    self.remove(made)

    def run(self, statement: str) -> None:
        """Run a statement that changes something."""
        settings: dict[str, Any] = {**_INSERTING, **_NULLS_MATCH} if statement.startswith("INSERT") else {}
        if "REPLACE PARTITION" in statement and _EMPTYING in self.client.server_settings:
            settings[_EMPTYING] = 1
        self.client.command(statement, settings=settings)

    def query(self, query: str) -> pa.Table:
        """Return the rows of a query; texts come as bytes, since they may be either."""
        return self.client.query_arrow(query, use_strings=False)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query as tuples."""
        return [
            tuple(value.decode() if isinstance(value, bytes) else value for value in row) for row in super().rows(query)
        ]

    def sent_type(self, kind: pa.DataType) -> pa.DataType:
        """Return the type in Parquet; vectors stay lists."""
        return plain(kind) if is_vector(kind) else sent_type(kind, "us")

    def load(self, name: str, columns: list[Column], schema: pa.Schema, files: Iterator[Path]) -> str:
        """Make a table of this attempt's own and insert one file after another."""
        place = self._full(name)
        names = ", ".join(self.dialect.quoted(column.name) for column in columns)
        is_begun = False
        try:
            for file in files:
                if not is_begun:
                    self.run(self.dialect.created(place, columns, self.owner.mark))
                    is_begun = True
                statement = f"INSERT INTO {place} ({names}) FORMAT Parquet"
                self.client.command(statement, data=file.read_bytes(), settings=dict(_INSERTING))
                file.unlink()
            if is_begun and (odd := odd_moments(place, columns)):
                refuse_moments(schema, self.rows(odd)[0])
        except BaseException:
            with suppress(Exception):  # the next attempt drops it
                self.remove(place)
            raise
        return place if is_begun else ""

    def drop(self, stage: Stage) -> None:
        """Drop a stage."""
        with suppress(Exception):  # the next attempt drops it
            self.remove(stage.sql)

    def marks(self) -> list[tuple[str, str, str]]:
        """Ask the system tables."""
        begins = " OR ".join(f"startsWith(name, {self.dialect.literal(prefix)})" for prefix in PREFIXES)
        place = f"database = {self.dialect.literal(self.database)}"
        found = self.rows(f"SELECT name, comment FROM system.tables WHERE {place} AND ({begins})")
        return [(name, self._full(name), comment) for name, comment in found]

    def make(self, name: str) -> str:
        """Make an empty table."""
        place = self._full(name)
        mark = self.dialect.literal(self.owner.mark)
        self.run(f"CREATE TABLE {place} (n UInt8) ENGINE = MergeTree ORDER BY tuple() COMMENT {mark}")
        return place

    def remove(self, sql: str) -> None:
        """Drop a table; ``SYNC`` waits until no statement reads it."""
        self.run(f"DROP TABLE IF EXISTS {sql} SYNC")

    def changed(self, statements: list[str]) -> list[int]:
        """Delete rows for good, part by part of the files that hold them; return how many each statement hit."""
        counts = []
        settings = {"mutations_sync": 2, "allow_nondeterministic_mutations": 1}
        with self.claimed():
            for statement in statements:
                table, _, where = statement.removeprefix("ALTER TABLE ").partition(" DELETE WHERE ")
                counts.append(int(self.rows(f"SELECT count() FROM {table} WHERE {where}")[0][0]))
                if counts[-1]:
                    self.client.command(statement, settings=settings)
        return counts

    def _statements(  # type: ignore[override]  # each is made when the one before has run
        self, new: Replacement, stages: Mapping[str, Stage], relations: Mapping[Part, Relation]
    ) -> Iterator[str]:
        """Make what the partition will be replaced from, so that it is there before the claim; return the rest."""
        mark = self.dialect.literal(self.owner.mark)
        for part in _WRITTEN:
            self._made.append(self._full(f"windrow_stage_{self.owner.attempt}_new_{part}"))
            self.run(f"CREATE TABLE {self._made[-1]} AS {relations[part].sql} COMMENT {mark}")
        return self._replacing(new, stages, relations)

    def _replacing(
        self, new: Replacement, stages: Mapping[str, Stage], relations: Mapping[Part, Relation]
    ) -> Iterator[str]:
        """Yield what replaces the partition in table and rejects, and in an upsert the others that hold its keys."""
        for part, made in zip(_WRITTEN, self._made, strict=True):
            relation, schema = relations[part], new.table if part == "table" else new.rejects
            if stages[part].sql:
                yield self._inserted(Relation(relation.name, made, relation.columns), stages[part], schema)
            partitions = [new.receipt.partition]
            if new.mode == "upsert":
                stays = part == "table" or not new.clears_rejects
                partitions += yield from self._kept(made, relation, new, stages, stays)
            replaced = (f"REPLACE PARTITION {self.dialect.literal(each)} FROM {made}" for each in partitions)
            yield f"ALTER TABLE {relation.sql} {', '.join(replaced)}"

    def _kept(
        self, made: str, relation: Relation, new: Replacement, stages: Mapping[str, Stage], stays: bool
    ) -> Generator[str, None, list[str]]:
        """Copy the rows that stay of the partitions that change; return the names of the other ones."""
        own = self.dialect.literal(new.receipt.partition)
        key = self.dialect.quoted(PARTITION)
        hit = " OR ".join(self._among(relation, stage, new) for stage in stages.values() if stage.sql) or "FALSE"
        query = f"SELECT DISTINCT {key} FROM {relation.sql} WHERE {key} <> {own} AND ({hit})"
        others = [partition for (partition,) in self.rows(f"{query} SETTINGS transform_null_in = 1")]
        changed = ", ".join(map(self.dialect.literal, [*others, *([new.receipt.partition] if stays else [])]))
        if changed:
            names = ", ".join(self.dialect.quoted(column.name) for column in relation.columns.values())
            kept = f"SELECT {names} FROM {relation.sql} WHERE {key} IN ({changed}) AND NOT ({hit})"
            yield f"INSERT INTO {made} ({names}) {kept}"
        return others

    def _among(self, relation: Relation, stage: Stage, new: Replacement) -> str:
        """Return the condition that a row's key is in a stage, compared in the table's own types."""
        pairs = []
        for name in new.keys:
            held = relation.columns[name.lower()]
            pairs.append((self.dialect.quoted(held.name), self.dialect.cast(stage.columns[name], held.type)))
        return self.dialect.among(stage.sql, pairs, False)

    def _relation(
        self, asked: str, tables: Mapping[str, tuple[str, str]], columns: Mapping[str, dict[str, Column]]
    ) -> Relation:
        """Return what has a name, best as it is asked for."""
        name = asked if asked in tables else next((name for name in tables if name.lower() == asked.lower()), "")
        if not name:
            return Relation(asked, self._full(asked))
        return Relation(name, self._full(name), columns[name], unfit(*tables[name], columns[name]))

    def _full(self, name: str) -> str:
        return self.dialect.quoted(self.database, name)
