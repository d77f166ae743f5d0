"""Predictions by content: (fingerprint, text hash) -> the task's columns, or a reject with its reason.

This one mechanism makes runs resumable, re-runs free and repeated texts cheap. A prediction file is
written whole or not at all; that a hash stands in two files is harmless, since readers take one.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence

import duckdb
import pyarrow as pa
from pyarrow import parquet

from windrow.duck import execute, first_line, literal, quoted
from windrow.errors import StoreError
from windrow.faults import reach
from windrow.joining import is_wide
from windrow.schema import HASH
from windrow.store import Store

__all__ = ["FACTS", "Predictions"]

log = logging.getLogger("windrow")

COMPACT_ABOVE_FILES = 256
SMALL_BYTES = 16 << 20
_ATTEMPTS = 10
_WIDE_GROUP_ROWS = 4096

FACTS = pa.schema(
    [
        ("windrow_tokens", pa.int32()),
        ("windrow_truncated", pa.bool_()),
        ("windrow_scored_at", pa.timestamp("us", tz="UTC")),
        ("windrow_scored_by", pa.string()),
        ("windrow_reason", pa.string()),
        ("windrow_detail", pa.string()),
    ]
)
"""Columns of every prediction beside the hash and the task's own; `windrow_scored_by` is a run id."""


class Predictions:
    """All predictions under one fingerprint.

    Args:
        store: Where they lie.
        fingerprint: Model, task, parameters and numerics; see `windrow.tasks.fingerprint`.
        columns: The task's columns.
    """

    def __init__(self, store: Store, fingerprint: str, columns: pa.Schema) -> None:
        self.store = store
        self.folder = f"predictions/{fingerprint}"
        self.schema = pa.schema([("windrow_hash", HASH), *columns, *FACTS])

    def select(
        self, con: duckdb.DuckDBPyConnection, wanted: str, into: str, columns: Sequence[str] | None = None
    ) -> None:
        """Make a table of the predictions of some hashes.

        Files that another run merges meanwhile are looked for again; broken ones are set aside, so
        that their texts are scored anew. A hash may stand in several rows.

        Args:
            wanted: Table or view with a column `windrow_hash`.
            into: Name of the new table.
            columns: Columns beside the hash; all of them unless given.

        Raises:
            StoreError: The files cannot be read, although they are whole.
        """
        names = self._names()
        for _ in range(_ATTEMPTS):
            try:
                return self._select(con, wanted, into, columns, names)
            except duckdb.Error as error:
                self._set_broken_aside(names)
                before, names = names, self._names()
                if names == before:
                    raise
                log.info("Prediction files changed while they were read (%s); reading them again.", first_line(error))
        raise StoreError("Prediction files change faster than they can be read.", "run it again.")

    def _names(self) -> list[str]:
        return [name for name, _, _ in self.store.listed(self.folder)]

    def _select(
        self,
        con: duckdb.DuckDBPyConnection,
        wanted: str,
        into: str,
        columns: Sequence[str] | None,
        names: Sequence[str],
    ) -> None:
        con.register("windrow_none", self.schema.empty_table())
        files = self._files(names) if names else "windrow_none"
        chosen = "*" if columns is None else ", ".join(map(quoted, ("windrow_hash", *columns)))
        picked = f"SELECT {chosen} FROM {files} SEMI JOIN {wanted} USING (windrow_hash)"
        execute(con, f"CREATE OR REPLACE TABLE {into} AS {picked}")

    def _files(self, names: Sequence[str]) -> str:
        return f"read_parquet([{', '.join(literal(self.store.path(name)) for name in names)}])"

    def _set_broken_aside(self, names: Sequence[str]) -> None:
        """Rename the files among `names` that are there but cannot be read whole."""
        for name in names:
            try:
                with self.store.opened(name) as file:
                    for _ in parquet.ParquetFile(file).iter_batches():
                        pass
            except StoreError:
                if self.store.exists(name):
                    raise
            except (pa.ArrowException, OSError) as error:
                if getattr(error, "errno", None) is None:
                    log.warning("Prediction file %s is broken and was set aside; its texts are scored again.", name)
                    self.store.rename(name, f"{name}.broken")

    def write(self, table: pa.Table, name: str) -> None:
        """Write one shard's predictions, atomically."""
        with self.store.scratch() as folder:
            file = folder / "predictions.parquet"
            try:
                parquet.write_table(table.cast(self.schema), file, compression="zstd")
            except OSError as error:
                raise StoreError(
                    f"Predictions cannot be written: {error.strerror or error}.",
                    "free some space, then run it again; it resumes.",
                ) from None
            self.store.put(file, f"{self.folder}/{name}.parquet")
        reach("infer.predictions")

    def compact(self, above_files: int = COMPACT_ABOVE_FILES) -> int:
        """Merge small files into one if there are many; return how many were merged.

        The merged file is in place before the small ones go, so a reader at any moment finds all.
        """
        small = [name for name, size, _ in self.store.listed(self.folder) if size < SMALL_BYTES]
        if len(small) <= above_files:
            return 0
        with self.store.scratch() as folder, self.store.connect(folder) as con:
            merged = folder / "merged.parquet"
            try:
                groups = f", ROW_GROUP_SIZE {_WIDE_GROUP_ROWS}" if is_wide(self.schema) else ""
                options = f"(FORMAT parquet, COMPRESSION zstd{groups})"
                execute(con, f"COPY (FROM {self._files(small)}) TO {literal(merged)} {options}")
            except duckdb.Error as error:
                log.info("Prediction files are not merged now: %s.", first_line(error))
                self._set_broken_aside(small)
                return 0
            self.store.put(merged, f"{self.folder}/merged-{uuid.uuid4().hex[:12]}.parquet")
        reach("compact.merged")
        self.store.remove(small)
        return len(small)
