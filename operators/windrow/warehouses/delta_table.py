"""A table of Delta Lake as the shared protocol of lakes sees it, through delta-rs."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs, parquet

from windrow.errors import JobError, SchemaError
from windrow.overlap import read_ahead
from windrow.warehouses.base import comment_of
from windrow.warehouses.lake_rows import aligned, write_files
from windrow.warehouses.lake_table import Conflict, Head, LakeFile, Owner
from windrow.warehouses.widening import holds, plain

try:
    from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, write_deltalake
    from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
    from deltalake.fs import DeltaStorageHandler
    from deltalake.transaction import AddAction, RemoveAction
except ImportError:
    raise JobError("Delta Lake needs the package deltalake.", "pip install 'windrow[delta]'") from None

__all__ = ["DeltaLakeTable"]

_PROPERTIES: dict[str, str | None] = {"delta.dataSkippingNumIndexedCols": "0"}
"""The log is never rewritten, so it must hold no values: a person's may have to be forgotten."""
_NOTES = "windrow"
_LOOK_BACK = 20


class DeltaLakeTable:
    """A Delta table; every commit is refused unless it is the first after the version it was made from."""

    def __init__(self, name: str, uri: str, options: dict[str, str] | None) -> None:
        self.name, self.uri, self.options = name, uri, options

    def head(self) -> Head | None:
        """Read the log.

        Raises:
            SchemaError: The table is partitioned in another way.
        """
        try:
            table = DeltaTable(self.uri, storage_options=self.options)
        except TableNotFoundError:
            return None
        schema = pa.schema(
            [f.with_type(plain(f.type)).with_nullable(True) for f in pa.schema(table.schema().to_arrow())]
        )
        if "windrow_partition" in schema.names and table.metadata().partition_columns != ["windrow_partition"]:
            fix = "name a table that does not exist yet; it will be made."
            raise SchemaError(f"Delta table {self.name!r} is not partitioned by windrow_partition.", fix)
        return Head(table.version(), schema, self._notes(table), table)

    def fit(self, head: Head | None, schema: pa.Schema) -> None:
        """Create the table, or add columns; to widen some, write all rows anew."""
        by = [name for name in schema.names if name == "windrow_partition"]
        if head is None:
            try:
                DeltaTable.create(
                    self.uri, schema, "error", by, description=comment_of(schema.metadata),
                    configuration=_PROPERTIES, storage_options=self.options,
                )  # fmt: skip
            except DeltaError:
                if not DeltaTable.is_deltatable(self.uri, self.options):
                    raise
                raise Conflict from None
            return
        with self._conflicts(head):
            if all(holds(field.type, schema.field(field.name).type) for field in head.schema):
                added = [field for field in schema if field.name not in head.schema.names]
                head.raw.alter.add_columns(_delta_fields(added), commit_properties=_properties(head.notes))
            else:
                batches = (b for file in self.files(head, {}) for b in self.rows(head, file, head.schema.names))
                stream = pa.RecordBatchReader.from_batches(schema, read_ahead(aligned(batches, schema)))
                write_deltalake(
                    head.raw, stream, mode="overwrite", schema_mode="overwrite",
                    partition_by=by or None, commit_properties=_properties(head.notes),
                )  # fmt: skip

    def files(self, head: Head, equals: Mapping[str, Sequence[str]]) -> list[LakeFile]:
        """Return the files of the partitions asked for; other columns leave no file out."""
        actions = pa.table(head.raw.get_add_actions()).to_pylist()
        asked = equals.get("windrow_partition")
        found = [LakeFile(a["path"], (a.get("partition") or {}).get("windrow_partition"), a) for a in actions]
        return [file for file in found if asked is None or file.partition in asked]

    def rows(self, head: Head, file: LakeFile, columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
        """Read columns of one file; the log has the partition's value, not the file."""
        with self._files(head).open_input_file(unquote(file.path)) as stream:
            reader = parquet.ParquetFile(stream)
            there = [name for name in columns if name in reader.schema_arrow.names]
            for batch in reader.iter_batches(8192, columns=there):
                if "windrow_partition" in columns and file.partition is not None:
                    value = pa.repeat(pa.scalar(file.partition), batch.num_rows)
                    batch = batch.append_column("windrow_partition", value)
                yield batch

    def stage(self, head: Head, batches: Iterable[pa.RecordBatch], owner: Owner, partition: str) -> list[LakeFile]:
        """Write files into the partition's folder, which the log does not name yet."""
        place = self._files(head)
        names = [name for name in head.schema.names if name != "windrow_partition"]

        def slug(text: str) -> str:
            return quote(text, safe="").replace("%", "_")

        held: dict[str, str | None] = {"windrow_partition": partition} if partition else {}

        def create() -> tuple[str, Any]:
            name = f"{slug(owner.run_id)}-{uuid.uuid4().hex}.parquet"
            path = f"windrow_partition={slug(partition)}/{name}" if partition else name
            place.create_dir(path.rpartition("/")[0], recursive=True)
            return path, place.open_output_stream(path)

        schema = pa.schema([head.schema.field(name) for name in names])
        made = write_files((batch.select(names) for batch in batches), schema, create, place.delete_file, "snappy")
        now = int(time.time() * 1000)
        return [
            LakeFile(
                file.path, partition or None,
                AddAction(file.path, file.size_bytes, held, now, True, f'{{"numRecords":{file.metadata.num_rows}}}'),
            )
            for file in made
        ]  # fmt: skip

    def commit(self, head: Head, gone: Sequence[LakeFile], come: Sequence[LakeFile], notes: Mapping[str, Any]) -> int:
        """Write the next entry of the log; a mark in it tells whether a commit that failed is there after all."""
        now = int(time.time() * 1000)
        removes = [RemoveAction(f.path, True, now, f.raw["size_bytes"], f.raw.get("partition") or {}) for f in gone]
        mine = {**notes, "commit": uuid.uuid4().hex}
        by = [name for name in head.schema.names if name == "windrow_partition"]
        with self._conflicts(head, mine["commit"]):
            actions = [*removes, *(file.raw for file in come)]
            head.raw.create_write_transaction(
                actions, "append", head.raw.schema(), by, commit_properties=_properties(mine)
            )
        return head.version + 1

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete staged files."""
        if listed := list(files):
            place = self._files(None)
            for file in listed:
                place.delete_file(file.path)

    def purge(self) -> None:
        """Delete the files that the newest version does not name, and write a checkpoint."""
        if head := self.head():
            hooks = PostCommitHookProperties(create_checkpoint=True)
            head.raw.vacuum(0, dry_run=False, enforce_retention_duration=False, post_commithook_properties=hooks)

    def _files(self, head: Head | None) -> fs.FileSystem:
        table = head.raw if head else DeltaTable(self.uri, storage_options=self.options)
        return fs.PyFileSystem(DeltaStorageHandler.from_table(table._table, self.options))

    def _notes(self, table: DeltaTable) -> dict[str, Any]:
        """Return the notes of the newest commit that carries some; other programs' commits carry none."""
        for limit in (_LOOK_BACK, None):
            for commit in table.history(limit):
                if _NOTES in commit:
                    notes: dict[str, Any] = json.loads(commit[_NOTES])
                    return notes
        return {}

    @contextmanager
    def _conflicts(self, head: Head, commit: str = "") -> Iterator[None]:
        """Tell a commit that came too late from one that failed, and from one that succeeded without telling so."""
        try:
            yield
        except CommitFailedError:
            now = self.head()
            if now is None or now.version == head.version:
                raise
            if not commit or now.notes.get("commit") != commit:
                raise Conflict from None


def _properties(notes: Mapping[str, Any]) -> CommitProperties:
    return CommitProperties(custom_metadata={_NOTES: json.dumps(dict(notes))}, max_commit_retries=0)


def _delta_fields(fields: list[pa.Field]) -> list[Any]:
    from deltalake import Schema

    return list(Schema.from_arrow(pa.schema(fields)).fields)
