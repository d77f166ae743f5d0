"""How a column's Arrow type may change: widened, never narrowed; for warehouses that tell their types in Arrow."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import types

__all__ = ["COMMON", "holds", "plain", "wider"]

COMMON = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}
"""The next type that holds every value, where a database lacks the type itself; most lack these."""
_SIGNED = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
_UNSIGNED = [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_FLOATS = [pa.float16(), pa.float32(), pa.float64()]


def plain(kind: pa.DataType) -> pa.DataType:
    """Return the type without what only says how its values are laid out in memory.

    >>> plain(pa.dictionary(pa.int8(), pa.large_string()))
    DataType(string)
    """
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return pa.list_(plain(kind.value_type))
    if types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(part.name, plain(part.type)) for part in kind])
    if types.is_decimal(kind):
        return pa.decimal128(kind.precision, kind.scale) if kind.precision <= 38 else kind
    return kind


def holds(held: pa.DataType, asked: pa.DataType) -> bool:
    """Tell whether a column of type `held` holds every value of type `asked` unchanged.

    >>> holds(pa.int64(), pa.int32()), holds(pa.int32(), pa.int64()), holds(pa.string(), pa.int32())
    (True, False, False)
    """
    return bool(wider(held, asked) == plain(held))


def wider(held: pa.DataType, asked: pa.DataType) -> pa.DataType | None:
    """Return the type that a column must become to hold both; None if no widening can.

    >>> wider(pa.list_(pa.float32()), pa.list_(pa.float64()))
    ListType(list<item: double>)
    >>> wider(pa.decimal128(5, 2), pa.decimal128(6, 1))
    Decimal128Type(decimal128(7, 2))
    >>> wider(pa.int64(), pa.string()) is None
    True
    """
    held, asked = plain(held), plain(asked)
    if held == asked:
        return held
    for chain in (_SIGNED, _UNSIGNED, _FLOATS):
        if held in chain and asked in chain:
            return chain[max(chain.index(held), chain.index(asked))]
    if held in _SIGNED and asked in _UNSIGNED and asked != pa.uint64():
        return _SIGNED[max(_SIGNED.index(held), _UNSIGNED.index(asked) + 1)]
    if types.is_decimal(held) and types.is_decimal(asked):
        scale = max(held.scale, asked.scale)
        precision = max(held.precision - held.scale, asked.precision - asked.scale) + scale
        return pa.decimal128(precision, scale) if precision <= 38 else None
    if types.is_list(held) and types.is_list(asked):
        inner = wider(held.value_type, asked.value_type)
        return pa.list_(inner) if inner else None
    return None
