"""Databricks: rows go up as Parquet into a volume and from there into a stage; one statement a table moves them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from windrow.warehouses.base import Part, Replacement, TableName
from windrow.warehouses.claimed import CLAIM, PREFIXES, ClaimedWarehouse
from windrow.warehouses.databricks_session import Address, connect, errors, told
from windrow.warehouses.databricks_types import PARTITION, DatabricksDialect
from windrow.warehouses.staged import Stage
from windrow.warehouses.staged_catalog import Column, Relation, names_of
from windrow.warehouses.staged_rows import sent_type

__all__ = ["DatabricksWarehouse"]

_KINDS = {"VIEW": "a view", "MATERIALIZED_VIEW": "a materialized view", "STREAMING_TABLE": "a streaming table"}


class DatabricksWarehouse(ClaimedWarehouse):
    """One Delta table in a catalog of Databricks.

    Args:
        url: ``databricks://token:secret@host/catalog/schema?http_path=…&volume=/Volumes/catalog/schema/volume``.
        table: The job's table.
        writes: Whether anything will be written.
        lock_wait_s: How long to wait for another run; ``$WINDROW_LOCK_WAIT_S`` or ten minutes unless given.
    """

    dialect = DatabricksDialect()

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        self.address = Address.of(url)
        self.schema = (table.schema or self.address.schema).lower()

    def connect(self) -> None:
        """Open a session."""
        self.con = connect(self.address)

    def close(self, is_sound: bool) -> None:  # noqa: ARG002
        """End the session; none is left for later, since the driver tries for minutes to close one that is gone."""
        with suppress(Exception):  # the connection may be what broke
            self.con.close()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what the driver raises into what a person can act on."""
        try:
            yield
        except errors() as error:
            raise told(error, self.address.place) from None

    def relations(self) -> dict[Part, Relation]:
        """Ask the information schema; names of tables are in lower case."""
        names = {part: name.lower() for part, name in names_of(self.table).items()}
        asked = ", ".join(map(self.dialect.literal, names.values()))
        where = f"table_schema = {self.dialect.literal(self.schema)} AND table_name IN ({asked})"
        kinds = dict(self.rows(f"SELECT table_name, table_type FROM {self._information('tables')} WHERE {where}"))
        columns: dict[str, dict[str, Column]] = {}
        query = f"SELECT table_name, column_name, full_data_type FROM {self._information('columns')} WHERE {where}"
        for table, name, kind in self.rows(f"{query} ORDER BY ordinal_position"):
            columns.setdefault(table, {})[name.lower()] = Column(name, kind)
        return {
            part: Relation(name, self._full(name), columns.get(name, {}), _KINDS.get(kinds.get(name, ""), ""))
            for part, name in names.items()
        }

    def places(self) -> list[str]:
        """Return the statement that makes the schema, if it is missing."""
        where = f"schema_name = {self.dialect.literal(self.schema)}"
        there = self.rows(f"SELECT schema_name FROM {self._information('schemata')} WHERE {where}")
        made = self.dialect.quoted(self.address.catalog, self.schema)
        return [] if there else [f"CREATE SCHEMA IF NOT EXISTS {made}"]

    def run(self, statement: str) -> None:
        """Run a statement that changes something."""
        self.query(statement)

    def query(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        with self.con.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall_arrow()

    def sent_type(self, kind: pa.DataType) -> pa.DataType:
        """Return the type in Parquet."""
        return sent_type(kind, "us")

    def load(self, name: str, columns: list[Column], schema: pa.Schema, files: Iterator[Path]) -> str:  # noqa: ARG002
        """Put files into the volume one after another, copy all into a stage, and remove them."""
        folder, place, put = f"{self.address.volume}/{name}", self._full(name), []
        try:
            for number, file in enumerate(files):
                put.append(f"{folder}/{number:06d}.parquet")
                self._do(f"PUT {self.dialect.literal(file)} INTO {self.dialect.literal(put[-1])} OVERWRITE")
                file.unlink()
            if not put:
                return ""
            self.run(self.dialect.created(place, columns, self.owner.mark))
            self.run(f"COPY INTO {place} FROM {self.dialect.literal(f'{folder}/')} FILEFORMAT = PARQUET")
            return place
        except BaseException:
            with suppress(Exception):  # the next attempt drops it
                self.remove(place)
            raise
        finally:
            for path in put:
                with suppress(Exception):  # the volume's owner may remove what is left
                    self._do(f"REMOVE {self.dialect.literal(path)}")

    def drop(self, stage: Stage) -> None:
        """Drop a stage."""
        with suppress(Exception):  # the next attempt drops it
            self.remove(stage.sql)

    def marks(self) -> list[tuple[str, str, str]]:
        """Ask the information schema."""
        begins = " OR ".join(f"startswith(table_name, {self.dialect.literal(prefix)})" for prefix in PREFIXES)
        where = f"table_schema = {self.dialect.literal(self.schema)} AND ({begins})"
        found = self.rows(f"SELECT table_name, comment FROM {self._information('tables')} WHERE {where}")
        return [(name, self._full(name), comment or "") for name, comment in found]

    def make(self, name: str) -> str:
        """Make an empty table."""
        place = self._full(name)
        self.run(f"CREATE TABLE {place} (n INT) COMMENT {self.dialect.literal(self.owner.mark)}")
        return place

    def remove(self, sql: str) -> None:
        """Drop a table; what still reads it conflicts with whoever writes the target next."""
        self.run(f"DROP TABLE IF EXISTS {sql}")

    def changed(self, statements: list[str]) -> list[int]:
        """Run statements that delete; return how many rows each did."""
        with self.claimed():
            return [int(self.rows(statement)[0][0]) for statement in statements]

    def _statements(  # type: ignore[override]  # as in the sibling, which makes them one by one
        self, new: Replacement, stages: Mapping[str, Stage], relations: Mapping[Part, Relation]
    ) -> Iterator[str]:
        """Yield one statement a table: of the partition alone, or of all keys."""
        claim = self._full(f"{CLAIM}{self.owner.attempt}")
        own = self.dialect.literal(new.receipt.partition)
        for part, schema, stays in (
            ("table", new.table, True),
            ("rejects", new.rejects, not new.clears_rejects),
        ):
            relation, stage = relations[part], stages[part]  # type: ignore[index]
            held = list(relation.columns.values())
            values = self._values(relation, stage, schema)
            source = stage.sql or f"{claim} WHERE FALSE"
            if new.mode != "upsert":
                key = self.dialect.quoted(PARTITION)
                chosen = ", ".join(values[column.name] for column in held)
                yield f"INSERT INTO {relation.sql} REPLACE WHERE {key} = {own} SELECT {chosen} FROM {source}"
            else:
                yield self._merge(new, relation, values, source, stages, None if stays else own)

    def _merge(
        self, new: Replacement, relation: Relation, values: Mapping[str, str], source: str,
        stages: Mapping[str, Stage], cleared: str | None,
    ) -> str:  # fmt: skip
        """Return the statement that deletes the rows of all keys and inserts the rows that come."""
        quote = self.dialect.quoted
        held = list(relation.columns.values())
        keyed = [relation.columns[name.lower()] for name in new.keys]
        rows = ", ".join(f"{values[column.name]} AS {quote(column.name)}" for column in held)
        keys = " UNION ".join(
            "SELECT "
            + ", ".join(
                f"{self.dialect.cast(stage.columns[name], column.type)} AS {quote(column.name)}"
                for name, column in zip(new.keys, keyed, strict=True)
            )
            + f" FROM {stage.sql}"
            for stage in stages.values()
            if stage.sql
        )
        empty = ", ".join(
            quote(column.name) if column in keyed else f"CAST(NULL AS {column.type}) AS {quote(column.name)}"
            for column in held
        )
        deletes = f" UNION ALL SELECT TRUE AS windrow_key, {empty} FROM ({keys})" if keys else ""
        same = " AND ".join(f"t.{quote(column.name)} <=> s.{quote(column.name)}" for column in keyed)
        names = ", ".join(quote(column.name) for column in held)
        inserted = ", ".join(f"s.{quote(column.name)}" for column in held)
        others = f" WHEN NOT MATCHED BY SOURCE AND t.{quote(PARTITION)} = {cleared} THEN DELETE" if cleared else ""
        return (
            f"MERGE INTO {relation.sql} AS t USING (SELECT FALSE AS windrow_key, {rows} FROM {source}{deletes}) AS s "
            f"ON s.windrow_key AND {same} WHEN MATCHED THEN DELETE "
            f"WHEN NOT MATCHED AND NOT s.windrow_key THEN INSERT ({names}) VALUES ({inserted}){others}"
        )

    def _values(self, relation: Relation, stage: Stage, schema: pa.Schema) -> dict[str, str]:
        """Return the expression of each column of a table: of the stage's, or null."""
        told = {f.name.lower(): f for f in schema if not pa.types.is_null(f.type)}
        values = {}
        for low, column in relation.columns.items():
            given = told.get(low) if stage.sql else None
            value = stage.columns[given.name] if given is not None else "NULL"
            is_json = given is not None and self._is_json(given.type)
            values[column.name] = self.dialect.cast(value, column.type, is_json)
        return values

    def _do(self, statement: str) -> None:
        """Run a statement whose answer the driver itself acts on."""
        with self.con.cursor() as cursor:
            cursor.execute(statement)

    def _information(self, view: str) -> str:
        return self.dialect.quoted(self.address.catalog, "information_schema", view)

    def _full(self, name: str) -> str:
        return self.dialect.quoted(self.address.catalog, self.schema, name)
