"""Columns of lakes: which type holds an Arrow type's values unchanged, and how a table comes to have what is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
from pyarrow import types

from windrow.errors import SchemaError
from windrow.warehouses.base import comment_of
from windrow.warehouses.widening import holds, plain, wider

__all__ = ["LeafRule", "fitted", "planned", "stored", "widened"]

LeafRule = Callable[[pa.DataType], pa.DataType | None]
"""From a type without parts to the one that holds its values unchanged in a lake; None if none does."""


def stored(kind: pa.DataType, leaf: LeafRule) -> pa.DataType | None:
    """Return the type that holds values of `kind` unchanged; None if none does.

    >>> stored(pa.list_(pa.int8()), lambda kind: pa.int32())
    ListType(list<item: int32>)
    """
    if types.is_dictionary(kind):
        return stored(kind.value_type, leaf)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = stored(kind.value_type, leaf)
        return pa.list_(inner) if inner else None
    if types.is_map(kind):
        key, item = stored(kind.key_type, leaf), stored(kind.item_type, leaf)
        return pa.map_(key, item) if key and item else None
    if types.is_struct(kind):
        parts = [(part.name, stored(part.type, leaf)) for part in kind]
        return pa.struct(parts) if all(part for _, part in parts) else None
    return leaf(plain(kind))


def widened(kind: pa.DataType, wider_types: Mapping[pa.DataType, pa.DataType]) -> pa.DataType | None:
    """Return what both Delta Lake and Iceberg hold a type in: a wider number, microseconds, days; None for all else."""
    if kind in wider_types:
        return wider_types[kind]
    if types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    return pa.date32() if types.is_date(kind) else None


def fitted(name: str, held: pa.Schema | None, asked: pa.Schema, leaf: LeafRule) -> pa.Schema:
    """Return the columns that a table must have to hold its rows and those asked for.

    A column whose type the source does not tell yet (all null) is left out until it does.

    Args:
        name: The table's.
        held: Its columns; None if there is no table.

    Raises:
        SchemaError: A column cannot be kept unchanged, or not beside the values that are there.
    """
    if held is not None and "windrow_partition" in asked.names and "windrow_partition" not in held.names:
        raise SchemaError(
            f"Table {name!r} exists and is not Windrow's: it has no column windrow_partition.",
            "name a table that does not exist yet; it will be made.",
        )
    fields = {field.name.lower(): field for field in held or ()}
    for field in asked:
        if types.is_null(field.type):
            continue
        kind = stored(field.type, leaf)
        if kind is None:
            fix = "cast it in the source, for example to text, or leave it out."
            raise SchemaError(f"Column {field.name!r} is {field.type}, which table {name!r} cannot hold.", fix)
        there = fields.get(field.name.lower())
        wide = wider(there.type, kind) if there is not None else kind
        if wide is None or stored(wide, leaf) != wide:
            told = there.type if there is not None else ""
            raise SchemaError(
                f"Column {field.name!r} of table {name!r} is {told}, but the job gives {field.type}.",
                "cast it in the source, or name another table.",
            )
        fields[field.name.lower()] = there.with_type(wide) if there is not None else field.with_type(kind)
    return pa.schema(list(fields.values()), metadata=asked.metadata)


def planned(name: str, held: pa.Schema | None, wanted: pa.Schema) -> list[str]:
    """Say in words what would be done to the table."""
    if held is None:
        columns = ", ".join(f"{field.name} {field.type}" for field in wanted)
        return [f"create table {name} ({columns})"]
    steps = []
    for field in wanted:
        place = held.get_field_index(field.name)
        if place < 0:
            told = comment_of(field.metadata)
            steps.append(f"add column {field.name} {field.type} to {name}" + (f": {told}" if told else ""))
        elif not holds(held.field(place).type, field.type):
            steps.append(f"widen column {field.name} of {name} from {held.field(place).type} to {field.type}")
    return steps
