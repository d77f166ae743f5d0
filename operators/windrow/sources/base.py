"""The seam of sources: a schema, and record batches with only the columns asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from windrow.errors import SourceError, nearest
from windrow.sources.since import Since

__all__ = ["BATCH_ROWS", "RowSource", "require_columns", "sliced"]

BATCH_ROWS = 8192
"""Most rows in a record batch that a source gives."""


class RowSource(Protocol):
    """Where rows come from."""

    def schema(self) -> pa.Schema:
        """Return the columns that the source has, without reading its rows.

        Raises:
            SourceError: The source is missing or broken.
        """
        ...

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:
        """Yield record batches with exactly `columns`, in a stable order and in bounded memory.

        Args:
            since: Leave out the rows before it; its column is one of `columns`.

        Raises:
            SourceError: A part of the source is broken or lacks a column.
        """
        ...

    def malformed(self) -> list[str]:
        """Return what could not be read as a row, a line each; complete once `batches` has ended."""
        ...


def sliced(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in record batches of at most `BATCH_ROWS`; nothing is copied."""
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH_ROWS):
            yield batch.slice(start, BATCH_ROWS)


def require_columns(schema: pa.Schema, columns: Sequence[str], where: str) -> None:
    """Check that all `columns` are there, each once.

    Raises:
        SourceError: One is missing, or its name occurs twice.
    """
    for name in columns:
        count = len(schema.get_all_field_indices(name))
        if count == 0:
            hint = nearest(name, schema.names) or "."
            known = ", ".join(schema.names[:30]) or "none"
            raise SourceError(f"Column {name!r} is not in {where}{hint}", f"use one of its columns: {known}.")
        if count > 1:
            raise SourceError(f"Column {name!r} occurs {count} times in {where}.", "rename or drop the others.")
