"""What PostgreSQL's catalog says of Windrow's tables, and the statements that fit them to a schema."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from windrow.duck import literal, quoted
from windrow.errors import JobError, SchemaError
from windrow.postgres import Session
from windrow.warehouses.base import PARTS, Part, TableName, comment_of
from windrow.warehouses.postgres_types import column_type, widened

__all__ = ["Catalog", "Column", "Relation"]

_NAME_BYTES = 63
_SYSTEM = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
_RELATION = """
    SELECT c.oid::bigint, c.relkind::text, pg_has_role(c.relowner, 'USAGE'),
        has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
        AND has_table_privilege(c.oid, 'DELETE')
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = {schema} AND c.relname = {name}
"""
_NAMES = """
    SELECT c.relname::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = {schema} AND lower(c.relname) IN ({names})
"""
_COLUMNS = """
    SELECT attname::text, pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
    WHERE attrelid = {oid} AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_INDEXED = """
    SELECT EXISTS (
        SELECT FROM pg_catalog.pg_index i
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid = {table}::regclass AND i.indpred IS NULL AND lower(a.attname) = 'windrow_partition'
    )
"""
_SCHEMA = """
    SELECT nspname::text, has_schema_privilege(oid, 'USAGE'), has_schema_privilege(oid, 'CREATE')
    FROM pg_catalog.pg_namespace WHERE lower(nspname) = lower({name}) ORDER BY nspname <> {name} LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and type, as the catalog writes them."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as it is; `columns` by lower-case name, none if there is no table."""

    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    is_owned: bool = True
    is_writable: bool = True


class Catalog:
    """The three tables of a job in a database; case does not count where it tells no two names apart.

    Args:
        session: Where statements run, in its open transaction.
        table: The job's table; the first schema of the search path unless it names one.
    """

    def __init__(self, session: Session, table: TableName) -> None:
        self.session = session
        schema = table.schema or session.rows("SELECT current_schema()::text")[0][0]
        if schema is None:
            fix = "write schema.table in warehouse.table, or set the user's search_path."
            raise JobError(f"warehouse.table {table.name!r} names no schema, and the user has none.", fix)
        found = session.rows(_SCHEMA.format(name=literal(schema)))
        self.schema, self._uses, self._creates = found[0] if found else (schema, True, None)
        self.names = self._spelled({part: table.of(part).name for part in PARTS})
        self.sql = {part: quoted(self.schema, name) for part, name in self.names.items()}

    def _spelled(self, names: dict[Part, str]) -> dict[Part, str]:
        """Return the names as the catalog spells them, where it has them."""
        asked = ", ".join(f"lower({literal(name)})" for name in names.values())
        found = [name for (name,) in self.session.rows(_NAMES.format(schema=literal(self.schema), names=asked))]
        spelled = {name.lower(): name for name in found}
        return {part: name if name in found else spelled.get(name.lower(), name) for part, name in names.items()}

    def relation(self, part: Part) -> Relation:
        """Return a table as it is.

        Raises:
            SchemaError: The name is a view's, or another thing's that is no table.
        """
        name = self.names[part]
        query = _RELATION.format(schema=literal(self.schema), name=literal(name))
        found = self.session.rows(query)
        if not found:
            return Relation(name)
        oid, kind, is_owned, is_writable = found[0]
        if kind not in "rp":
            fix = "name a table that does not exist yet, or drop what has its name."
            raise SchemaError(f"{name!r} is {_KINDS.get(kind, 'no table')}.", fix)
        columns = [Column(*row) for row in self.session.rows(_COLUMNS.format(oid=oid))]
        return Relation(name, {column.name.lower(): column for column in columns}, is_owned, is_writable)

    def plan(self, wanted: dict[Part, pa.Schema]) -> list[str]:
        """Return the statements that would fit the tables to the schemas.

        Raises:
            SchemaError: A table has another shape, or a name or type is one that PostgreSQL cannot hold.
            JobError: The user lacks a privilege.
        """
        for name in (self.schema, *self.names.values()):
            _check_name(name, "warehouse.table")
        made = [] if self._creates is not None else [f"CREATE SCHEMA {quoted(self.schema)}"]
        if made:
            allowed = "SELECT has_database_privilege(current_database(), 'CREATE')"
            self._demand(self.session.rows(allowed)[0][0], "CREATE", "DATABASE")
        else:
            self._demand(self._uses, "USAGE", f"SCHEMA {quoted(self.schema)}")
        return [*made, *(statement for part, schema in wanted.items() for statement in self._planned(part, schema))]

    def indexes(self, partition: str) -> list[str]:
        """Return the statements that index the partitions, where a table also holds rows of another one.

        Until then an index tells nothing, and each row would take a third longer to write.
        """
        parts: list[Part] = ["table", "rejects"]
        return [
            f"CREATE INDEX ON {self.sql[part]} (windrow_partition)" for part in parts if self._wants(part, partition)
        ]

    def _wants(self, part: Part, partition: str) -> bool:
        """Tell whether a table of the user's own has several partitions and no index of them."""
        relation = self.relation(part)
        if "windrow_partition" not in relation.columns or not relation.is_owned:
            return False
        if self.session.rows(_INDEXED.format(table=literal(self.sql[part])))[0][0]:
            return False
        query = f"SELECT EXISTS (SELECT FROM {self.sql[part]} WHERE windrow_partition <> {literal(partition)})"
        return bool(self.session.rows(query)[0][0])

    def _planned(self, part: Part, schema: pa.Schema) -> list[str]:
        """Plan one table: create it, or add and widen columns."""
        relation = self.relation(part)
        types = {f.name: _typed(part, f) for f in schema}
        if not relation.columns:
            if self._creates is not None:
                self._demand(self._creates, "CREATE", f"SCHEMA {quoted(self.schema)}")
            columns = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
            return [f"CREATE TABLE {self.sql[part]} ({columns})", *self._comments(part, schema)]
        if "windrow_partition" in types and "windrow_partition" not in relation.columns:
            raise SchemaError(
                f"Table {relation.name!r} exists and is not Windrow's: it has no column windrow_partition.",
                "name a table that does not exist yet; it will be made.",
            )
        self._demand(relation.is_writable, "SELECT, INSERT, DELETE", self.sql[part])
        statements = [each for f in schema for each in self._fitted(part, relation, f, types[f.name])]
        if statements and not relation.is_owned:
            fix = f"let the table's owner run: {'; '.join(statements)};"
            raise JobError(f"Table {relation.name!r} has to change, but belongs to another user.", fix)
        return statements

    def _fitted(self, part: Part, relation: Relation, wanted: pa.Field, kind: str) -> list[str]:
        """Plan one column of a table that is there."""
        held = relation.columns.get(wanted.name.lower())
        alter = f"ALTER TABLE {self.sql[part]}"
        if held is None:
            comments = self._comments(part, pa.schema([wanted]))
            return [f"{alter} ADD COLUMN {quoted(wanted.name)} {kind}", *comments]
        if pa.types.is_null(wanted.type):
            return []
        wider, name = widened(held.type, wanted.type), quoted(held.name)
        if wider == held.type:
            return []
        if wider is not None:
            return [f"{alter} ALTER COLUMN {name} TYPE {wider} USING {name}::{wider}"]
        if self._is_free(part, name):
            return [f"{alter} ALTER COLUMN {name} TYPE {kind} USING NULL::{kind}"]
        raise SchemaError(
            f"Column {held.name!r} of table {relation.name!r} is {held.type}, but the job gives {kind}.",
            "cast it in the source, name another table, or run: "
            f"{alter} ALTER COLUMN {name} TYPE {kind} USING {name}::text::{kind};",
        )

    def _is_free(self, part: Part, name: str) -> bool:
        """Tell whether a column holds no value yet, so that any type will do."""
        query = f"SELECT NOT EXISTS (SELECT FROM {self.sql[part]} WHERE {name} IS NOT NULL)"
        free: bool = self.session.rows(query)[0][0]
        return free

    def _comments(self, part: Part, schema: pa.Schema) -> list[str]:
        """Return the statements that write down what table and columns mean."""
        named = [(quoted(f.name), comment_of(f.metadata)) for f in schema]
        columns = [f"COMMENT ON COLUMN {self.sql[part]}.{name} IS {literal(told)}" for name, told in named if told]
        told = comment_of(schema.metadata)
        return [f"COMMENT ON TABLE {self.sql[part]} IS {literal(told)}", *columns] if told else columns

    def _demand(self, is_granted: bool, privilege: str, place: str) -> None:
        """Raise if a privilege is missing, with the statement that grants it."""
        if is_granted:
            return
        user, database = self.session.rows("SELECT current_user::text, current_database()::text")[0]
        place = f"{place} {quoted(database)}" if place == "DATABASE" else place
        fix = f"let its owner run: GRANT {privilege} ON {place} TO {quoted(user)};"
        raise JobError(f"PostgreSQL's user {user!r} lacks a privilege that publishing needs, on {place}.", fix)


def _typed(part: Part, wanted: pa.Field) -> str:
    """Return the type of a new column for a field.

    Raises:
        SchemaError: PostgreSQL has no such name or type.
    """
    _check_name(wanted.name, f"Column {wanted.name!r} of the {part}")
    if wanted.name in _SYSTEM:
        raise SchemaError(f"PostgreSQL keeps the name {wanted.name!r} for itself.", "rename the column in the source.")
    kind = column_type(wanted.type)
    if kind is None:
        fix = "cast it in the source, or leave it out of source.keep."
        raise SchemaError(f"Column {wanted.name!r} has type {wanted.type}, which PostgreSQL cannot hold.", fix)
    return kind


def _check_name(name: str, where: str) -> None:
    """Refuse a name that PostgreSQL would cut short."""
    size = len(name.encode())
    if size > _NAME_BYTES:
        problem = f"{where}: the name {name!r} has {size} bytes, of which PostgreSQL keeps {_NAME_BYTES}."
        raise SchemaError(problem, "choose a shorter name; rejects need nine bytes more than the table.")
