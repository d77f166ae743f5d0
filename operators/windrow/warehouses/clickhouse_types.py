"""How ClickHouse writes SQL, which types it has, and how its tables change."""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow import types

from windrow.errors import SchemaError
from windrow.warehouses.staged_catalog import Column, Dialect, is_nested
from windrow.warehouses.widening import plain, wider

__all__ = ["PARTITION", "ClickHouseDialect", "literal", "quoted"]

PARTITION = "windrow_partition"
_NAME_BYTES = 200
"""Names are names of files, too, and are written longer there if they have odd characters."""
_NUMBERS = {
    "Int8": pa.int8(),
    "Int16": pa.int16(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "UInt8": pa.uint8(),
    "UInt16": pa.uint16(),
    "UInt32": pa.uint32(),
    "UInt64": pa.uint64(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
}
_TYPES = {**_NUMBERS, "Bool": pa.bool_(), "String": pa.string(), "Date32": pa.date32()}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_MOMENT = "DateTime64(6, 'UTC')"
_MARKED = {"JSON text": "Nullable(String)", "bytes": "Nullable(String)", "wall time": f"Nullable({_MOMENT})"}
"""What ClickHouse has no type of its own for, and the type that holds it; the column's comment ends with the name."""
_MARK = re.compile(rf" ?\(({'|'.join(_MARKED)})\)$")
_SORTABLE = {"Nullable(String)", "Nullable(Int64)"}
"""Types of a key that never have to be widened, which a sorting key cannot be."""


def quoted(*parts: str | None) -> str:
    r"""Quote the parts of a name and join them by dots.

    >>> print(quoted("analytics", "odd`name"))
    `analytics`.`odd\`name`
    """
    return ".".join("`" + part.replace("\\", "\\\\").replace("`", "\\`") + "`" for part in parts if part is not None)


def literal(text: object) -> str:
    r"""Write a text as a literal, in which backslashes escape.

    >>> print(literal("it's \\n"))
    'it\'s \\n'
    """
    return "'" + str(text).replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


class ClickHouseDialect(Dialect):
    """ClickHouse's SQL; its types, and three more that are told by a column's comment."""

    product = "ClickHouse"

    def quoted(self, *parts: str | None) -> str:
        """Quote with backticks."""
        return quoted(*parts)

    def literal(self, text: object) -> str:
        """Write a text as a literal."""
        return literal(text)

    def check_name(self, name: str, where: str, is_column: bool) -> None:  # noqa: ARG002 (columns are no different)
        """Refuse a name that does not fit into that of a file."""
        size = sum(1 if (chr(byte).isalnum() and byte < 128) or byte == 95 else 3 for byte in name.encode())
        if size > _NAME_BYTES:
            problem = (
                f"{where}: the name {name!r} takes {size} bytes in ClickHouse's file names, more than {_NAME_BYTES}."
            )
            raise SchemaError(problem, "choose a shorter name; rejects need nine bytes more than the table.")

    def column_type(self, kind: pa.DataType) -> str | None:
        """Return the type of a column; lists of floats are arrays, other nested values JSON.

        >>> dialect = ClickHouseDialect()
        >>> dialect.column_type(pa.uint64()), dialect.column_type(pa.list_(pa.float32()))
        ('Nullable(UInt64)', 'Array(Float32)')
        """
        kind = plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
        if is_vector(kind):
            return f"Array({_NAMES[_float(kind.value_type)]})"
        if is_nested(kind):
            return "JSON text"
        if types.is_decimal(kind):
            return f"Nullable(Decimal({kind.precision}, {kind.scale}))" if _is_decimal(kind) else None
        if types.is_timestamp(kind):
            return f"Nullable({_MOMENT})" if kind.tz else "wall time"
        if types.is_binary(kind) or types.is_fixed_size_binary(kind):
            return "bytes"
        name = _NAMES.get({pa.date64(): pa.date32(), pa.null(): pa.string()}.get(kind, _float(kind)))
        return f"Nullable({name})" if name else None

    def arrow_type(self, held: str) -> pa.DataType | None:
        """Return the Arrow type of what is read."""
        marked = {"JSON text": pa.json_(), "bytes": pa.binary(), "wall time": pa.timestamp("us")}
        if held in marked:
            return marked[held]
        name = _bare(held)
        if inner := re.fullmatch(r"Array\((\w+)\)", name):
            return pa.list_(_NUMBERS[inner[1]]) if inner[1] in _NUMBERS else None
        if bounds := re.fullmatch(r"Decimal\((\d+), (\d+)\)", name):
            return pa.decimal128(int(bounds[1]), int(bounds[2])) if int(bounds[1]) <= 38 else None
        if moment := re.fullmatch(r"DateTime64\(([36])(?:, '[^']+')?\)", name):
            return pa.timestamp("us" if moment[1] == "6" else "ms", tz="UTC")
        return _TYPES.get(name)

    def widened(self, held: str, asked: str) -> str | None:
        """Return the type that a column must become.

        >>> dialect = ClickHouseDialect()
        >>> dialect.widened("Nullable(Int32)", "Nullable(Int64)"), dialect.widened("Nullable(String)", "JSON text")
        ('Nullable(Int64)', None)
        """
        if held == asked:
            return held
        if held in _MARKED or asked in _MARKED:
            return None
        mine, theirs = self.arrow_type(held), self.arrow_type(asked)
        wide = wider(mine, theirs) if mine is not None and theirs is not None else None
        if wide is None:
            return None
        return held if wide == mine else self.column_type(wide)

    def cast(self, value: str, held: str, is_json: bool = False) -> str:  # noqa: ARG002 (JSON is held as it comes)
        """Cast; a text that tells a moment is read in any of the usual forms."""
        kind = _MARKED.get(held, held)
        if _MOMENT in kind and value.startswith("'"):
            return f"parseDateTime64BestEffort({value}, 6, 'UTC')"
        return f"CAST({value} AS {kind})"

    def as_text(self, value: str) -> str:
        """Cast to text."""
        return f"toString({value})"

    def deleted(self, table: str, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Delete by a condition, from the files as well."""
        return f"ALTER TABLE {table} DELETE WHERE {self.among(keys, pairs, is_text)}"

    def among(self, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Return the condition that a row's columns equal those of a table of keys."""
        mine = ", ".join(self.as_text(name) if is_text else name for name, _ in pairs)
        return f"({mine}) IN (SELECT {', '.join(name for _, name in pairs)} FROM {keys})"

    def created(self, table: str, columns: list[Column], comment: str) -> str:
        """Make a table, by partition where it has any, sorted by its first column where that can stay as it is."""
        made = ", ".join(map(self._defined, columns))
        parts = f" PARTITION BY {quoted(PARTITION)}" if any(column.name == PARTITION for column in columns) else ""
        first = quoted(columns[0].name) if columns[0].type in _SORTABLE else "tuple()"
        told = f" COMMENT {literal(comment)}" if comment else ""
        return (
            f"CREATE TABLE IF NOT EXISTS {table} ({made}) ENGINE = MergeTree{parts} ORDER BY {first}"
            f" SETTINGS allow_nullable_key = 1{told}"
        )

    def added(self, table: str, column: Column) -> str:
        """Add a column, with its comment."""
        return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {self._defined(column)}"

    def retyped(self, table: str, column: Column) -> str:
        """Widen a column."""
        return f"ALTER TABLE {table} MODIFY COLUMN {quoted(column.name)} {_MARKED.get(column.type, column.type)}"

    def held_type(self, kind: str, comment: str) -> str:
        """Return a column's type, with what its comment says of it.

        >>> ClickHouseDialect().held_type("Nullable(String)", "Entities of the text. (JSON text)")
        'JSON text'
        """
        mark = _MARK.search(comment)
        return mark[1] if mark and _MARKED[mark[1]] == kind else kind

    def _defined(self, column: Column) -> str:
        kind = "String" if column.name == PARTITION else _MARKED.get(column.type, column.type)
        mark = f"({column.type})" if column.type in _MARKED else ""
        comment = f"{column.comment} {mark}".strip()
        return f"{quoted(column.name)} {kind}{f' COMMENT {literal(comment)}' if comment else ''}"


def is_vector(kind: pa.DataType) -> bool:
    """Tell whether values of an Arrow type are lists of floats."""
    return bool(types.is_list(plain(kind)) and types.is_floating(plain(kind).value_type))


def _float(kind: pa.DataType) -> pa.DataType:
    return pa.float32() if types.is_float16(kind) else kind


def _is_decimal(kind: pa.DataType) -> bool:
    return bool(kind.precision <= 38 and 0 <= kind.scale <= kind.precision)


def _bare(held: str) -> str:
    """Return a type without what only says how it is stored.

    >>> _bare("LowCardinality(Nullable(String))")
    'String'
    """
    while found := re.fullmatch(r"(?:LowCardinality|Nullable)\((.*)\)", held):
        held = found[1]
    return held
