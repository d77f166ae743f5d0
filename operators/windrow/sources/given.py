"""Rows that a program hands over, written to a file that a source can read more than once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from windrow.errors import SourceError
from windrow.overlap import in_tables

__all__ = ["write_rows"]

_ROWS = 65_536
_BYTES = 8 << 20


def write_rows(rows: Any, file: Path) -> int:
    """Write rows to a Parquet file, as a stream and in bounded memory; return how many there were.

    Args:
        rows: A `pyarrow.RecordBatchReader`, `Table` or `RecordBatch`, or whatever else gives an Arrow stream
            (``__arrow_c_stream__``: data frames of polars and pandas, relations of DuckDB).
        file: Ends in ``.parquet``.

    Raises:
        SourceError: It is none of these, or a column has a type that a Parquet file cannot hold.
    """
    reader = _stream(rows)
    count = 0
    try:
        with parquet.ParquetWriter(file, reader.schema) as writer:
            for table in in_tables(reader, _ROWS, _BYTES):
                writer.write_table(table)
                count += table.num_rows
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise SourceError(f"The rows cannot be staged: {reason}.", "cast that column, or leave it out.") from None
    return count


def _stream(rows: Any) -> pa.RecordBatchReader:
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pa.RecordBatchReader):
        return rows
    if not hasattr(rows, "__arrow_c_stream__"):
        raise SourceError(
            f"A {type(rows).__name__} is no stream of Arrow rows.",
            "give a pyarrow RecordBatchReader or Table.",
        )
    return pa.RecordBatchReader.from_stream(rows)
