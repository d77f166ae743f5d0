"""MotherDuck: DuckDB as a service; as in a lake, of two publishers at once the second begins again.

Written by its documentation and tested against a local database in its place: the service itself was not reached.
"""

from __future__ import annotations

import os
from urllib.parse import unquote

import duckdb

from windrow.duck import Config, first_line, literal, quoted
from windrow.duck_extensions import load_extension
from windrow.errors import JobError, WarehouseError
from windrow.job import redacted
from windrow.warehouses.base import TableName
from windrow.warehouses.duckdb_tables import DuckDBTables

__all__ = ["MotherDuckWarehouse"]

_CONFIG: Config = {"memory_limit": "256MB", "threads": 2, "preserve_insertion_order": False}
_TOKEN = "motherduck_token"  # noqa: S105 (a name)
_REFUSED = ("token", "authenticat", "unauthorized", "permission", "no database", "not found")
_UNREACHED = ("could not establish connection", "failed to connect", "unavailable", "timed out", "timeout")


class MotherDuckWarehouse(DuckDBTables):
    """One table in a database of MotherDuck.

    Args:
        url: ``md:database``; the token is ``?motherduck_token=`` or in ``$MOTHERDUCK_TOKEN``.
        table: The job's table.
        writes: Whether anything will be written.
        lock_wait_s: How long to begin again after others who write; ``$WINDROW_LOCK_WAIT_S`` or a minute unless given.

    Raises:
        JobError: The url names no database, or there is no token.
    """

    def __init__(self, url: str, table: TableName, writes: bool = True, lock_wait_s: float | None = None) -> None:
        super().__init__(url, table, writes, lock_wait_s)
        address, _, query = url.partition(":")[2].partition("?")
        self.database = unquote(address.strip("/"))
        options = dict(each.partition("=")[::2] for each in query.split("&") if each)
        self._token = unquote(options.pop(_TOKEN, "")) or os.environ.get(_TOKEN) or os.environ.get(_TOKEN.upper())
        if not self.database or "/" in self.database or options:
            raise JobError("warehouse.url names no MotherDuck database.", "write md:database.")
        if not self._token:
            raise JobError("There is no token for MotherDuck.", "set MOTHERDUCK_TOKEN in the environment.")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Attach the database."""
        con = duckdb.connect(config=_CONFIG)
        try:
            load_extension(con, "motherduck")
            con.execute(f"SET {_TOKEN} = {literal(self._token)}")
            con.execute(f"ATTACH {literal(f'md:{self.database}')}")
            con.execute(f"USE {quoted(self.database)}")
            con.execute("SET TimeZone = 'UTC'")
        except duckdb.Error as error:
            con.close()
            raise self.told(error) from None
        except JobError:
            con.close()
            raise
        return con

    def told(self, error: duckdb.Error) -> WarehouseError | JobError:
        """Say what a DuckDB error means, and what to do; the token is left out."""
        said = redacted(first_line(str(error).replace(self._token or "\0", "***")))
        place = f"MotherDuck database {self.database!r}"
        if any(words in said.lower() for words in _UNREACHED):
            fix = "check the network, then try again."
            return WarehouseError(f"{place} cannot be reached: {said}.", fix)
        if any(words in said.lower() for words in _REFUSED):
            return JobError(f"{place} refuses: {said}.", "check that it is there, and what MOTHERDUCK_TOKEN may do.")
        if "conflict" in str(error).lower():
            problem = f"{place} is written by others (waited {self.lock_wait_s:.0f} s): {said}."
            return WarehouseError(problem, "run it again when they are done; nothing is scored twice.")
        fix = "correct what it names, then run it again; nothing is scored twice."
        return WarehouseError(f"{place} refuses: {said}.", fix)
