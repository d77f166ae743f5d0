"""One opener a file format, by ending: path in, schema and record batches out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pyarrow import compute

from windrow.sources.base import BATCH_ROWS, sliced
from windrow.sources.delimited import open_delimited
from windrow.sources.json_lines import open_json_lines
from windrow.sources.reading import Opened, Opener, Reading

__all__ = ["FORMATS", "open_ipc", "open_parquet"]

_BATCH_BYTES = 16 << 20


def open_parquet(fs: Any, name: str, columns: Sequence[str] | None, reading: Reading) -> Opened:
    """Open a Parquet file; record batches hold fewer rows where rows are long.

    Row groups whose statistics say that they hold nothing wanted are not read.
    """
    from pyarrow import parquet

    file = parquet.ParquetFile(fs.open(name, "rb"), memory_map=False, pre_buffer=False)
    wanted = [column for column in file.schema_arrow.names if columns is None or column in columns]
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    longest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    rows = min(BATCH_ROWS, max(64, _BATCH_BYTES // max(longest, 1)))
    chosen = list(range(len(groups))) if reading.wanted is None else _chosen(fs, name, reading.wanted)
    return Opened(file.schema_arrow, file.iter_batches(batch_size=rows, row_groups=chosen, columns=wanted))


def _chosen(fs: Any, name: str, wanted: compute.Expression) -> list[int]:
    """Return the row groups that may hold wanted rows, by their statistics."""
    from pyarrow import dataset

    with fs.open(name, "rb") as file:
        fragment = dataset.ParquetFileFormat().make_fragment(file)
        return [group.id for group in fragment.subset(wanted).row_groups]


def open_ipc(fs: Any, name: str, columns: Sequence[str] | None, reading: Reading) -> Opened:  # noqa: ARG001
    """Open an Arrow IPC file or stream."""
    from pyarrow import ipc

    file = fs.open(name, "rb")
    try:
        reader = ipc.open_file(file)
    except pa.ArrowInvalid:
        file.seek(0)
        stream = ipc.open_stream(file)
        return Opened(stream.schema, sliced(stream))
    return Opened(reader.schema, sliced(reader.get_batch(i) for i in range(reader.num_record_batches)))


FORMATS: dict[str, Opener] = {
    ".parquet": open_parquet,
    ".pq": open_parquet,
    ".csv": open_delimited,
    ".tsv": open_delimited,
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_json_lines,
    ".arrow": open_ipc,
    ".feather": open_ipc,
    ".ipc": open_ipc,
}
