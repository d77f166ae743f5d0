"""Arrow's types and PostgreSQL's: which column holds what, and what a column must become to hold more."""

from __future__ import annotations

import re

import pyarrow as pa
from pyarrow import types

from windrow.warehouses.widening import COMMON, plain, wider

__all__ = ["arrow_type", "column_type", "widened"]

_TYPES = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "character varying": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time without time zone": pa.time64("us"),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", tz="UTC"),
    "jsonb": pa.json_(),
}
_NAMES = {kind: name for name, kind in reversed(_TYPES.items())}
_IN_ARRAYS = {pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string()}
_STORED = {pa.int8(): pa.int16(), **COMMON}


def arrow_type(name: str) -> pa.DataType | None:
    """Return the Arrow type of a column by its type as the catalog writes it; None if Windrow makes no such columns.

    >>> arrow_type("numeric(9,2)"), arrow_type("real[]"), arrow_type("inet")
    (Decimal128Type(decimal128(9, 2)), ListType(list<item: float>), None)
    """
    if name.endswith("[]"):
        inner = _TYPES.get(name[:-2])
        return pa.list_(inner) if inner in _IN_ARRAYS else None
    if bounds := re.fullmatch(r"numeric\((\d+),(\d+)\)", name):
        precision, scale = int(bounds[1]), int(bounds[2])
        return pa.decimal128(precision, scale) if scale <= precision <= 38 else None
    return _TYPES.get(name)


def column_type(kind: pa.DataType) -> str | None:
    """Return the type of a column that holds every value of an Arrow type; None if there is none.

    Lists of numbers, truths or texts are arrays, other nested types are ``jsonb``; nanoseconds are taken as long as
    they are whole microseconds.

    >>> column_type(pa.uint64()), column_type(pa.list_(pa.float16())), column_type(pa.struct({"a": pa.int8()}))
    ('numeric(20,0)', 'real[]', 'jsonb')
    """
    stored = _stored(kind)
    if stored is None:
        return None
    if types.is_list(stored):
        return f"{_NAMES[stored.value_type]}[]"
    if types.is_decimal(stored):
        return f"numeric({stored.precision},{stored.scale})"
    return _NAMES.get(stored)


def widened(held: str, kind: pa.DataType) -> str | None:
    """Return the type that a column must become to hold an Arrow type too; None if no widening can.

    >>> widened("smallint", pa.int64()), widened("bigint", pa.int8()), widened("text", pa.int64())
    ('bigint', 'bigint', None)
    """
    mine, theirs = arrow_type(held), _stored(kind)
    if mine is None or theirs is None:
        return None
    if held == "jsonb":
        return held if types.is_nested(plain(kind)) else None
    wide = wider(mine, theirs)
    if wide is None:
        return None
    return held if wide == mine else column_type(wide)


def _stored(kind: pa.DataType) -> pa.DataType | None:
    """Return the Arrow type of the column that an Arrow type makes; JSON stands for ``jsonb``."""
    kind = plain(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)
    if types.is_timestamp(kind):
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if types.is_time(kind):
        return pa.time64("us")
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    if types.is_decimal(kind):
        return kind if kind.precision <= 38 and 0 <= kind.scale <= kind.precision else None
    if types.is_list(kind):
        inner = _stored(kind.value_type)
        return pa.list_(inner) if inner in _IN_ARRAYS and not types.is_null(kind.value_type) else pa.json_()
    if types.is_struct(kind) or types.is_map(kind):
        return pa.json_()
    stored = _STORED.get(kind, kind)
    return stored if stored in _NAMES or types.is_decimal(stored) else None
