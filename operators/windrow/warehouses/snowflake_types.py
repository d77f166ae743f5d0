"""How Snowflake writes SQL, which types it has, and how its tables change."""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow import types

from windrow.duck import quoted
from windrow.errors import SchemaError
from windrow.warehouses.staged_catalog import Column, Dialect, is_nested
from windrow.warehouses.widening import plain

__all__ = ["SnowflakeDialect", "catalog_type"]

_NAME_CHARACTERS = 255
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_DIGITS = {
    pa.int8(): 3,
    pa.int16(): 5,
    pa.int32(): 10,
    pa.int64(): 19,
    pa.uint8(): 3,
    pa.uint16(): 5,
    pa.uint32(): 10,
    pa.uint64(): 20,
}
_TYPES = {
    "VARCHAR": pa.string(),
    "BINARY": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "FLOAT": pa.float64(),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
    "TIMESTAMP_TZ": pa.timestamp("us", tz="UTC"),
    "TIMESTAMP_LTZ": pa.timestamp("us", tz="UTC"),
    "VARIANT": pa.json_(),
    "ARRAY": pa.json_(),
    "OBJECT": pa.json_(),
}
_ALSO_HELD = {("TIMESTAMP_LTZ", "TIMESTAMP_TZ")}


class SnowflakeDialect(Dialect):
    """Snowflake's SQL. A plain name is written in upper case, as Snowflake does itself, so that nobody has to quote it.

    >>> SnowflakeDialect().spelled("review_id"), SnowflakeDialect().spelled("review id")
    ('REVIEW_ID', 'review id')
    """

    product = "Snowflake"

    def quoted(self, *parts: str | None) -> str:
        """Quote as in the standard."""
        return quoted(*parts)

    def literal(self, text: object) -> str:
        r"""Write a text as a literal, in which backslashes escape.

        >>> print(SnowflakeDialect().literal("it's \\n"))
        'it''s \\n'
        """
        return "'" + str(text).replace("\\", "\\\\").replace("'", "''") + "'"

    def spelled(self, name: str) -> str:
        """Return a plain name in upper case."""
        return name.upper() if _PLAIN.fullmatch(name) else name

    def shown(self, name: str) -> str:
        """Return a plain name in upper case as one in lower case."""
        return name.lower() if _PLAIN.fullmatch(name) and name.isupper() else name

    def check_name(self, name: str, where: str, is_column: bool) -> None:  # noqa: ARG002 (columns are no different)
        """Refuse a name that is too long."""
        if len(name) > _NAME_CHARACTERS:
            raise SchemaError(
                f"{where}: the name {name!r} has {len(name)} characters; Snowflake takes {_NAME_CHARACTERS}.",
                "choose a shorter name; rejects need nine characters more than the table.",
            )

    def column_type(self, kind: pa.DataType) -> str | None:
        """Return the type of a column.

        >>> SnowflakeDialect().column_type(pa.uint64()), SnowflakeDialect().column_type(pa.list_(pa.string()))
        ('NUMBER(20,0)', 'VARIANT')
        """
        kind = plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
        if kind in _DIGITS:
            return f"NUMBER({_DIGITS[kind]},0)"
        if types.is_decimal(kind):
            is_held = kind.precision <= 38 and 0 <= kind.scale <= min(kind.precision, 37)
            return f"NUMBER({kind.precision},{kind.scale})" if is_held else None
        if types.is_timestamp(kind):
            return "TIMESTAMP_TZ" if kind.tz else "TIMESTAMP_NTZ"
        if is_nested(kind):
            return "VARIANT"
        tests = {
            "FLOAT": types.is_floating,
            "VARCHAR": lambda kind: types.is_string(kind) or types.is_null(kind),
            "BINARY": lambda kind: types.is_binary(kind) or types.is_fixed_size_binary(kind),
            "BOOLEAN": types.is_boolean,
            "DATE": types.is_date,
            "TIME": types.is_time,
        }
        return next((name for name, is_one in tests.items() if is_one(kind)), None)

    def arrow_type(self, held: str) -> pa.DataType | None:
        """Return the Arrow type of what is read; whole numbers of up to 19 digits are integers."""
        if digits := _number(held):
            return pa.int64() if digits[1] == 0 and digits[0] <= 19 else pa.decimal128(*digits)
        return _TYPES.get(held)

    def widened(self, held: str, asked: str) -> str | None:
        """Return the type that a column must become: a number can get digits before its point, and nothing else.

        >>> SnowflakeDialect().widened("NUMBER(10,0)", "NUMBER(19,0)"), SnowflakeDialect().widened("FLOAT", "VARCHAR")
        ('NUMBER(19,0)', None)
        """
        if held == asked or (held, asked) in _ALSO_HELD or (asked == "VARIANT" and held in ("ARRAY", "OBJECT")):
            return held
        mine, theirs = _number(held), _number(asked)
        if not mine or not theirs or mine[1] < theirs[1] or (mine[1] > 0) != (theirs[1] > 0):
            return None
        digits = max(mine[0] - mine[1], theirs[0] - theirs[1]) + mine[1]
        return f"NUMBER({digits},{mine[1]})" if digits <= 38 else None

    def cast(self, value: str, held: str, is_json: bool = False) -> str:
        """Cast, or parse JSON."""
        if not is_json:
            return f"CAST({value} AS {held})"
        return f"PARSE_JSON({value})" if held == "VARIANT" else f"CAST(PARSE_JSON({value}) AS {held})"

    def as_text(self, value: str) -> str:
        """Cast to text."""
        return f"CAST({value} AS VARCHAR)"

    def deleted(self, table: str, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Delete by a join."""
        same = " AND ".join(
            f"{self.as_text(f't.{mine}')} = k.{theirs}" if is_text else f"t.{mine} IS NOT DISTINCT FROM k.{theirs}"
            for mine, theirs in pairs
        )
        return f"DELETE FROM {table} AS t USING {keys} AS k WHERE {same}"

    def created(self, table: str, columns: list[Column], comment: str) -> str:
        """Make a table, comments included."""
        made = ", ".join(map(self._defined, columns))
        told = f" COMMENT = {self.literal(comment)}" if comment else ""
        return f"CREATE TABLE IF NOT EXISTS {table} ({made}){told}"

    def added(self, table: str, column: Column) -> str:
        """Add a column, its comment included."""
        return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {self._defined(column)}"

    def _defined(self, column: Column) -> str:
        told = f" COMMENT {self.literal(column.comment)}" if column.comment else ""
        return f"{self.quoted(column.name)} {column.type}{told}"


def catalog_type(data_type: str, precision: int | None, scale: int | None) -> str:
    """Return a column's type as `SnowflakeDialect` writes it, from the information schema.

    >>> catalog_type("NUMBER", 38, 0), catalog_type("TEXT", None, None)
    ('NUMBER(38,0)', 'VARCHAR')
    """
    if data_type == "NUMBER":
        return f"NUMBER({precision},{scale})"
    return {"TEXT": "VARCHAR"}.get(data_type, data_type)


def _number(held: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"NUMBER\((\d+),(\d+)\)", held)
    return (int(found[1]), int(found[2])) if found else None
