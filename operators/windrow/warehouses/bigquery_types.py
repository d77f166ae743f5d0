"""How BigQuery writes SQL, which types it has, and how its tables change."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import pyarrow as pa
from pyarrow import types

from windrow.errors import SchemaError
from windrow.warehouses.staged_catalog import Column, Dialect, is_nested
from windrow.warehouses.staged_rows import sent_type
from windrow.warehouses.widening import plain

__all__ = ["BigQueryDialect", "catalog_type", "sent"]

_COLUMN_CHARACTERS = 300
_TABLE_BYTES = 1024
_ODD = re.compile(r'[!"$()*,./;?@\[\]\\^`{}~]')
_KEPT = re.compile(r"(?i)_(TABLE_|FILE_|PARTITION|ROW_TIMESTAMP|_ROOT__|COLIDENTIFIER|CHANGE_)")
_IN_TABLES = {"L", "M", "N"}
_TYPES = {
    "INT64": pa.int64(),
    "FLOAT64": pa.float64(),
    "BOOL": pa.bool_(),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    "JSON": pa.json_(),
    "ARRAY<FLOAT64>": pa.list_(pa.float64()),
}
_OLD_NAMES = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "RECORD": "STRUCT"}
_WHOLE = {"NUMERIC": (38, 9), "BIGNUMERIC": (76, 38)}


def sent(kind: pa.DataType) -> pa.DataType:
    """Return the type in Parquet: vectors are arrays, other nested values JSON, moments in microseconds.

    >>> sent(pa.list_(pa.float32())), sent(pa.list_(pa.string()))
    (ListType(list<item: double>), DataType(string))
    """
    kind = plain(kind)
    return pa.list_(pa.float64()) if _is_vector(kind) else sent_type(kind, "us")


class BigQueryDialect(Dialect):
    """GoogleSQL."""

    product = "BigQuery"

    def quoted(self, *parts: str | None) -> str:
        r"""Quote with backticks, in which backslashes escape.

        >>> print(BigQueryDialect().quoted("project-1", "select", "odd`name"))
        `project-1`.`select`.`odd\`name`
        """
        escaped = [part.replace("\\", "\\\\").replace("`", "\\`") for part in parts if part is not None]
        return ".".join(f"`{part}`" for part in escaped)

    def literal(self, text: object) -> str:
        r"""Write a text as a literal, in which backslashes escape.

        >>> print(BigQueryDialect().literal("it's \\"))
        'it\'s \\'
        """
        escaped = str(text).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r")
        return f"'{escaped}'"

    def check_name(self, name: str, where: str, is_column: bool) -> None:
        """Refuse a name that is too long or has what BigQuery allows in none."""
        if is_column:
            is_fine = len(name) <= _COLUMN_CHARACTERS and not _ODD.search(name) and not _KEPT.match(name)
        else:
            signs = all(unicodedata.category(each)[0] in _IN_TABLES or each in "_- " for each in name)
            is_fine = len(name.encode()) <= _TABLE_BYTES and signs
        if not is_fine:
            raise SchemaError(
                f"{where}: BigQuery cannot take the name {name!r}.",
                "choose one of letters, digits and underscores, shorter than 300 characters.",
            )

    def column_type(self, kind: pa.DataType) -> str | None:
        """Return the type of a column.

        >>> BigQueryDialect().column_type(pa.uint64()), BigQueryDialect().column_type(pa.decimal128(38, 20))
        ('NUMERIC(20,0)', 'BIGNUMERIC(38,20)')
        """
        kind = plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
        if types.is_decimal(kind) or types.is_uint64(kind):
            return _numeric(kind.precision, kind.scale) if types.is_decimal(kind) else _numeric(20, 0)
        if is_nested(kind):
            return "ARRAY<FLOAT64>" if _is_vector(kind) else "JSON"
        if types.is_timestamp(kind):
            return "TIMESTAMP" if kind.tz else "DATETIME"
        tests = {
            "INT64": types.is_integer,
            "FLOAT64": types.is_floating,
            "BOOL": types.is_boolean,
            "STRING": lambda kind: types.is_string(kind) or types.is_null(kind),
            "BYTES": lambda kind: types.is_binary(kind) or types.is_fixed_size_binary(kind),
            "DATE": types.is_date,
            "TIME": types.is_time,
        }
        return next((name for name, is_one in tests.items() if is_one(kind)), None)

    def arrow_type(self, held: str) -> pa.DataType | None:
        """Return the Arrow type of what is read."""
        if digits := _digits(held):
            return pa.decimal128(*digits[1:]) if digits[1] <= 38 else pa.decimal256(*digits[1:])
        return _TYPES.get(held)

    def widened(self, held: str, asked: str) -> str | None:
        """Return the type that a column must become: decimals can get more digits, and nothing else.

        >>> BigQueryDialect().widened("NUMERIC(5,2)", "NUMERIC(9,4)"), BigQueryDialect().widened("INT64", "STRING")
        ('NUMERIC(9,4)', None)
        """
        mine, theirs = _digits(held), _digits(asked)
        if held == asked or not mine or not theirs:
            return held if held == asked else None
        scale = max(mine[2], theirs[2])
        precision = max(mine[1] - mine[2], theirs[1] - theirs[2]) + scale
        if (precision, scale) == mine[1:]:
            return held
        wide = _numeric(precision, scale)
        return f"BIGNUMERIC({precision},{scale})" if wide and mine[0] == "BIGNUMERIC" else wide

    def cast(self, value: str, held: str, is_json: bool = False) -> str:
        """Cast, or parse JSON."""
        if is_json:
            return f"PARSE_JSON({value}, wide_number_mode => 'round')"
        return value if held.startswith("ARRAY<") else f"CAST({value} AS {held})"

    def as_text(self, value: str) -> str:
        """Cast to text."""
        return f"CAST({value} AS STRING)"

    def deleted(self, table: str, keys: str, pairs: list[tuple[str, str]], is_text: bool) -> str:
        """Delete where a key exists; compared as JSON, in which null equals null."""
        how = (lambda text: text) if is_text else (lambda text: f"TO_JSON_STRING({text})")
        same = " AND ".join(
            f"{self.as_text(f't.{mine}') if is_text else how(f't.{mine}')} = {how(f'k.{theirs}')}"
            for mine, theirs in pairs
        )
        return f"DELETE FROM {table} AS t WHERE EXISTS (SELECT 1 FROM {keys} AS k WHERE {same})"

    def created(self, table: str, columns: list[Column], comment: str) -> str:
        """Make a table, clustered by what every publish looks for."""
        made = ", ".join(map(self._defined, columns))
        is_clustered = any(column.name == "windrow_partition" for column in columns)
        cluster = " CLUSTER BY windrow_partition" if is_clustered else ""
        return f"CREATE TABLE IF NOT EXISTS {table} ({made}){cluster}{self._described(comment)}"

    def added(self, table: str, column: Column) -> str:
        """Add a column."""
        return f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {self._defined(column)}"

    def _defined(self, column: Column) -> str:
        return f"{self.quoted(column.name)} {column.type}{self._described(column.comment)}"

    def _described(self, comment: str) -> str:
        return f" OPTIONS(description={self.literal(comment)})" if comment else ""


def catalog_type(found: Any) -> str:
    """Return a column's type as `BigQueryDialect` writes it.

    Args:
        found: A ``SchemaField``.
    """
    kind = _OLD_NAMES.get(found.field_type, found.field_type)
    if kind in _WHOLE:
        precision, scale = (found.precision, found.scale or 0) if found.precision else _WHOLE[kind]
        kind = f"{kind}({precision},{scale})"
    return f"ARRAY<{kind}>" if found.mode == "REPEATED" else kind


def _is_vector(kind: pa.DataType) -> bool:
    return bool(types.is_list(kind) and types.is_floating(kind.value_type))


def _numeric(precision: int, scale: int) -> str | None:
    """Return the type of a decimal; None if it has too many digits.

    >>> _numeric(9, 2), _numeric(38, 38), _numeric(76, 10)
    ('NUMERIC(9,2)', 'BIGNUMERIC(38,38)', None)
    """
    if not 0 <= scale <= 38 or not 0 <= precision - scale <= 38:
        return None
    return f"{'NUMERIC' if scale <= 9 and precision - scale <= 29 else 'BIGNUMERIC'}({precision},{scale})"


def _digits(held: str) -> tuple[str, int, int] | None:
    found = re.fullmatch(r"(NUMERIC|BIGNUMERIC)\((\d+),(\d+)\)", held)
    return (found[1], int(found[2]), int(found[3])) if found else None
