"""What warehouses that are loaded through a stage know of tables, and the statements that fit them to a schema.

Each brings a `Dialect`: how it quotes, which types it has, how it changes a table.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
from pyarrow import types

from windrow.errors import SchemaError
from windrow.warehouses.base import PARTS, Part, TableName, comment_of
from windrow.warehouses.widening import plain

__all__ = ["Column", "Dialect", "Relation", "is_nested", "names_of", "planned"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and type, as the warehouse writes them, and what it means."""

    name: str
    type: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Relation:
    """What has a table's name; `columns` by lower-case name, none if nothing has it.

    Attributes:
        name: As the warehouse spells it.
        sql: The full name, quoted.
        columns: What it holds.
        what: What it is, where it is no table: ``a view``.
    """

    name: str
    sql: str
    columns: Mapping[str, Column] = field(default_factory=dict)
    what: str = ""


class Dialect(ABC):
    """How a warehouse writes SQL, and what it can hold."""

    product: str
    """The warehouse's name, for errors."""

    @abstractmethod
    def quoted(self, *parts: str | None) -> str:
        """Quote the parts of a name and join them by dots; parts that are None are left out."""

    @abstractmethod
    def literal(self, text: object) -> str:
        """Write a text as a literal."""

    def spelled(self, name: str) -> str:
        """Return how a new table or column of that name is called."""
        return name

    def shown(self, name: str) -> str:
        """Return the name under which a column is read that nobody named."""
        return name

    @abstractmethod
    def check_name(self, name: str, where: str, is_column: bool) -> None:
        """Refuse a name that the warehouse cannot hold.

        Raises:
            SchemaError: It cannot.
        """

    @abstractmethod
    def column_type(self, kind: pa.DataType) -> str | None:
        """Return the type of a column that holds every value of an Arrow type; None if there is none."""

    @abstractmethod
    def arrow_type(self, held: str) -> pa.DataType | None:
        """Return the Arrow type of what is read from a column; None if it stays as the driver reads it."""

    @abstractmethod
    def widened(self, held: str, asked: str) -> str | None:
        """Return the type that a column must become to hold what a column of type `asked` holds; None if none can."""

    @abstractmethod
    def cast(self, value: str, held: str, is_json: bool = False) -> str:
        """Return an expression of a column's type.

        Args:
            value: An expression.
            held: The column's type.
            is_json: Whether it is a text of JSON that stands for a nested value.
        """

    @abstractmethod
    def as_text(self, value: str) -> str:
        """Return an expression cast to text."""

    @abstractmethod
    def deleted(self, table: str, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Return the statement that deletes the rows whose columns equal those of a table of keys; null equals null.

        Args:
            table: Whose rows go.
            keys: The table of keys.
            pairs: Quoted columns of `table` and of `keys`.
            is_text: Whether keys are texts, as which the columns are compared.
        """

    @abstractmethod
    def created(self, table: str, columns: list[Column], comment: str) -> str:
        """Return the statement that makes a table."""

    @abstractmethod
    def added(self, table: str, column: Column) -> str:
        """Return the statement that adds a column."""

    def retyped(self, table: str, column: Column) -> str:
        """Return the statement that widens a column."""
        return f"ALTER TABLE {table} ALTER COLUMN {self.quoted(column.name)} SET DATA TYPE {column.type}"


def is_nested(kind: pa.DataType) -> bool:
    """Tell whether values of an Arrow type have parts."""
    return bool(types.is_nested(plain(kind)))


def names_of(table: TableName) -> dict[Part, str]:
    """Return the names of a job's tables."""
    return {part: table.of(part).name for part in PARTS}


def planned(
    dialect: Dialect,
    relations: Mapping[Part, Relation],
    wanted: Mapping[Part, pa.Schema],
    is_free: Callable[[Relation, Column], bool],
) -> list[str]:
    """Return the statements that would fit tables to schemas.

    Args:
        dialect: Of the warehouse.
        relations: What is there.
        wanted: What is needed.
        is_free: Tells whether a column holds no value yet, so that any type will do.

    Raises:
        SchemaError: A table has another shape, is none, or a name or type is one that the warehouse cannot hold.
    """
    return [
        statement
        for part, schema in wanted.items()
        for statement in _Plan(dialect, relations[part], is_free).statements(part, schema)
    ]


@dataclass(frozen=True, slots=True)
class _Plan:
    dialect: Dialect
    relation: Relation
    is_free: Callable[[Relation, Column], bool]

    def statements(self, part: Part, schema: pa.Schema) -> list[str]:
        """Plan one table: create it, or add and widen columns."""
        relation, dialect = self.relation, self.dialect
        if relation.what:
            fix = "name a table that does not exist yet, or drop what has its name."
            raise SchemaError(f"{relation.name!r} is {relation.what}.", fix)
        dialect.check_name(relation.name, "warehouse.table", False)
        columns = [self._column(part, wanted) for wanted in schema]
        if not relation.columns:
            return [dialect.created(relation.sql, columns, comment_of(schema.metadata))]
        if "windrow_partition" in schema.names and "windrow_partition" not in relation.columns:
            raise SchemaError(
                f"Table {relation.name!r} exists and is not Windrow's: it has no column windrow_partition.",
                "name a table that does not exist yet; it will be made.",
            )
        return [each for wanted, asked in zip(schema, columns, strict=True) for each in self._fitted(wanted, asked)]

    def _column(self, part: Part, wanted: pa.Field) -> Column:
        """Return the column that a field would make."""
        dialect = self.dialect
        dialect.check_name(wanted.name, f"Column {wanted.name!r} of the {part}", True)
        kind = dialect.column_type(wanted.type)
        if kind is None:
            raise SchemaError(
                f"Column {wanted.name!r} has type {wanted.type}, which {dialect.product} cannot hold.",
                "cast it in the source, or leave it out of source.keep.",
            )
        return Column(dialect.spelled(wanted.name), kind, comment_of(wanted.metadata))

    def _fitted(self, wanted: pa.Field, asked: Column) -> list[str]:
        """Plan one column of a table that is there."""
        held = self.relation.columns.get(wanted.name.lower())
        dialect, table = self.dialect, self.relation.sql
        if held is None:
            return [dialect.added(table, asked)]
        if types.is_null(wanted.type):
            return []
        wider = dialect.widened(held.type, asked.type)
        if wider is not None:
            return [] if wider == held.type else [dialect.retyped(table, Column(held.name, wider))]
        name = dialect.quoted(held.name)
        if self.is_free(self.relation, held):
            return [f"ALTER TABLE {table} DROP COLUMN {name}", dialect.added(table, asked)]
        rename = f"ALTER TABLE {table} RENAME COLUMN {name} TO {dialect.quoted(f'{held.name}_old')}"
        raise SchemaError(
            f"Column {wanted.name!r} of table {self.relation.name!r} is {held.type}, but the job gives {asked.type}.",
            f"cast it in the source, name another table, or keep the old values aside: {rename};",
        )
