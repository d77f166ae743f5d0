"""A table of plain Parquet files, as the shared protocol of lakes sees it: how versions are made of files.

    <root>/<schema>/<table>/
        windrow_partition=<partition>/<run id>,<owner>,<id>.parquet   data files; each is written once, never changed
        _versions/0000000007.json                                     one file a version: columns, data files, notes
        _current.json                                                 a copy of the newest version, for readers
        _staged/                                                      files of publishes under way

**A commit** is the creation of the next file in ``_versions``, which succeeds only if it is not there (a hard link on a
local disk, a conditional put on an object store). Before it the data files are moved out of ``_staged``; after it
``_current.json`` is replaced, and the files that the new version does not name are deleted.

**A reader** that takes its list of files from ``_current.json`` or the last of ``_versions`` sees one version whole. If
a publish ends while it reads, a file may be gone: that is an error, never a mixture, and asking again helps. A plain
glob over the folders sees two generations of a partition between the move and the deletion: moments, or until the
partition's next run if a publish is killed right there.

**What killed runs leave** has their run id and partition in its name. A commit of a later run of the same partition
deletes it; no other run's files are touched, since they may be those of a publish under way.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import fsspec
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from pyarrow import parquet

from windrow.duck import first_line
from windrow.warehouses.lake_rows import write_files
from windrow.warehouses.lake_table import Conflict, Head, LakeFile, Owner

__all__ = ["ParquetTable", "can_create"]

log = logging.getLogger("windrow")

_KEPT_VERSIONS = 100
_LATE = 50
"""A commit by so many versions too late met a number that was free again."""


class ParquetTable:
    """A table of Parquet files; the next version is made by whoever creates its file first."""

    def __init__(self, name: str, files: fsspec.AbstractFileSystem, root: str) -> None:
        self.name, self.fs, self.root = name, files, root
        self._owner = Owner("", "")

    def head(self) -> Head | None:
        """Read the newest version's file."""
        for _ in range(_KEPT_VERSIONS):
            versions = self._versions()
            if not versions:
                return None
            with suppress(FileNotFoundError):
                return _head(json.loads(self.fs.cat_file(self._version(versions[-1]))))
        raise Conflict

    def fit(self, head: Head | None, schema: pa.Schema) -> None:
        """Make a version with the new columns; rows are fitted to them as they are read."""
        self._create(
            head, schema, [file.raw for file in self.files(head, {})] if head else [], head.notes if head else {}
        )

    def files(self, head: Head, equals: Mapping[str, Sequence[str]]) -> list[LakeFile]:
        """Return the files of the partitions asked for; other columns leave no file out."""
        asked = equals.get("windrow_partition")
        found = [LakeFile(raw["path"], raw["partition"], raw) for raw in head.raw["files"]]
        return [file for file in found if asked is None or file.partition in asked]

    def rows(self, head: Head, file: LakeFile, columns: Sequence[str]) -> Iterable[pa.RecordBatch]:  # noqa: ARG002
        """Read columns of one file.

        Raises:
            Conflict: A later version has deleted it.
        """
        try:
            with self.fs.open(f"{self.root}/{file.path}", "rb") as stream:
                reader = parquet.ParquetFile(stream)
                there = [name for name in columns if name in reader.schema_arrow.names]
                yield from reader.iter_batches(8192, columns=there)
        except FileNotFoundError:
            raise Conflict from None

    def stage(self, head: Head, batches: Iterable[pa.RecordBatch], owner: Owner, partition: str) -> list[LakeFile]:
        """Write files below ``_staged``."""
        self._owner = owner
        folder = f"windrow_partition={quote(partition, safe='')}" if partition else "data"

        def create() -> tuple[str, Any]:
            path = f"{folder}/{quote(owner.run_id, safe='')},{_mark(owner)},{uuid.uuid4().hex[:12]}.parquet"
            self.fs.makedirs(f"{self.root}/_staged/{folder}", exist_ok=True)
            return path, self.fs.open(f"{self.root}/_staged/{path}", "wb")

        made = write_files(
            batches, head.schema, create, lambda path: self.fs.rm_file(f"{self.root}/_staged/{path}"), "zstd"
        )
        raws = [{"path": f.path, "partition": partition or None, "rows": f.metadata.num_rows} for f in made]
        return [LakeFile(raw["path"], partition or None, raw) for raw in raws]

    def commit(self, head: Head, gone: Sequence[LakeFile], come: Sequence[LakeFile], notes: Mapping[str, Any]) -> int:
        """Move the files in place, make the version, tell readers of it, then delete what went."""
        for file in come:
            self.fs.makedirs(f"{self.root}/{file.path.rpartition('/')[0]}", exist_ok=True)
            with suppress(FileNotFoundError):  # moved before a conflict
                self.fs.mv(f"{self.root}/_staged/{file.path}", f"{self.root}/{file.path}")
        out = {file.path for file in gone}
        kept = [raw for raw in head.raw["files"] if raw["path"] not in out]
        version = self._create(head, head.schema, [*kept, *(file.raw for file in come)], notes)
        try:
            self._tell()
            self._delete(f"{self.root}/{path}" for path in out)
            self._sweep()
        except OSError as error:
            log.warning("The run is published, but files of %s cannot be tidied yet: %s.", self.name, first_line(error))
        return version

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete staged files, moved in place or not."""
        self._delete(f"{self.root}/{place}{file.path}" for file in files for place in ("_staged/", ""))

    def purge(self) -> None:
        """Nothing is left to delete: a commit deletes the files that its version does not name."""

    def _create(self, head: Head | None, schema: pa.Schema, files: list[Any], notes: Mapping[str, Any]) -> int:
        """Create the next version, or raise `Conflict` if it is there."""
        version, commit = (head.version if head else 0) + 1, uuid.uuid4().hex
        made = {
            "version": version, "commit": commit, "columns": {f.name: str(f.type) for f in schema}, "files": files,
            "notes": dict(notes), "schema": base64.b64encode(schema.serialize().to_pybytes()).decode(),
        }  # fmt: skip
        try:
            _create(self.fs, self._version(version), json.dumps(made).encode())
        except FileExistsError:
            if json.loads(self.fs.cat_file(self._version(version))).get("commit") != commit:
                raise Conflict from None
        versions = self._versions()
        if versions[-1] - version > _LATE:
            self._delete([self._version(version)])
            raise Conflict
        self._delete(self._version(old) for old in versions[:-_KEPT_VERSIONS])
        return version

    def _tell(self) -> None:
        """Replace the readers' copy of the newest version, until it is the newest."""
        told = 0
        while (versions := self._versions()) and versions[-1] > told:
            told = versions[-1]
            text = self.fs.cat_file(self._version(told))
            if isinstance(self.fs, LocalFileSystem):
                made = Path(self.root) / f".{uuid.uuid4().hex}"
                made.write_bytes(text)
                made.replace(Path(self.root) / "_current.json")
            else:
                self.fs.pipe_file(f"{self.root}/_current.json", text)

    def _sweep(self) -> None:
        """Delete what killed earlier runs of this partition have left."""
        head = self.head()
        named = {raw["path"] for raw in head.raw["files"]} if head else set()
        for path in self.fs.find(self.root):
            place = path[len(self.root) :].lstrip("/").removeprefix("_staged/")
            run_id, _, rest = unquote(place.rpartition("/")[2]).partition(f",{_mark(self._owner)},")
            if rest and run_id < self._owner.run_id and place not in named:
                self._delete([path])

    def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)

    def _version(self, version: int) -> str:
        return f"{self.root}/_versions/{version:010}.json"

    def _versions(self) -> list[int]:
        folder = f"{self.root}/_versions"
        self.fs.invalidate_cache(folder)
        try:
            names = [path.rpartition("/")[2] for path in self.fs.ls(folder, detail=False)]
        except FileNotFoundError:
            return []
        return sorted(int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit())


def _head(raw: dict[str, Any]) -> Head:
    schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(raw["schema"])))
    return Head(raw["version"], schema, raw["notes"], raw)


def _mark(owner: Owner) -> str:
    return sha256(owner.partition.encode()).hexdigest()[:12]


def can_create(files: fsspec.AbstractFileSystem) -> bool:
    """Tell whether a file system can create a file only if it is not there, and atomically."""
    if isinstance(files, LocalFileSystem | MemoryFileSystem):
        return True
    put = getattr(type(files), "_pipe_file", None)
    return put is not None and "mode" in inspect.signature(put).parameters


def _create(files: fsspec.AbstractFileSystem, path: str, text: bytes) -> None:
    """Create a file whole, or raise `FileExistsError` if it is there."""
    if not isinstance(files, LocalFileSystem):
        files.pipe_file(path, text, mode="create")
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    made = Path(path).with_name(f".{uuid.uuid4().hex}")
    try:
        with made.open("wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(made, path)
    finally:
        made.unlink(missing_ok=True)
