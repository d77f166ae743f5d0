"""A table of Iceberg as the shared protocol of lakes sees it, through pyiceberg."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import pyarrow as pa
from pyarrow import parquet, types
from pyiceberg import exceptions
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, In
from pyiceberg.io.pyarrow import (
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    parquet_path_to_id_mapping,
    schema_to_pyarrow,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import sanitize_column_names
from pyiceberg.table import Table, Transaction
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.typedef import Record

from windrow.errors import SchemaError, WarehouseError
from windrow.warehouses.base import comment_of
from windrow.warehouses.lake_rows import aligned, write_files
from windrow.warehouses.lake_table import Conflict, Head, LakeFile, Owner
from windrow.warehouses.widening import plain

__all__ = ["IcebergTable"]

log = logging.getLogger("windrow")

_NOTES = "windrow"
_ID = b"PARQUET:field_id"


class IcebergTable:
    """A table of a catalog; every commit is refused unless it is the first after the snapshot it was made from."""

    def __init__(self, catalog: Catalog | None, identifier: tuple[str, str]) -> None:
        self.catalog, self.identifier, self.name = catalog, identifier, identifier[1]

    def head(self) -> Head | None:
        """Load the table; its version is the sequence number of the newest snapshot.

        Raises:
            SchemaError: It is of another format version or partitioned in another way.
        """
        try:
            table = self.catalog.load_table(self.identifier) if self.catalog else None
        except (exceptions.NoSuchTableError, exceptions.NoSuchNamespaceError):
            table = None
        if table is None:
            return None
        names = [table.schema().find_column_name(part.source_id) for part in table.spec().fields]
        schema = pa.schema([_plain(field) for field in schema_to_pyarrow(table.schema())])
        if table.format_version < 2 or ("windrow_partition" in schema.names and names != ["windrow_partition"]):
            fix = "name a table that does not exist yet; it will be made."
            raise SchemaError(f"Iceberg table {self.name!r} is not of version 2, by windrow_partition.", fix)
        snapshot = table.current_snapshot()
        return Head((snapshot.sequence_number or 0) if snapshot else 0, schema, _notes(table), table)

    def fit(self, head: Head | None, schema: pa.Schema) -> None:
        """Create the table, or add and widen columns, in one commit."""
        told = pa.schema([f.with_metadata({"doc": comment_of(f.metadata)} if f.metadata else None) for f in schema])
        try:
            if head is not None:
                with head.raw.update_schema() as update:
                    update.union_by_name(told)
            elif self.catalog:
                self.catalog.create_namespace_if_not_exists(self.identifier[:1])
                about = {"comment": comment_of(schema.metadata)} if comment_of(schema.metadata) else {}
                with self.catalog.create_table_transaction(self.identifier, told, properties=about) as transaction:
                    if "windrow_partition" in schema.names:
                        with transaction.update_spec() as spec:
                            spec.add_identity("windrow_partition")
        except (exceptions.CommitFailedException, exceptions.TableAlreadyExistsError):
            raise Conflict from None

    def files(self, head: Head, equals: Mapping[str, Sequence[str]]) -> list[LakeFile]:
        """Plan a scan by the texts asked of string columns; other columns leave no file out."""
        wanted: BooleanExpression = AlwaysTrue()
        for name, texts in equals.items():
            if types.is_string(head.schema.field(name).type):
                wanted = And(wanted, In(term=name, literals=set(texts)))
        tasks = head.raw.scan(row_filter=wanted).plan_files()
        return [LakeFile(t.file.file_path, t.file.partition[0] if len(t.file.partition) else None, t) for t in tasks]

    def rows(self, head: Head, file: LakeFile, columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
        """Read columns by their field ids, whatever they were called when the file was written.

        Raises:
            WarehouseError: Another program has deleted some of the file's rows.
        """
        table: Table = head.raw
        if file.raw.delete_files:
            fix = "compact it, for example with Spark's rewrite_data_files, then run it again."
            raise WarehouseError(f"Iceberg table {self.name!r} has delete files of another program.", fix)
        with table.io.new_input(file.path).open() as stream:
            reader = parquet.ParquetFile(stream)
            held = {int(f.metadata[_ID]): f.name for f in reader.schema_arrow if f.metadata and _ID in f.metadata}
            names = {held.get(table.schema().find_field(name).field_id, name): name for name in columns}
            there = [name for name in names if name in reader.schema_arrow.names]
            for batch in reader.iter_batches(8192, columns=there):
                yield batch.rename_columns([names[name] for name in batch.schema.names])

    def stage(self, head: Head, batches: Iterable[pa.RecordBatch], owner: Owner, partition: str) -> list[LakeFile]:
        """Write files, each with the statistics that a manifest has of it."""
        table: Table = head.raw
        ours = sanitize_column_names(table.schema())
        schema = schema_to_pyarrow(ours)
        run = quote(owner.run_id, safe="")
        folder = f"windrow_partition={quote(partition, safe='')}/" if partition else ""

        def create() -> tuple[str, Any]:
            path = table.location_provider().new_data_location(f"{folder}{run}-{uuid.uuid4().hex}.parquet")
            return path, table.io.new_output(path).create()

        renamed = (batch.rename_columns(schema.names) for batch in batches)
        made = write_files(aligned(renamed, schema), schema, create, table.io.delete, "zstd")
        plan, places = compute_statistics_plan(ours, table.properties), parquet_path_to_id_mapping(ours)
        return [
            LakeFile(
                file.path, partition or None,
                DataFile.from_args(
                    content=DataFileContent.DATA, file_path=file.path, file_format=FileFormat.PARQUET,
                    partition=Record(partition) if partition else Record(), spec_id=table.spec().spec_id,
                    file_size_in_bytes=file.size_bytes, sort_order_id=None, equality_ids=None, key_metadata=None,
                    **data_file_statistics_from_parquet_metadata(file.metadata, plan, places).to_serialized_dict(),
                ),
            )
            for file in made
        ]  # fmt: skip

    def commit(self, head: Head, gone: Sequence[LakeFile], come: Sequence[LakeFile], notes: Mapping[str, Any]) -> int:
        """Make a snapshot, with the notes in its summary."""
        mine = _once(head.raw)
        transaction = Transaction(mine)
        update = transaction.update_snapshot(snapshot_properties={_NOTES: json.dumps(dict(notes))})
        try:
            with update.overwrite() if gone else update.merge_append() as snapshot:
                for file in gone:
                    snapshot.delete_data_file(file.raw.file)
                for file in come:
                    snapshot.append_data_file(file.raw)
            transaction.commit_transaction()
        except (exceptions.CommitFailedException, exceptions.ValidationException):
            raise Conflict from None
        made = mine.current_snapshot()
        return (made.sequence_number or 0) if made else 0

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete staged files."""
        if (listed := list(files)) and (head := self.head()):
            for file in listed:
                head.raw.io.delete(file.path)

    def purge(self) -> None:
        """Expire all snapshots but those of branches and tags; delete the files that only they need."""
        head = self.head()
        if head is None:
            return
        self.commit(head, [], [], head.notes)  # the newest version's manifests tell bounds of files that went with it
        table: Table = self.catalog.load_table(self.identifier) if self.catalog else head.raw
        kept = {ref.snapshot_id for ref in table.refs().values()}
        if len(kept) > 1:
            log.warning("Branches and tags of %s keep snapshots, perhaps with rows that were forgotten.", self.name)
        old = [snapshot for snapshot in table.snapshots() if snapshot.snapshot_id not in kept]
        if not old:
            return
        needed = {path for s in table.snapshots() if s.snapshot_id in kept for path in _paths(table, s)}
        dropped = {path for snapshot in old for path in _paths(table, snapshot, gone=True)} - needed
        try:
            table.maintenance.expire_snapshots().by_ids([snapshot.snapshot_id for snapshot in old]).commit()
        except exceptions.CommitFailedException:
            raise Conflict from None
        for path in dropped:
            with suppress(FileNotFoundError):
                table.io.delete(path)


def _paths(table: Table, snapshot: Snapshot, gone: bool = False) -> set[str]:
    """Return the files that a snapshot needs: its list, its manifests and the data files that they name.

    Args:
        gone: Whether to name those too that went with it.
    """
    found = {snapshot.manifest_list}
    for manifest in snapshot.manifests(table.io):
        found.add(manifest.manifest_path)
        found |= {e.data_file.file_path for e in manifest.fetch_manifest_entry(table.io, discard_deleted=not gone)}
    return found


def _once(table: Table) -> Table:
    """Return the table as one on which pyiceberg does not repeat a refused commit by itself; only here, not stored."""
    properties = {**table.metadata.properties, "commit.retry.num-retries": "0"}
    metadata = table.metadata.model_copy(update={"properties": properties})
    return Table(table.name(), metadata, table.metadata_location, table.io, table.catalog)


def _notes(table: Table) -> dict[str, Any]:
    """Return the notes of the newest snapshot that carries some; other programs' snapshots carry none."""
    snapshot = table.current_snapshot()
    while snapshot is not None:
        if snapshot.summary and (text := snapshot.summary.get(_NOTES)):
            notes: dict[str, Any] = json.loads(text)
            return notes
        parent = snapshot.parent_snapshot_id
        snapshot = table.snapshot_by_id(parent) if parent is not None else None
    return {}


def _plain(field: pa.Field) -> pa.Field:
    doc = (field.metadata or {}).get(b"doc")
    return pa.field(field.name, plain(field.type), metadata={"comment": doc} if doc else None)
