"""How Databricks writes SQL, which types it has, and how its tables change."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa
from pyarrow import types

from windrow.errors import SchemaError
from windrow.warehouses.staged_catalog import Column, Dialect, is_nested
from windrow.warehouses.widening import COMMON, plain, wider

__all__ = ["PARTITION", "DatabricksDialect", "literal", "quoted"]

PARTITION = "windrow_partition"
_NAME_CHARACTERS = 255
_TYPES = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "STRING": pa.string(),
    "BINARY": pa.binary(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "TIMESTAMP_NTZ": pa.timestamp("us"),
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_IN_JSON = {pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string()}
"""What comes back from JSON as it was."""
_TOKEN = re.compile(r"\s*(`(?:[^`]|``)*`|decimal\(\d+,\s*\d+\)|[^<>,:\s]+|[<>,:])", re.IGNORECASE)
_PROPERTIES = (
    "'delta.columnMapping.mode' = 'name', 'delta.enableTypeWidening' = 'true', 'delta.isolationLevel' = 'Serializable'"
)
"""Names of any characters, columns that widen, and writers that never miss each other."""


def quoted(*parts: str | None) -> str:
    """Quote the parts of a name and join them by dots.

    >>> quoted("main", "odd`name")
    '`main`.`odd``name`'
    """
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts if part is not None)


def literal(text: object) -> str:
    r"""Write a text as a literal, in which backslashes escape.

    >>> print(literal("it's \\n"))
    'it\'s \\n'
    """
    return "'" + str(text).replace("\\", "\\\\").replace("'", "\\'") + "'"


class DatabricksDialect(Dialect):
    """Databricks' SQL over Delta tables; nested values are held as such."""

    product = "Databricks"

    def quoted(self, *parts: str | None) -> str:
        """Quote with backticks."""
        return quoted(*parts)

    def literal(self, text: object) -> str:
        """Write a text as a literal."""
        return literal(text)

    def check_name(self, name: str, where: str, is_column: bool) -> None:
        """Refuse a name that Unity Catalog does not take."""
        odd = [] if is_column else [letter for letter in "./ " if letter in name]
        if len(name) > _NAME_CHARACTERS or odd:
            what = f"has {odd[0]!r} in it" if odd else f"has {len(name)} characters, more than {_NAME_CHARACTERS}"
            raise SchemaError(f"{where}: the name {name!r} {what}.", "choose another name.")

    def column_type(self, kind: pa.DataType) -> str | None:
        """Return the type of a column.

        >>> DatabricksDialect().column_type(pa.list_(pa.struct([("word", pa.string()), ("score", pa.float32())])))
        'ARRAY<STRUCT<`word`: STRING, `score`: FLOAT>>'
        """
        stored = _stored(plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind))
        return _written(stored) if stored is not None else None

    def arrow_type(self, held: str) -> pa.DataType | None:
        """Return the Arrow type of what is read.

        >>> DatabricksDialect().arrow_type("array<struct<word:string,price:decimal(5,2)>>")
        ListType(list<item: struct<word: string, price: decimal128(5, 2)>>)
        """
        try:
            return _parsed(iter([*_TOKEN.findall(held), ""]))[0]
        except (KeyError, StopIteration):
            return None

    def widened(self, held: str, asked: str) -> str | None:
        """Return the type that a column must become.

        >>> DatabricksDialect().widened("int", "BIGINT"), DatabricksDialect().widened("string", "INT")
        ('BIGINT', None)
        """
        mine, theirs = self.arrow_type(held), self.arrow_type(asked)
        wide = wider(mine, theirs) if mine is not None and theirs is not None else None
        if wide is None:
            return None
        if wide == mine:
            return held
        return None if is_nested(wide) else self.column_type(wide)

    def cast(self, value: str, held: str, is_json: bool = False) -> str:
        """Cast, or parse JSON into the column's type."""
        if is_json:
            return f"from_json({value}, {literal(held)}, map('mode', 'FAILFAST'))"
        return f"CAST({value} AS {held})"

    def as_text(self, value: str) -> str:
        """Cast to text."""
        return f"CAST({value} AS STRING)"

    def deleted(self, table: str, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Delete by a condition."""
        same = " AND ".join(
            f"{self.as_text(f't.{mine}')} = k.{theirs}" if is_text else f"t.{mine} <=> k.{theirs}"
            for mine, theirs in pairs
        )
        return f"DELETE FROM {table} AS t WHERE EXISTS (SELECT 1 FROM {keys} AS k WHERE {same})"

    def created(self, table: str, columns: list[Column], comment: str) -> str:
        """Make a table, by partition where it has any."""
        made = ", ".join(map(self._defined, columns))
        parts = f" PARTITIONED BY ({quoted(PARTITION)})" if any(column.name == PARTITION for column in columns) else ""
        told = f" COMMENT {literal(comment)}" if comment else ""
        return f"CREATE TABLE IF NOT EXISTS {table} ({made}){parts}{told} TBLPROPERTIES ({_PROPERTIES})"

    def added(self, table: str, column: Column) -> str:
        """Add a column, with its comment."""
        return f"ALTER TABLE {table} ADD COLUMN {self._defined(column)}"

    def retyped(self, table: str, column: Column) -> str:
        """Widen a column."""
        return f"ALTER TABLE {table} ALTER COLUMN {quoted(column.name)} TYPE {column.type}"

    def _defined(self, column: Column) -> str:
        comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
        return f"{quoted(column.name)} {column.type}{comment}"


def _stored(kind: pa.DataType, is_inner: bool = False) -> pa.DataType | None:
    """Return the type that holds an Arrow type's values; nested ones travel as JSON."""
    if types.is_list(kind):
        inner = _stored(kind.value_type, True)
        return pa.list_(inner) if inner is not None else None
    if types.is_struct(kind):
        parts = [(part.name, _stored(part.type, True)) for part in kind]
        return pa.struct(parts) if parts and all(part is not None for _, part in parts) else None
    if types.is_map(kind):
        item = _stored(kind.item_type, True)
        return pa.map_(pa.string(), item) if item is not None and types.is_string(kind.key_type) else None
    if types.is_timestamp(kind):
        kind = pa.timestamp("us", tz="UTC" if kind.tz else None)
    elif types.is_fixed_size_binary(kind):
        kind = pa.binary()
    kind = COMMON.get(kind, kind)
    if types.is_decimal(kind):
        is_held = kind.precision <= 38 and 0 <= kind.scale <= kind.precision
        return kind if is_held else None
    return kind if kind in (_IN_JSON if is_inner else _NAMES) else None


def _written(kind: pa.DataType) -> str:
    if types.is_list(kind):
        return f"ARRAY<{_written(kind.value_type)}>"
    if types.is_struct(kind):
        return f"STRUCT<{', '.join(f'{quoted(part.name)}: {_written(part.type)}' for part in kind)}>"
    if types.is_map(kind):
        return f"MAP<STRING, {_written(kind.item_type)}>"
    if types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _NAMES[kind]


def _parsed(tokens: Iterator[str]) -> tuple[pa.DataType, str]:
    """Read a type; return it and the token that follows."""
    word = next(tokens).upper()
    if word in ("ARRAY", "MAP"):
        next(tokens)
        first, _ = _parsed(tokens)
        if word == "ARRAY":
            return pa.list_(first), next(tokens)
        return pa.map_(first, _parsed(tokens)[0]), next(tokens)
    if word == "STRUCT":
        next(tokens)
        parts, after = [], ","
        while after == ",":
            name = next(tokens)
            next(tokens)
            kind, after = _parsed(tokens)
            parts.append((name.strip("`").replace("``", "`"), kind))
        return pa.struct(parts), next(tokens)
    if bounds := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", word):
        return pa.decimal128(int(bounds[1]), int(bounds[2])), next(tokens)
    return _TYPES[word], next(tokens)
