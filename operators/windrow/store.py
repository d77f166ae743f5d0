"""Run folders and the content-addressed predictions, on a local disk or any fsspec URL.

    <store>/runs/<job>/<partition>/<run_id>/    run.json, rows.parquet, rejects.parquet, shards/, lanes/, approval.json,
                                                receipt.json
    <store>/predictions/<fingerprint>/*.parquet  hash -> the task's columns, or a reject with its reason
    <store>/tmp/                                 scratch of runs under way (local stores)

Every write is atomic: a temporary name and a rename on a local disk, a single put elsewhere.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import duckdb
import fsspec
import pyarrow as pa

from windrow.duck import Config, first_line
from windrow.errors import JobError, StoreError
from windrow.faults import reach
from windrow.filetimes import modified_s
from windrow.job import redacted
from windrow.run_ref import RunRef, new_run_id

__all__ = ["RunRef", "Store", "new_run_id"]

SCRATCH_LIFETIME_S = 24 * 3600
SCRATCH_MEMORY = "256MB"
_FROM_LOAD = "run it again from load; what was pruned or broken is made anew."


class Store:
    """Files of runs and predictions under one root.

    Args:
        url: Folder, or any fsspec URL (``s3://bucket/windrow``, ``memory://store``).

    Raises:
        JobError: The url is of no known kind, or DuckDB would read it as a glob.
        StoreError: The root cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise JobError(
                f"Store {redacted(url)!r} cannot be opened: {first_line(error)}.", "correct `store`."
            ) from None
        except OSError as error:
            raise self._unable("open", error.strerror or str(error)) from None
        if any(letter in root for letter in "*?["):
            raise JobError(f"Store {redacted(url)!r} has one of * ? [ in its name.", "name another folder as `store`.")
        self.root = root.rstrip("/")
        self.is_local = "file" in ([self.fs.protocol] if isinstance(self.fs.protocol, str) else self.fs.protocol)

    def path(self, name: str) -> str:
        """Return where `name` lies, as DuckDB reads it."""
        return f"{self.root}/{name}" if self.is_local else self.fs.unstrip_protocol(f"{self.root}/{name}")

    @contextmanager
    def connect(self, scratch: str | Path) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open a DuckDB in memory that can read this store; what does not fit spills to a scratch folder.

        DuckDB's errors become a `StoreError`.
        """
        config: Config = {"memory_limit": SCRATCH_MEMORY, "threads": 2, "temp_directory": str(scratch)}
        try:
            with closing(duckdb.connect(":memory:", config=config)) as con:
                con.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
                # DuckDB 1.5 loses rows where a join's filter on a BLOB reaches a Parquet file of few values.
                con.execute("SET disabled_optimizers = 'join_filter_pushdown'")
                if not self.is_local:
                    con.register_filesystem(self.fs)
                yield con
        except duckdb.InvalidInputException as error:  # what is no Parquet file, or not any more
            raise StoreError(
                f"A file of store {redacted(self.url)!r} is broken: {first_line(error)}.", _FROM_LOAD
            ) from error
        except duckdb.Error as error:
            raise self._unable("use", first_line(error)) from error

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a local folder that is gone afterwards; those that killed runs left are swept."""
        parent = Path(self.root) / "tmp" if self.is_local else None
        with self._told("write"):
            if parent:
                parent.mkdir(parents=True, exist_ok=True)
                _sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix="windrow-", dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, local: str | Path, name: str) -> None:
        """Move a finished local file to `name`, atomically."""
        with self._told("write"):
            target = f"{self.root}/{name}"
            if not self.is_local:
                reach("store.put")
                self.fs.put_file(str(local), target)
                Path(local).unlink()
                return
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            with open(local, "rb+") as file:
                os.fsync(file.fileno())
            reach("store.put")
            try:
                Path(local).replace(target)
            except OSError:
                partial = f"{target}.partial-{uuid.uuid4().hex[:8]}"
                shutil.move(local, partial)
                Path(partial).replace(target)

    def write_json(self, name: str, value: Any) -> None:
        """Write a small JSON file, atomically."""
        with self.scratch() as folder, self._told("write"):
            file = folder / "value.json"
            file.write_text(json.dumps(value, indent=1, default=str), encoding="utf-8")
            self.put(file, name)

    def read_json(self, name: str) -> Any:
        """Read a small JSON file.

        Raises:
            StoreError: It is missing or broken.
        """
        with self._told("read", name):
            text = self.fs.cat_file(f"{self.root}/{name}")
        try:
            return json.loads(text)
        except ValueError as error:
            raise StoreError(f"File {name!r} of the store is broken: {first_line(error)}.", _FROM_LOAD) from None

    def exists(self, name: str) -> bool:
        """Tell whether `name` is there."""
        with self._told("read"):
            return bool(self.fs.exists(f"{self.root}/{name}"))

    @contextmanager
    def opened(self, name: str) -> Iterator[pa.NativeFile]:
        """Open `name` for reading by Arrow; memory-mapped on a local disk.

        Raises:
            StoreError: It is missing. What goes wrong while it is read is left as it is.
        """
        with self._told("read", name):
            path = f"{self.root}/{name}"
            file = pa.memory_map(path) if self.is_local else pa.PythonFile(self.fs.open(path, "rb"), mode="r")
        with file:
            yield file

    def read_arrow(self, name: str, columns: Sequence[int] | None = None) -> pa.Table:
        """Read an Arrow IPC file, or some of its columns.

        Raises:
            StoreError: It is missing or broken.
        """
        try:
            with self.opened(name) as file:
                options = pa.ipc.IpcReadOptions(included_fields=None if columns is None else list(columns))
                table = pa.ipc.open_file(file, options=options).read_all()
                table.validate(full=True)  # or an offset that points nowhere would end the process
                return table
        except (pa.ArrowException, OSError) as error:
            raise StoreError(f"File {name!r} of the store is broken: {first_line(error)}.", _FROM_LOAD) from None

    def listed(self, folder: str, suffix: str = ".parquet") -> list[tuple[str, int, float]]:
        """Return ``(name, size_bytes, modified)`` of the files under `folder`, by name; all files if `suffix` is empty.

        `modified` is in seconds since 1970, 0 where the file system does not tell.
        """
        with self._told("read"):
            found = self._found_here(folder) if self.is_local else self._found_there(folder)
            return sorted(
                file for file in found if file[0].endswith(suffix) and (".partial-" not in file[0] or not suffix)
            )

    def folders(self, folder: str) -> list[str]:
        """Return the names of what lies in `folder`, without what lies in that; none if it is not there."""
        with self._told("read"):
            self.fs.invalidate_cache()
            try:
                return [PurePosixPath(path).name for path in self.fs.ls(f"{self.root}/{folder}", detail=False)]
            except FileNotFoundError:
                return []

    def _found_here(self, folder: str) -> Iterator[tuple[str, int, float]]:
        """Walk a local folder; fsspec would leave a whole folder out if one of its files goes meanwhile."""
        for place, _, names in os.walk(f"{self.root}/{folder}"):
            for path in (Path(place, name) for name in names):
                with suppress(FileNotFoundError):
                    info = path.stat()
                    yield path.relative_to(self.root).as_posix(), info.st_size, info.st_mtime

    def _found_there(self, folder: str) -> Iterator[tuple[str, int, float]]:
        self.fs.invalidate_cache()
        for path, info in self.fs.find(f"{self.root}/{folder}", detail=True).items():
            name = path.removeprefix(self.root) if path.startswith(self.root) else path.split(self.root, 1)[-1]
            yield name.lstrip("/"), int(info.get("size") or 0), modified_s(info)

    def remove(self, names: Sequence[str]) -> None:
        """Remove files, missing ones included."""
        with self._told("write"):
            for name in names:
                with suppress(FileNotFoundError):
                    self.fs.rm(f"{self.root}/{name}", recursive=True)

    def rename(self, name: str, to: str) -> None:
        """Give a file another name; nothing happens if it is gone."""
        with self._told("write"), suppress(FileNotFoundError):
            self.fs.mv(f"{self.root}/{name}", f"{self.root}/{to}")

    def drop_empty_folders(self, folder: str) -> None:
        """Remove folders without files under `folder` of a local store."""
        for path, _, _ in os.walk(f"{self.root}/{folder}", topdown=False):
            with suppress(OSError):
                Path(path).rmdir()

    @contextmanager
    def _told(self, verb: str, name: str = "") -> Iterator[None]:
        """Turn failures of the file system into a `StoreError`."""
        try:
            yield
        except (OSError, ValueError) as error:
            if name and isinstance(error, FileNotFoundError):
                raise StoreError(f"File {name!r} is not in store {redacted(self.url)!r}.", _FROM_LOAD) from None
            reason = getattr(error, "strerror", None) or first_line(error) or type(error).__name__
            raise self._unable(verb, reason) from error

    def _unable(self, verb: str, reason: str) -> StoreError:
        done = {"write": "written", "use": "used", "open": "opened"}.get(verb, verb)
        return StoreError(
            f"Store {redacted(self.url)!r} cannot be {done}: {reason}.",
            "free some space, correct its permissions, or name another folder as `store`.",
        )


def _sweep(parent: Path) -> None:
    """Remove scratch folders that nothing has touched for a day."""
    for folder in parent.glob("windrow-*"):
        try:
            if time.time() - folder.stat().st_mtime > SCRATCH_LIFETIME_S:
                shutil.rmtree(folder, ignore_errors=True)
        except FileNotFoundError:
            continue
