"""Shards: what is staged, scored and kept at a time, as Arrow IPC files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute

from windrow.errors import StoreError
from windrow.faults import reach
from windrow.manifest import Shard
from windrow.store import RunRef, Store

__all__ = ["cut", "write_shards"]

_SHARD_BYTES = 512 << 10


def write_shards(tables: Iterable[pa.Table], store: Store, ref: RunRef, scratch: Path) -> Iterator[Shard]:
    """Write tables, as they come, as numbered files of a run.

    Raises:
        StoreError: The scratch folder or the store cannot be written.
    """
    for number, table in enumerate(tables):
        name = f"shards/{number:05d}.arrow"
        file = scratch / "shard.arrow"
        try:
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        except OSError as error:
            problem = f"Shards cannot be written: {error.strerror or error}."
            raise StoreError(problem, "free some space, then run it again.") from None
        store.put(file, f"{ref.folder}/{name}")
        reach("load.shard")
        yield Shard(name, table.num_rows, table.nbytes)


def cut(reader: Iterable[pa.RecordBatch], most_texts: int) -> Iterator[pa.Table]:
    """Cut texts into shards; where a shard ends depends on its texts alone.

    So what a killed run left is cut as it was, falls into the same micro-batches, and gets the same
    predictions to the last bit.

    Args:
        reader: Record batches with the column ``windrow_text``.
        most_texts: In one shard; it ends before where its texts are long.
    """
    waiting: list[pa.RecordBatch] = []
    texts = size_bytes = 0
    for batch in reader:
        ends = np.cumsum(compute.binary_length(batch.column("windrow_text")).to_numpy(zero_copy_only=False))
        start = before = 0
        while start < batch.num_rows:
            enough = int(np.searchsorted(ends, before + _SHARD_BYTES - size_bytes)) + 1
            end = min(enough, start + most_texts - texts, batch.num_rows)
            waiting.append(batch.slice(start, end - start))
            texts, size_bytes = texts + end - start, size_bytes + int(ends[end - 1]) - before
            if texts >= most_texts or size_bytes >= _SHARD_BYTES:
                yield pa.Table.from_batches(waiting)
                waiting, texts, size_bytes = [], 0, 0
            start, before = end, int(ends[end - 1])
    if waiting:
        yield pa.Table.from_batches(waiting)
