"""Rows joined with predictions as a stream, in bounded memory, also where predictions are vectors."""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import pyarrow as pa

from windrow.duck import literal

__all__ = ["is_wide", "joined"]

_ROWS = 16384
_WIDE_ROWS = 2048
_PART_BYTES = 48 << 20
_MEMORY = "256MB"
"""For the join while the warehouse needs memory of its own; the rest spills. With less than DuckDB's 125 MB a thread, a
join of some hundred thousand rows may fail, or not, as its threads happen to meet.
"""
_PREFIXES = 1 << 16


def is_wide(columns: pa.Schema) -> bool:
    """Tell whether a task's columns hold lists, of which a row may take kilobytes."""
    return any(pa.types.is_nested(column.type) for column in columns)


def joined(con: duckdb.DuckDBPyConnection, select: str, rows_file: str, wide: bool) -> pa.RecordBatchReader:
    """Start the stream of rows with their predictions.

    DuckDB holds one side of a join in memory, and what it spills of lists it cannot read back within its limit. So
    wide predictions are streamed past the rows, of which as many are held at a time as fit, by the first bytes of
    their hashes.

    Args:
        con: Has the view ``rows`` and the table ``found``.
        select: What is selected, without its FROM.
        rows_file: The Parquet file of the rows, as DuckDB reads it.
        wide: Whether predictions are wide.
    """
    con.execute(f"SET memory_limit = '{_MEMORY}'")
    fine = "WHERE windrow_reason IS NULL"
    if not wide:
        query = f"{select} FROM rows JOIN found USING (windrow_hash) {fine}"
        return con.execute(query).to_arrow_reader(_ROWS)
    con.execute("SET disabled_optimizers = 'join_filter_pushdown,build_side_probe_side,join_order'")
    size = con.execute(f"SELECT sum(total_uncompressed_size) FROM parquet_metadata({literal(rows_file)})").fetchall()
    parts = min(_PREFIXES, 1 + int(size[0][0] or 0) // _PART_BYTES)
    edges = [part * _PREFIXES // parts for part in range(1, parts)]
    queries = [
        f"{select} FROM found JOIN (SELECT * FROM rows WHERE {hashes}) AS rows USING (windrow_hash) {fine}"
        for hashes in _ranges(edges)
    ]
    first = con.execute(queries[0]).to_arrow_reader(_WIDE_ROWS)

    def batches() -> Iterator[pa.RecordBatch]:
        yield from first
        for query in queries[1:]:
            yield from con.execute(query).to_arrow_reader(_WIDE_ROWS)

    return pa.RecordBatchReader.from_batches(first.schema, batches())


def _ranges(edges: list[int]) -> Iterator[str]:
    """Yield the conditions that part hashes at the edges, each two bytes as a number."""
    blobs = [f"'{edge:04x}'" for edge in edges]
    for low, high in zip(["", *blobs], [*blobs, ""], strict=True):
        sides = [f"windrow_hash >= unhex({low})" if low else "", f"windrow_hash < unhex({high})" if high else ""]
        yield " AND ".join(filter(None, sides)) or "true"
