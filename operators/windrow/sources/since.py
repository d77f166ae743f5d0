"""The rows from a value of a growing column on: a condition that a source applies where its rows lie."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyarrow import compute

from windrow.duck import quoted
from windrow.errors import SourceError

__all__ = ["Since", "check_grows", "text_of", "value_of"]


@dataclass(frozen=True, slots=True)
class Since:
    """Rows whose `column` is at least `value`, or null: a row that tells no place in the order is never left out."""

    column: str
    value: pa.Scalar

    def expression(self) -> compute.Expression:
        """Return the condition as Arrow's datasets take it."""
        field = compute.field(self.column)
        return (field >= self.value) | field.is_null()

    def kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a record batch that meet the condition."""
        column = batch.column(self.column)
        return batch.filter(compute.or_kleene(compute.greater_equal(column, self.value), compute.is_null(column)))

    def sql(self) -> str:
        """Return the condition in SQL."""
        column = quoted(self.column)
        return f"({column} >= {_literal(self.value)} OR {column} IS NULL)"


def _literal(value: pa.Scalar) -> str:
    """Write a value in SQL; moments are cut to microseconds, which reads rather more than less."""
    kind = value.type
    if pa.types.is_date(kind):
        return f"CAST('{text_of(value)}' AS DATE)"
    if not pa.types.is_timestamp(kind):
        return text_of(value)
    if kind.unit == "ns":
        value = pa.scalar(value.value // 1000, pa.timestamp("us", kind.tz))
    return f"CAST('{text_of(value)}' AS TIMESTAMP{' WITH TIME ZONE' if kind.tz else ''})"


def check_grows(column: str, kind: pa.DataType) -> None:
    """Refuse a column whose values have no order that every source agrees on.

    Raises:
        SourceError: It holds no whole numbers, decimals, dates or timestamps.
    """
    kinds = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_date, pa.types.is_timestamp, pa.types.is_null)
    if not any(is_kind(kind) for is_kind in kinds):
        raise SourceError(
            f"Watermark column {column!r} has type {kind}, whose order is not certain.",
            "name a column of whole numbers, dates or timestamps in source.watermark, or cast it in the source.",
        )


def text_of(value: pa.Scalar) -> str:
    """Return a value as text, moments in UTC where they know a zone.

    >>> text_of(pa.scalar(1_700_000_000, pa.timestamp("s", "Europe/Berlin")))
    '2023-11-14 22:13:20Z'
    """
    if pa.types.is_timestamp(value.type) and value.type.tz:
        value = value.cast(pa.timestamp(value.type.unit, "UTC"))
    return str(value.cast(pa.string()).as_py())


def value_of(text: str, kind: pa.DataType) -> pa.Scalar:
    """Read back what `text_of` wrote.

    Raises:
        pa.ArrowInvalid: It is no value of the type.
    """
    if pa.types.is_timestamp(kind) and kind.tz:
        return pa.scalar(text).cast(pa.timestamp(kind.unit, "UTC")).cast(kind)
    return pa.scalar(text).cast(kind)
