"""DuckDB: a file, one writer at a time, locked for the write alone."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

import duckdb

from windrow.duck import Config, connect_patiently, first_line, is_locked
from windrow.errors import JobError, WarehouseError
from windrow.warehouses.base import PARTS, TableName
from windrow.warehouses.duckdb_erase import erase_deleted
from windrow.warehouses.duckdb_tables import DuckDBTables

__all__ = ["DuckDBWarehouse"]

_CONFIG: Config = {"memory_limit": "256MB", "threads": 2, "preserve_insertion_order": False}


class DuckDBWarehouse(DuckDBTables):
    """One table in a DuckDB file.

    Args:
        url: ``duckdb:///`` and the file's path.
        table: The job's table.
        writes: Whether the file is opened to write; a reader leaves it as it is, even missing.
        lock_wait_s: How long to wait for another process to let go of the file; ``$WINDROW_LOCK_WAIT_S``
            or a minute unless given.
    """

    shared = False

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        self.path = url.partition(":///")[2]
        if not self.path or self.path.endswith("/:memory:"):
            raise JobError("warehouse.url names no DuckDB file.", "write duckdb:///folder/file.duckdb.")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Open the file, waiting while another process holds it; a reader of a missing file sees an empty one."""
        self._check_folder()
        is_new = not Path(self.path).exists()
        try:
            if is_new and self.writes:
                _create(Path(self.path))
            path = ":memory:" if is_new and not self.writes else self.path
            con = connect_patiently(path, path == self.path and not self.writes, _CONFIG, self.lock_wait_s)
            con.execute("SET TimeZone = 'UTC'")
        except duckdb.Error as error:
            raise self.told(error) from None
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from None
        return con

    def settle(self) -> None:
        """Merge the log into the file."""
        self.con.execute("CHECKPOINT")

    def erase(self) -> None:
        """Write the tables anew, and the file's free blocks over: both still hold rows that are gone."""
        tables = [self.sql[part] for part in PARTS if part != "ledger" and self.catalog.columns(part)]
        database = self.con.execute("SELECT current_database()").fetchall()[0][0]
        erase_deleted(self.con, tables, database, self.table.schema or "main")

    def _check_folder(self) -> None:
        """Refuse a place that cannot be written, before anything is scored."""
        file = Path(self.path)
        folder = next(parent for parent in file.parents if parent.exists())
        try:
            if self.writes:
                file.parent.mkdir(parents=True, exist_ok=True)
            able = os.access(file if file.exists() else folder, os.W_OK) and os.access(folder, os.W_OK)
            if folder.is_dir() and able and not file.is_dir():
                return
            reason = "it is a folder" if file.is_dir() else "it is read-only"
        except OSError as error:
            reason = str(error.strerror)
        raise self._unwritable(reason)

    def _unwritable(self, reason: str) -> WarehouseError:
        fix = "correct warehouse.url, its permissions or its free space."
        return WarehouseError(f"DuckDB file {self.path!r} cannot be written: {reason}.", fix)

    def told(self, error: duckdb.Error) -> WarehouseError | JobError:
        """Say what a DuckDB error means, and what to do."""
        words = first_line(error)
        if is_locked(error):
            return WarehouseError(
                f"DuckDB file {self.path!r} is locked by another process (waited {self.lock_wait_s:.0f} s).",
                "close the program that has it open (even a reader blocks a writer), then run it again.",
            )
        if "not a valid DuckDB database" in words or "version number" in words:
            return JobError(f"{self.path!r} is no DuckDB file for here: {words}.", "name another file, or remove it.")
        if "No space left" in words or isinstance(error, duckdb.OutOfMemoryException):
            fix = "free some space, then run it again; nothing is scored twice."
            return WarehouseError(f"DuckDB file {self.path!r} cannot be written: {words}.", fix)
        fix = "check the file and its permissions, then run it again."
        return WarehouseError(f"DuckDB file {self.path!r} cannot be written: {words}.", fix)


def _create(file: Path) -> None:
    """Make an empty DuckDB file, whole or not at all: a kill while it is made must not leave half of one."""
    made = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}")
    try:
        duckdb.connect(str(made)).close()
        with suppress(FileExistsError):
            os.link(made, file)
    finally:
        made.unlink(missing_ok=True)
