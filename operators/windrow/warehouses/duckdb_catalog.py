"""What DuckDB's catalog says of a job's tables, and the statements that fit them to a schema."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from windrow.duck import literal, quoted
from windrow.errors import SchemaError
from windrow.receipt import LEDGER_SCHEMA
from windrow.warehouses.base import PARTS, Part, TableName, comment_of
from windrow.warehouses.evolution import can_hold, widened

__all__ = ["Catalog"]


class Catalog:
    """The three tables of a job in the database that a connection uses.

    Args:
        con: An open connection, whose current database holds the tables.
        table: The job's table; in schema ``main`` unless it names one.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, table: TableName) -> None:
        self.con = con
        self.names = {part: table.of(part) for part in PARTS}
        database = con.execute("SELECT current_database()").fetchall()[0][0]
        schema = table.schema or "main"
        self.sql = {part: quoted(database, schema, name.name) for part, name in self.names.items()}
        self.schema_sql = quoted(database, schema)

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas.

        Raises:
            SchemaError: A table has another shape, or is none.
        """
        wanted: dict[Part, pa.Schema] = {"table": table, "rejects": rejects, "ledger": LEDGER_SCHEMA}
        return [statement for part, schema in wanted.items() for statement in self._planned(part, schema)]

    def columns(self, part: Part) -> dict[str, str]:
        """Return the table's column types by lower-case name; empty if there is no table.

        Raises:
            SchemaError: The name is a view's.
        """
        name = self.names[part]
        where = "lower(table_name) = lower(?) AND lower(table_schema) = lower(?) AND table_catalog = current_database()"
        values = [name.name, name.schema or "main"]
        kinds = self.con.execute(f"SELECT table_type FROM information_schema.tables WHERE {where}", values).fetchall()
        if kinds and kinds[0][0] != "BASE TABLE":
            raise SchemaError(f"{name.name!r} is a view.", "name a table, or drop the view.")
        rows = self.con.execute(
            f"SELECT lower(column_name), data_type FROM information_schema.columns WHERE {where}", values
        ).fetchall()
        return dict(rows)

    def types(self, schema: pa.Schema) -> dict[str, str | None]:
        """Return DuckDB's types for Arrow's; None where the source told none."""
        told = [f for f in schema if not pa.types.is_null(f.type)]
        self.con.register("windrow_empty", pa.schema(told).empty_table())
        found = {row[0]: row[1] for row in self.con.execute("DESCRIBE windrow_empty").fetchall()}
        self.con.unregister("windrow_empty")
        return {f.name: found.get(f.name) for f in schema}

    def retyped(self, part: Part, name: str, kind: str) -> list[str]:
        """Return the statements that let a column without values have any type."""
        return [f"ALTER TABLE {self.sql[part]} ALTER COLUMN {quoted(name)} TYPE {kind}"]

    def _planned(self, part: Part, schema: pa.Schema) -> list[str]:
        """Plan one table: create it, or add and widen columns."""
        existing = self.columns(part)
        types = self.types(schema)
        if not existing:
            columns = ", ".join(f"{quoted(name)} {kind or 'VARCHAR'}" for name, kind in types.items())
            return [f"CREATE TABLE {self.sql[part]} ({columns})", *self._comments(part, schema)]
        if "windrow_partition" in types and "windrow_partition" not in existing:
            raise SchemaError(
                f"Table {self.names[part].name!r} exists and is not Windrow's: it has no column windrow_partition.",
                "name a table that does not exist yet; it will be made.",
            )
        statements = []
        for name, kind in types.items():
            held = existing.get(name.lower())
            if held is None:
                statements.append(f"ALTER TABLE {self.sql[part]} ADD COLUMN {quoted(name)} {kind or 'VARCHAR'}")
                statements += self._comments(part, pa.schema([schema.field(name)]))
            elif kind is not None and not can_hold(held, kind):
                statements += self._fitted(part, name, held, kind)
        return statements

    def _fitted(self, part: Part, name: str, held: str, kind: str) -> list[str]:
        """Plan a column that is too narrow for what arrives."""
        wider = widened(held, kind)
        if wider is not None:
            return [f"ALTER TABLE {self.sql[part]} ALTER COLUMN {quoted(name)} TYPE {wider}"]
        if not self.con.execute(f"SELECT count({quoted(name)}) FROM {self.sql[part]}").fetchall()[0][0]:
            return self.retyped(part, name, kind)
        raise SchemaError(
            f"Column {name!r} of table {self.names[part].name!r} is {held}, but the job gives {kind}.",
            self.refused(part, name, kind),
        )

    def refused(self, part: Part, name: str, kind: str) -> str:
        """Return what to do about a column that cannot be widened."""
        alter = f"ALTER TABLE {self.sql[part]} ALTER COLUMN {quoted(name)} TYPE {kind}"
        return f"cast it in the source, name another table, or run: {alter};"

    def _comments(self, part: Part, schema: pa.Schema) -> list[str]:
        """Return the statements that write down what table and columns mean."""
        named = [(quoted(f.name), comment_of(f.metadata)) for f in schema]
        columns = [f"COMMENT ON COLUMN {self.sql[part]}.{name} IS {literal(told)}" for name, told in named if told]
        told = comment_of(schema.metadata)
        return [f"COMMENT ON TABLE {self.sql[part]} IS {literal(told)}", *columns] if told else columns
