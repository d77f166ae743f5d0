"""DuckLake: Parquet files whose catalog is a DuckDB file, SQLite or PostgreSQL; one transaction over all its tables.

Nothing is locked: of two transactions that touch the same rows, DuckLake lets the first commit. Inserts alone are no
conflict, so each publisher also changes the ledger's comment. One that comes second begins again, fencing included.
"""

from __future__ import annotations

import re
import sqlite3
import tempfile
import uuid
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

import duckdb
import pyarrow as pa

from windrow.duck import Config, first_line, is_locked, literal, patiently, quoted
from windrow.duck_extensions import load_extension, reach_object_store
from windrow.errors import JobError, SchemaError, WarehouseError
from windrow.job import redacted
from windrow.warehouses.base import Part, TableName
from windrow.warehouses.duckdb_catalog import Catalog
from windrow.warehouses.duckdb_erase import erase_deleted
from windrow.warehouses.duckdb_tables import DuckDBTables
from windrow.warehouses.local import check_writable
from windrow.warehouses.widening import plain

__all__ = ["DuckLakeWarehouse"]

_CONFIG: Config = {
    "memory_limit": "512MB",
    "threads": 2,
    "preserve_insertion_order": False,
    "autoinstall_known_extensions": False,  # nothing is downloaded at run time
}
_CATALOG = "__ducklake_metadata_lake"
_FIX = "write ducklake:///catalog.ducklake?data=folder, ducklake+sqlite:///… or ducklake+postgresql://user@host/db?…"
_EXTENSIONS = {"": (), "sqlite": ("sqlite_scanner",), "postgresql": ("postgres_scanner",)}
_UNHELD = re.compile(r"\bU?HUGEINT\b|\bBIT\b|\bUNION\(|\bENUM\(")
"""What DuckLake has no type for, or, as HUGEINT, writes as a float."""
_REFUSED = (
    "authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    '" does not exist',
    "not permitted",
)
_WHOLE_ROWS = "DATA_INLINING_ROW_LIMIT 0"
"""Fewer than ten rows would go into the catalog as decimal literals, by which a double may lose its last place."""
_MADE_BY_OTHERS = ("already exists", "duplicate key", "could not serialize", "deadlock detected")
_UNREACHED = ("Unable to connect", "could not connect", "Connection refused", "server closed the connection")


class DuckLakeWarehouse(DuckDBTables):
    """One table in a lake.

    Args:
        url: ``ducklake:///catalog.ducklake``, ``ducklake+sqlite:///catalog.sqlite`` or
            ``ducklake+postgresql://user:password@host/database``, and ``?data=`` with the folder of the Parquet
            files; a lake that is there knows its own.
        table: The job's table.
        writes: Whether anything will be written; a reader leaves the lake as it is, even missing.
        lock_wait_s: How long to begin again after others who write; ``$WINDROW_LOCK_WAIT_S`` or a minute unless given.
    """

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        scheme, _, rest = url.partition("://")
        address, _, query = rest.partition("?")
        options = query.split("&") if query else []
        self.kind = {"postgres": "postgresql"}.get(kind := scheme.partition("+")[2], kind)
        self.data = next((unquote(each[5:]) for each in options if each.startswith("data=")), None)
        others = "&".join(each for each in options if not each.startswith("data="))
        self.file = None if self.kind == "postgresql" else Path(re.sub("^//", "/", address))
        if self.kind not in _EXTENSIONS or not address.strip("/") or (self.file and (others or address[0] != "/")):
            raise JobError("warehouse.url names no DuckLake catalog.", _FIX)
        if self.file:
            self.source = f"{self.kind}:{self.file}".removeprefix(":")
            self.place = repr(str(self.file))
        else:
            wait = "" if "connect_timeout=" in others else "connect_timeout=5"
            self.source = f"postgres:postgresql://{address}?{'&'.join(filter(None, (others, wait)))}"
            parts = urlsplit(f"x://{address}")
            self.place = repr(f"{parts.netloc.rpartition('@')[2]}{parts.path}")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Attach the lake, waiting while another process holds its file; a reader of a missing one sees nothing."""
        con = duckdb.connect(config={**_CONFIG, "temp_directory": str(_scratch())})
        try:
            for name in ("ducklake", *_EXTENSIONS[self.kind]):
                load_extension(con, name)
            con.execute("SET TimeZone = 'UTC'")
            reach_object_store(con, self.data or "")
            if self.writes and self.file:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            if self.writes or self.file is None or self.file.exists():
                self._attach_to(con)
                con.execute("USE lake")
                if self.data is None:
                    query = f"SELECT value FROM {_CATALOG}.ducklake_metadata WHERE key = 'data_path'"
                    reach_object_store(con, "".join(value for (value,) in con.execute(query).fetchall()))
        except duckdb.Error as error:
            if not self.writes and "explicitly disabled" in str(error):
                return con
            con.close()
            raise self.told(error) from None
        except OSError as error:
            con.close()
            fix = "correct warehouse.url, its permissions or its free space."
            raise WarehouseError(f"DuckLake {self.place} cannot be written: {error.strerror}.", fix) from None
        except BaseException:
            con.close()
            raise
        return con

    def _attach_to(self, con: duckdb.DuckDBPyConnection) -> None:
        """Attach the lake; one that is there may say only now that its files are in an object store."""
        try:
            patiently(lambda: con.execute(self._attach()), self.lock_wait_s, _passes)
        except duckdb.Error as error:
            if "httpfs" not in str(error):
                raise
            load_extension(con, "httpfs")
            patiently(lambda: con.execute(self._attach()), self.lock_wait_s, _passes)

    def catalog_of(self, con: duckdb.DuckDBPyConnection) -> Catalog:
        """Return what is known of the tables."""
        return _LakeCatalog(con, self.table)

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed."""
        for place in (self.file, Path(self.data) if self.data and "://" not in self.data else None):
            if place:
                check_writable(place)
        return super().plan(table, rejects)

    def erase(self) -> None:
        """Write files with deleted rows anew and drop all earlier snapshots of the lake, with their files."""
        for part in ("table", "rejects"):
            if self.catalog.columns(part):
                name, schema = literal(self.catalog.names[part].name), literal(self.table.schema or "main")
                for call in (
                    f"ducklake_flush_inlined_data('lake', schema_name => {schema}, table_name => {name})",
                    f"ducklake_rewrite_data_files('lake', {name}, schema => {schema}, delete_threshold => 0)",
                ):
                    self.con.execute(f"CALL {call}")
        self.con.execute("CALL ducklake_expire_snapshots('lake', older_than => now())")
        self.con.execute("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
        self._erase_catalog()

    def _erase_catalog(self) -> None:
        """Do away with what a catalog's own file still holds of values: inlined rows, and bounds of columns."""
        if self.kind == "":
            query = (
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? AND "
                "(table_name LIKE 'ducklake_inlined_data\\__%' ESCAPE '\\' OR table_name LIKE '%\\_stats' ESCAPE '\\')"
            )
            found = self.con.execute(query, [_CATALOG]).fetchall()
            tables = [quoted(_CATALOG, schema, name) for schema, name in found]
            erase_deleted(self.con, tables, _CATALOG, found[0][0] if found else "main")
        elif self.kind == "sqlite" and self.file:
            with closing(sqlite3.connect(self.file, timeout=self.lock_wait_s)) as con:
                con.execute("VACUUM")

    def told(self, error: duckdb.Error) -> WarehouseError | JobError:
        """Say what a DuckDB error means, and what to do; the catalog's url, with its password, is left out."""
        said = redacted(first_line(str(error).replace(self.source, "the catalog")))
        if any(words in said for words in _REFUSED):
            fix = "check user, password and database; then look at the server's pg_hba.conf."
            return JobError(f"The catalog at {self.place} refuses the connection: {_cause(said)}.", fix)
        if any(words in said for words in _UNREACHED):
            fix = "check host, port and network, then try again."
            return WarehouseError(f"The catalog at {self.place} cannot be reached: {_cause(said)}.", fix)
        if "data_path is not set" in said:
            return JobError(
                f"There is no lake at {self.place} yet.", "add ?data= and the folder of its files to make it."
            )
        if "DATA_PATH parameter" in said:
            return JobError(
                f"DuckLake {self.place} has its files elsewhere: {said}.", "correct ?data=, or leave it out."
            )
        if "not a valid DuckDB database" in said or "file is not a database" in said:
            return JobError(f"{self.place} is no catalog of a lake: {said}.", "name another file, or remove it.")
        if "No space left" in str(error):
            return WarehouseError(
                f"DuckLake {self.place} cannot be written: {said}.",
                "free some space, then run it again; nothing is scored twice.",
            )
        if any(words in str(error).lower() for words in ("lock", "conflict")):
            problem = f"DuckLake {self.place} is written by others (waited {self.lock_wait_s:.0f} s): {said}."
            return WarehouseError(problem, "run it again when they are done; nothing is scored twice.")
        fix = "correct what it names, then run it again; nothing is scored twice."
        return WarehouseError(f"DuckLake {self.place} refuses: {said}.", fix)

    def _attach(self) -> str:
        options = [_WHOLE_ROWS] if self.writes else ["READ_ONLY", "CREATE_IF_NOT_EXISTS false"]
        options += [f"DATA_PATH {literal(self.data)}"] if self.data and self.writes else []
        return f"ATTACH {literal(f'ducklake:{self.source}')} AS lake" + (f" ({', '.join(options)})" if options else "")


class _LakeCatalog(Catalog):
    """What a lake says of its tables: it has fewer types, and a column's type can only be widened."""

    def types(self, schema: pa.Schema) -> dict[str, str | None]:
        found = super().types(pa.schema([f.with_type(plain(f.type)) for f in schema]))
        for name, kind in found.items():
            self._refuse(name, kind or "")
        return found

    def columns(self, part: Part) -> dict[str, str]:
        found = super().columns(part)
        for name, kind in found.items():
            self._refuse(name, kind)
        return found

    def retyped(self, part: Part, name: str, kind: str) -> list[str]:
        alter = f"ALTER TABLE {self.sql[part]}"
        return [f"{alter} DROP COLUMN {quoted(name)}", f"{alter} ADD COLUMN {quoted(name)} {kind}"]

    def refused(self, part: Part, name: str, kind: str) -> str:  # noqa: ARG002 (no statement would do it)
        return "cast it in the source, or name another table; a lake can only widen a column."

    def _refuse(self, name: str, kind: str) -> None:
        if _UNHELD.search(kind):
            fix = "cast it in the source, for example to DECIMAL(38, 0) or text, or leave it out of source.keep."
            raise SchemaError(f"Column {name!r} is {kind}, which DuckLake cannot hold unchanged.", fix)


def _passes(error: duckdb.Error) -> bool:
    """Tell whether an error of an attach passes: the file is held, or others make the catalog's tables right now."""
    said = str(error)
    made = "Failed to initialize DuckLake" in said and any(word in said for word in _MADE_BY_OTHERS)
    return made or is_locked(error) or "database is locked" in said  # SQLite's words


def _scratch() -> Path:
    return Path(tempfile.gettempdir()) / f"windrow-ducklake-{uuid.uuid4().hex[:8]}"


def _cause(said: str) -> str:
    """Return what the server said, without what DuckDB says around it."""
    return said.rpartition('the catalog": ')[2] if 'the catalog": ' in said else said
