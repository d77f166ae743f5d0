"""Nested values as JSON, for warehouses that hold them so, and back."""

from __future__ import annotations

import json
import re
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from pyarrow import compute, types

__all__ = ["from_json", "to_json", "without_nul"]

_ODD = r"NaN|Infinity|\\u0000"
_ODD_BYTES = (b"NaN", b"Infinity", rb"\u0000")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|NaN|-?Infinity')
_ESCAPE = re.compile(r"\\(?:u0000|.)")
_REPLACEMENT = "\ufffd"


def without_nul(texts: pa.Array) -> pa.Array:
    r"""Return texts with U+FFFD in place of each NUL, for what cannot hold it in a text.

    >>> without_nul(pa.array(["a\0b", None])).to_pylist()
    ['a\ufffdb', None]
    """
    data = texts.buffers()[2]
    if data is None or np.frombuffer(data, np.uint8).all():
        return texts
    return compute.replace_substring(texts, "\0", _REPLACEMENT)


def to_json(column: pa.Array, con: duckdb.DuckDBPyConnection) -> pa.Array:
    """Return nested values as JSON texts; numbers that JSON lacks become texts, as in PostgreSQL's ``to_jsonb``.

    >>> to_json(pa.array([[1.5, float("nan")], None]), duckdb.connect()).to_pylist()
    ['[1.5,"NaN"]', None]
    """
    con.execute("SET TimeZone = 'UTC'")
    arriving = pa.table({"value": column})  # noqa: F841 (DuckDB finds it by name)
    found = con.execute("SELECT to_json(value)::VARCHAR AS value FROM arriving").to_arrow_table()["value"]
    texts = pa.chunked_array(found.chunks, pa.string()).combine_chunks()
    data = texts.buffers()[2]
    if data is None or not any(word in data.to_pybytes() for word in _ODD_BYTES):
        return texts
    odd = compute.match_substring_regex(texts, _ODD)
    mended = pa.array([_mended(text) for text in texts.filter(odd).to_pylist()], pa.string())
    return compute.replace_with_mask(texts, compute.fill_null(odd, False), mended)


def from_json(texts: list[str | None], kind: pa.DataType | None) -> pa.Array:
    """Read JSON; values of too many shapes for Arrow stay texts.

    Args:
        texts: One JSON value each.
        kind: What they were written from; told from the values unless given: objects of different keys are maps.
    """
    values: list[Any] = [None if text is None else json.loads(text) for text in texts]
    keys = {tuple(value) for value in values if isinstance(value, dict)}
    if len(keys) > 1 or (kind is not None and types.is_map(kind)):
        values = [list(value.items()) if isinstance(value, dict) else value for value in values]
    try:
        if kind is None and len(keys) > 1:
            items = pa.array([item for value in values if value for _, item in value])
            kind = pa.map_(pa.string(), items.type)
        return _array(values, kind)
    except (pa.ArrowException, OverflowError, TypeError):
        return pa.array(texts, pa.string())


def _array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """Return values as Arrow; Arrow by itself takes a nested number above 2**63 for an error, not for a uint64."""
    try:
        return pa.array(values, kind)
    except OverflowError:
        if kind is not None:
            raise
    return pa.array(values, _unsigned(pa.array(_small(values)).type))


def _small(value: Any) -> Any:
    """Return a value with small numbers for its large ones."""
    if isinstance(value, dict):
        return {name: _small(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_small(part) for part in value]
    return 1 if isinstance(value, int) and value >= 1 << 63 else value


def _unsigned(kind: pa.DataType) -> pa.DataType:
    """Return a type with uint64 for its int64."""
    if types.is_list(kind):
        return pa.list_(_unsigned(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_unsigned(field.type)) for field in map(kind.field, range(kind.num_fields))])
    return pa.uint64() if kind == pa.int64() else kind


def _mended(text: str) -> str:
    r"""Quote the numbers that JSON lacks, and replace NUL.

    >>> _mended('[NaN,-Infinity,"NaN \\\\u0000 \\u0000"]')
    '["NaN","-Infinity","NaN \\\\u0000 \ufffd"]'
    """

    def token(found: re.Match[str]) -> str:
        if not found[0].startswith('"'):
            return f'"{found[0]}"'
        return _ESCAPE.sub(lambda escape: _REPLACEMENT if escape[0] == "\\u0000" else escape[0], found[0])

    return _TOKEN.sub(token, text)
