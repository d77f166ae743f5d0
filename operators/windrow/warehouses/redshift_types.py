"""How Redshift writes SQL, which types it has, and how its tables change."""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow import types

from windrow.duck import literal, quoted
from windrow.errors import SchemaError
from windrow.warehouses.staged_catalog import Column, Dialect, is_nested
from windrow.warehouses.widening import COMMON, plain, wider

__all__ = ["RedshiftDialect", "catalog_type", "statements_of"]

_NAME_BYTES = 127
_TEXT, _BYTES = "VARCHAR(65535)", "VARBYTE(16777216)"
_TYPES = {
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "REAL": pa.float32(),
    "DOUBLE PRECISION": pa.float64(),
    "BOOLEAN": pa.bool_(),
    _TEXT: pa.string(),
    _BYTES: pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", tz="UTC"),
    "SUPER": pa.json_(),
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_STORED = {pa.int8(): pa.int16(), **COMMON}
_CATALOG = {
    "character varying": _TEXT,
    "binary varying": _BYTES,
    "time without time zone": "TIME",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMPTZ",
}
_END = ";\n"


def catalog_type(told: str) -> str:
    """Return a type as Windrow writes it, from the way the catalog does.

    >>> catalog_type("character varying(300)"), catalog_type("numeric(9,2)"), catalog_type("super")
    ('VARCHAR(65535)', 'DECIMAL(9,2)', 'SUPER')
    """
    if told.startswith("numeric("):
        return told.replace("numeric", "DECIMAL")
    return _CATALOG.get(told.partition("(")[0], told.upper())


def statements_of(text: str) -> list[str]:
    """Take apart what a dialect gives as one."""
    return text.split(_END)


class RedshiftDialect(Dialect):
    """Redshift's SQL. Names are in lower case, as Redshift makes them itself, quoted or not."""

    product = "Redshift"

    def quoted(self, *parts: str | None) -> str:
        """Quote as in the standard."""
        return quoted(*(part and self.spelled(part) for part in parts))

    def literal(self, text: object) -> str:
        r"""Write a text as a literal, in which backslashes escape.

        >>> print(RedshiftDialect().literal("it's \\n"))
        'it''s \\n'
        """
        return literal(str(text).replace("\\", "\\\\"))

    def spelled(self, name: str) -> str:
        """Return a name with its ASCII letters in lower case."""
        return "".join(letter.lower() if letter.isascii() else letter for letter in name)

    def check_name(self, name: str, where: str, is_column: bool) -> None:  # noqa: ARG002 (columns are no different)
        """Refuse a name that is too long."""
        size = len(name.encode())
        if size > _NAME_BYTES:
            problem = f"{where}: the name {name!r} has {size} bytes; Redshift takes {_NAME_BYTES}."
            raise SchemaError(problem, "choose a shorter name; rejects need nine bytes more than the table.")

    def column_type(self, kind: pa.DataType) -> str | None:
        """Return the type of a column.

        >>> RedshiftDialect().column_type(pa.uint64()), RedshiftDialect().column_type(pa.list_(pa.string()))
        ('DECIMAL(20,0)', 'SUPER')
        """
        kind = plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
        if is_nested(kind):
            return "SUPER"
        if types.is_timestamp(kind):
            return "TIMESTAMPTZ" if kind.tz else "TIMESTAMP"
        if types.is_time(kind):
            return "TIME"
        if types.is_fixed_size_binary(kind):
            return _BYTES
        kind = _STORED.get(kind, kind)
        if types.is_decimal(kind):
            is_held = kind.precision <= 38 and 0 <= kind.scale <= min(kind.precision, 37)
            return f"DECIMAL({kind.precision},{kind.scale})" if is_held else None
        return _NAMES.get(kind)

    def arrow_type(self, held: str) -> pa.DataType | None:
        """Return the Arrow type of what is read."""
        if bounds := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", held):
            return pa.decimal128(int(bounds[1]), int(bounds[2]))
        return _TYPES.get(held)

    def widened(self, held: str, asked: str) -> str | None:
        """Return the type that a column must become.

        >>> RedshiftDialect().widened("INTEGER", "BIGINT"), RedshiftDialect().widened("SUPER", "VARCHAR(65535)")
        ('BIGINT', None)
        """
        if held == asked:
            return held
        mine, theirs = self.arrow_type(held), self.arrow_type(asked)
        if mine is None or theirs is None or "SUPER" in (held, asked):
            return None
        wide = wider(mine, theirs)
        return held if wide == mine else self.column_type(wide) if wide is not None else None

    def cast(self, value: str, held: str, is_json: bool = False) -> str:
        """Cast, or parse JSON; moments are staged as UTC, without a zone."""
        if is_json:
            return f"JSON_PARSE({value})"
        if held == "TIMESTAMPTZ" and not value.startswith("'"):
            return f"({value} AT TIME ZONE 'UTC')"
        return f"CAST({value} AS {held})"

    def as_text(self, value: str) -> str:
        """Cast to text."""
        return f"CAST({value} AS {_TEXT})"

    def deleted(self, table: str, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Delete by a condition; keys are compared as texts, in which null has one of its own."""

        def told(value: str) -> str:
            return self.as_text(value) if is_text else f"NVL('=' || {self.as_text(value)}, '')"

        mine = ", ".join(told(name) for name, _ in pairs)
        theirs = ", ".join(name if is_text else told(name) for _, name in pairs)
        return f"DELETE FROM {table} WHERE ({mine}) IN (SELECT {theirs} FROM {keys})"

    def created(self, table: str, columns: list[Column], comment: str) -> str:
        """Make a table, then say what it means."""
        made = ", ".join(f"{self.quoted(column.name)} {column.type}" for column in columns)
        told = [f"COMMENT ON TABLE {table} IS {self.literal(comment)}"] if comment else []
        return _END.join([f"CREATE TABLE IF NOT EXISTS {table} ({made})", *told, *self._meanings(table, columns)])

    def added(self, table: str, column: Column) -> str:
        """Add a column, then say what it means."""
        added = f"ALTER TABLE {table} ADD COLUMN {self.quoted(column.name)} {column.type}"
        return _END.join([added, *self._meanings(table, [column])])

    def retyped(self, table: str, column: Column) -> str:
        """Widen a column by way of another, since Redshift widens none but texts."""
        name, new = self.quoted(column.name), self.quoted(f"{column.name[:110]}_windrow_new")
        return _END.join(
            [
                f"ALTER TABLE {table} ADD COLUMN {new} {column.type}",
                f"UPDATE {table} SET {new} = CAST({name} AS {column.type})",
                f"ALTER TABLE {table} DROP COLUMN {name}",
                f"ALTER TABLE {table} RENAME COLUMN {new} TO {name}",
            ]
        )

    def _meanings(self, table: str, columns: list[Column]) -> list[str]:
        return [
            f"COMMENT ON COLUMN {table}.{self.quoted(column.name)} IS {self.literal(column.comment)}"
            for column in columns
            if column.comment
        ]
