"""Columns of PostgreSQL as Arrow, nested values included."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyarrow import types

from windrow.duck import quoted
from windrow.warehouses.nested import from_json
from windrow.warehouses.postgres_catalog import Column
from windrow.warehouses.postgres_types import arrow_type

__all__ = ["decoded", "selected"]


def selected(column: Column) -> str:
    """Return what to select of a column: types that the driver does not read as they are come as text."""
    name = quoted(column.name)
    return f"{name}::text AS {name}" if _as_text(arrow_type(column.type)) else name


def decoded(found: pa.Table, columns: list[Column], known: Mapping[str, pa.DataType]) -> pa.Table:
    """Return what was selected with the types that it was written with.

    Args:
        found: One column for each of `columns`, in their order.
        known: Types of nested columns. Others are told from their values: objects of different keys are maps.
    """
    arrays = []
    for values, column in zip(found.columns, columns, strict=True):
        kind = arrow_type(column.type)
        if isinstance(kind, pa.JsonType):
            arrays.append(from_json(values.to_pylist(), known.get(column.name)))
        else:
            arrays.append(values if kind is None or values.type == kind else values.cast(kind))
    return pa.table(arrays, names=[column.name for column in columns])


def _as_text(kind: pa.DataType | None) -> bool:
    return kind is None or types.is_decimal(kind) or isinstance(kind, pa.JsonType)
