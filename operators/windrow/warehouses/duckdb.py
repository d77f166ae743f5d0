"""DuckDB: a file, one writer at a time, locked for the write alone."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa

from windrow.duck import Config, connect_patiently, execute, first_line, is_locked, quoted
from windrow.errors import FencedError, JobError, SchemaError, WarehouseError
from windrow.overlap import in_tables, read_ahead
from windrow.receipt import LEDGER_SCHEMA, Receipt, Seconds, utc_now
from windrow.warehouses.base import Replacement, TableName
from windrow.warehouses.evolution import can_hold, widened

__all__ = ["DuckDBWarehouse"]

log = logging.getLogger("windrow")

LOCK_WAIT_S = 60.0
_ROWS = 65_536
_BYTES = 32 << 20
_CONFIG: Config = {"memory_limit": "128MB", "threads": 2, "preserve_insertion_order": False}


class DuckDBWarehouse:
    """One table in a DuckDB file.

    Args:
        url: ``duckdb:///`` and the file's path.
        table: The job's table.
        writes: Whether the file is opened to write; a reader leaves it as it is, even missing.
        lock_wait_s: How long to wait for another process to let go of the file; ``$WINDROW_LOCK_WAIT_S``
            or a minute unless given.
    """

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        self.path = url.partition(":///")[2]
        if not self.path or self.path.endswith("/:memory:"):
            raise JobError("warehouse.url names no DuckDB file.", "write duckdb:///folder/file.duckdb.")
        self.table, self.writes = table, writes
        self.lock_wait_s = (
            float(os.environ.get("WINDROW_LOCK_WAIT_S", LOCK_WAIT_S)) if lock_wait_s is None else lock_wait_s
        )
        self.names = {"table": table, "rejects": table.rejects, "ledger": table.ledger}

    def __enter__(self) -> Self:
        self.con = self._connect()
        catalog = self.con.execute("SELECT current_database()").fetchall()[0][0]
        schema = self.table.schema or "main"
        self.sql = {part: quoted(catalog, schema, name.name) for part, name in self.names.items()}
        self.schema_sql = quoted(catalog, schema)
        return self

    def __exit__(self, *error: object) -> None:
        self.con.close()

    def plan(self, table: pa.Schema, rejects: pa.Schema) -> list[str]:
        """Return the statements that would fit the tables to the schemas; nothing is changed."""
        wanted = {"table": table, "rejects": rejects, "ledger": LEDGER_SCHEMA}
        return [statement for part, schema in wanted.items() for statement in self._planned(part, schema)]

    def replace(self, new: Replacement) -> Receipt:
        """Replace the partition, its rejects and its ledger row in one transaction."""
        try:
            self._evolve(new)
            with self._transaction():
                receipt = self._replace(new)
            self._check_ledger(receipt)
        except duckdb.Error as error:
            raise self._told(error) from error
        try:
            self.con.execute("CHECKPOINT")
        except duckdb.Error as error:
            log.warning("The run is published, but its log cannot be merged into the file yet: %s.", first_line(error))
        return receipt

    def read(self, query: str, values: list[object]) -> pa.Table:
        """Run a reading query with the quoted names filled in."""
        try:
            return self.con.execute(query.format(**self.sql), values).to_arrow_table()
        except duckdb.Error as error:
            raise self._told(error) from error

    def _replace(self, new: Replacement) -> Receipt:
        """Delete and insert inside the open transaction."""
        receipt = new.receipt
        self._fence(receipt)
        for part, schema, rows in (("table", new.table, new.rows), ("rejects", new.rejects, new.reject_rows)):
            self.con.execute(f"DELETE FROM {self.sql[part]} WHERE windrow_partition = ?", [receipt.partition])
            self._insert(part, schema, rows())
        seconds = receipt.seconds
        publish_s = time.monotonic() - new.began
        total_s = seconds.load + seconds.infer + publish_s
        receipt = dataclasses.replace(
            receipt,
            seconds=Seconds(seconds.load, seconds.infer, publish_s, total_s),
            rows_per_s=receipt.rows_in / total_s if total_s else 0.0,
            finished_at=utc_now(),
        )
        self.con.execute(f"DELETE FROM {self.sql['ledger']} WHERE run_id = ?", [receipt.run_id])
        self._insert("ledger", LEDGER_SCHEMA, receipt.to_arrow().to_reader())
        return receipt

    def _fence(self, receipt: Receipt) -> None:
        """Raise a `FencedError` if a later run of the partition has published, however it spelled the table's name."""
        later = self.con.execute(
            f'SELECT "table", run_id FROM {self.sql["ledger"]} WHERE partition = ? AND run_id > ? ORDER BY run_id DESC',
            [receipt.partition, receipt.run_id],
        ).fetchall()
        for table, run_id in later:
            if TableName.parse(table).matches(self.table):
                raise FencedError(
                    f"Partition {receipt.partition!r} was published by the later run {run_id}; nothing was changed.",
                    "nothing to do, unless you want it anew: run the job again.",
                )

    def _evolve(self, new: Replacement) -> None:
        """Create the schema and the tables, add and widen columns, in a transaction of its own."""
        with self._transaction():
            self.con.execute(f"CREATE SCHEMA IF NOT EXISTS {self.schema_sql}")
            for statement in self.plan(new.table, new.rejects):
                self.con.execute(statement)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit at the end, or roll back what was done and raise."""
        self.con.execute("BEGIN TRANSACTION")
        try:
            yield
            self.con.execute("COMMIT")
        except BaseException:
            with suppress(duckdb.Error):
                self.con.execute("ROLLBACK")
            raise

    def _insert(self, part: str, schema: pa.Schema, reader: pa.RecordBatchReader) -> None:
        """Insert a stream by column names, each cast to the table's type."""
        types = self._columns(part)
        names = ", ".join(quoted(f.name) for f in schema)
        values = ", ".join(f"CAST({quoted(f.name)} AS {types[f.name.lower()]})" for f in schema)
        for table in read_ahead(in_tables(reader, _ROWS, _BYTES), depth=1):
            execute(self.con, f"INSERT INTO {self.sql[part]} ({names}) SELECT {values} FROM arriving", table)

    def _planned(self, part: str, schema: pa.Schema) -> list[str]:
        """Plan one table: create it, or add and widen columns."""
        existing = self._columns(part)
        types = self._types(schema)
        if not existing:
            columns = ", ".join(f"{quoted(name)} {kind or 'VARCHAR'}" for name, kind in types.items())
            return [f"CREATE TABLE {self.sql[part]} ({columns})"]
        if "windrow_partition" in types and "windrow_partition" not in existing:
            raise SchemaError(
                f"Table {self.names[part].name!r} exists and is not Windrow's: it has no column windrow_partition.",
                "name a table that does not exist yet; it will be made.",
            )
        statements = []
        for name, kind in types.items():
            held = existing.get(name.lower())
            if held is None:
                statements.append(f"ALTER TABLE {self.sql[part]} ADD COLUMN {quoted(name)} {kind or 'VARCHAR'}")
            elif kind is not None and not can_hold(held, kind):
                wider = widened(held, kind) or self._free(part, name, kind)
                if wider is None:
                    raise self._refusal(part, name, held, kind)
                statements.append(f"ALTER TABLE {self.sql[part]} ALTER COLUMN {quoted(name)} TYPE {wider}")
        return statements

    def _free(self, part: str, name: str, kind: str) -> str | None:
        """Return `kind` if the column holds no value yet, so that any type will do."""
        used = self.con.execute(f"SELECT count({quoted(name)}) FROM {self.sql[part]}").fetchall()[0][0]
        return None if used else kind

    def _refusal(self, part: str, name: str, held: str, kind: str) -> SchemaError:
        alter = f"ALTER TABLE {self.sql[part]} ALTER COLUMN {quoted(name)} TYPE {kind}"
        return SchemaError(
            f"Column {name!r} of table {self.names[part].name!r} is {held}, but the job gives {kind}.",
            f"cast it in the source, name another table, or run: {alter};",
        )

    def _columns(self, part: str) -> dict[str, str]:
        """Return the table's column types by lower-case name; empty if there is no table.

        Raises:
            SchemaError: The name is a view's.
        """
        name = self.names[part]
        where = "lower(table_name) = lower(?) AND lower(table_schema) = lower(?) AND table_catalog = current_database()"
        values = [name.name, name.schema or "main"]
        kinds = self.con.execute(f"SELECT table_type FROM information_schema.tables WHERE {where}", values).fetchall()
        if kinds and kinds[0][0] != "BASE TABLE":
            raise SchemaError(f"{name.name!r} is a view.", "name a table, or drop the view.")
        rows = self.con.execute(
            f"SELECT lower(column_name), data_type FROM information_schema.columns WHERE {where}", values
        ).fetchall()
        return dict(rows)

    def _types(self, schema: pa.Schema) -> dict[str, str | None]:
        """Return DuckDB's types for Arrow's; None where the source told none."""
        told = [f for f in schema if not pa.types.is_null(f.type)]
        self.con.register("windrow_empty", pa.schema(told).empty_table())
        found = {row[0]: row[1] for row in self.con.execute("DESCRIBE windrow_empty").fetchall()}
        self.con.unregister("windrow_empty")
        return {f.name: found.get(f.name) for f in schema}

    def _check_ledger(self, receipt: Receipt) -> None:
        """Read the commit back; a commit that is not there is an error."""
        found = self.con.execute(
            f"SELECT count(*) FROM {self.sql['ledger']} WHERE run_id = ?", [receipt.run_id]
        ).fetchall()
        if found[0][0] != 1:
            raise WarehouseError(
                f"Run {receipt.run_id} was committed, but is not in {self.sql['ledger']}.", "run the job again."
            )

    def _connect(self) -> duckdb.DuckDBPyConnection:
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
            raise self._told(error) from None
        except OSError as error:
            raise self._unwritable(error.strerror or str(error)) from None
        return con

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

    def _told(self, error: duckdb.Error) -> WarehouseError | JobError:
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
