"""PostgreSQL as a tool: a session that connects within seconds, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self
from urllib.parse import urlsplit

import pyarrow as pa

from windrow.drivers import connected, driver_of
from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError
from windrow.job import redacted
from windrow.pooling import answers, let_go, pooled

__all__ = ["Session", "connect", "driver", "is_lost", "told", "words"]

_OPTIONS = {
    "connect_timeout": "5",
    "fallback_application_name": "windrow",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}
"""Of libpq, where the url does not set them: a server that is gone is noticed."""
_SETTINGS = (
    "SET client_encoding TO 'UTF8'",
    "SET standard_conforming_strings TO on",
    "SET TimeZone TO 'UTC'",
    "SET DateStyle TO 'ISO'",
    "SET default_transaction_isolation TO 'read committed'",
)
_DURABLE = "SELECT set_config(name, 'on', false) FROM pg_settings WHERE name = 'synchronous_commit' AND setting = 'off'"
"""What is called published must outlive a crash, whatever the database's default is."""
_REFUSED = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist", "not permitted")
_MISWRITTEN = ("connection option", "URI", "percent-encoded", "sslmode value")
_IO = 10
"""ADBC's status of what went wrong between here and the server."""


def driver() -> Any:
    """Return the module of the driver, ``adbc_driver_postgresql.dbapi``.

    Raises:
        JobError: It is not installed.
    """
    return driver_of("adbc_driver_postgresql.dbapi", "PostgreSQL", "postgres")


def connect(url: str) -> Any:
    """Connect, trying again for some seconds where that may help.

    Args:
        url: As libpq reads it; SQLAlchemy's ``postgresql+driver://`` is the same.

    Raises:
        JobError: The url is not written well, or the server refuses user, password or database.
        WarehouseError: The server cannot be reached.
    """
    dbapi, full, parts = driver(), _with_options(url), urlsplit(url)
    if parts.netloc.count("@") > 1 or "@" in parts.path + parts.fragment:
        raise _miswritten()

    def may_pass(error: Exception) -> bool:
        return isinstance(error, dbapi.Error) and not any(each in words(error) for each in (*_MISWRITTEN, *_REFUSED))

    try:
        return connected(lambda: dbapi.connect(full), may_pass)
    except dbapi.Error as error:
        text = words(error)
        if any(phrase in text for phrase in _MISWRITTEN):  # the driver repeats what may be part of a password
            raise _miswritten() from None
        if any(phrase in text for phrase in _REFUSED):
            fix = "check user, password and database; then look at the server's pg_hba.conf."
            raise JobError(f"PostgreSQL at {_place(url)} refuses the connection: {text}", fix) from None
        problem = f"PostgreSQL at {_place(url)} cannot be reached: {text}"
        raise WarehouseError(problem, "check host, port and network, then try again.") from None


class Session:
    """A connection whose statements run in transactions that are ended on purpose; a context manager.

    Args:
        url: Of the server and database.
        reads: Whether nothing may be written.
        lock_wait_s: How long a statement waits for a lock.
    """

    def __init__(self, url: str, reads: bool = False, lock_wait_s: float = 0) -> None:
        settings = (
            *_SETTINGS,
            _DURABLE,
            f"SET lock_timeout TO {round(lock_wait_s * 1000)}",
            *(["SET default_transaction_read_only TO on"] if reads else []),
        )
        self.con = pooled(("postgresql", url, settings), lambda: _set(connect(url), settings), _answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(is_sound=error[:1] == (None,))

    def close(self, is_sound: bool) -> None:
        """Leave the connection to the next session with the same settings; close it if it may be broken."""
        if is_sound:
            try:
                self.con.rollback()
            except Exception:
                is_sound = False
        let_go(self.con, is_sound)

    def run(self, statement: str) -> int:
        """Run a statement that returns no rows; return how many it changed, -1 if that cannot be told."""
        with self.con.cursor() as cursor:
            cursor.execute(statement)
            count: int = cursor.rowcount
            return count

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self.con.cursor() as cursor:
            cursor.execute(query)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def table(self, query: str) -> pa.Table:
        """Return the rows of a query as Arrow."""
        with self.con.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_arrow_table()

    def run_alone(self, statement: str) -> None:
        """Run a statement that PostgreSQL allows in no transaction."""
        self.con.adbc_connection.set_autocommit(True)
        try:
            self.run(statement)
        finally:
            self.con.adbc_connection.set_autocommit(False)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end, or roll back what was done and raise."""
        try:
            yield
            self.con.commit()
        except BaseException:
            with suppress(Exception):  # the connection may be what broke
                self.con.rollback()
            raise


def _set(con: Any, settings: tuple[str, ...]) -> Any:
    """Return a connection with its settings; it is closed if they cannot be made."""
    try:
        with con.cursor() as cursor:
            for statement in settings:
                cursor.execute(statement)
        con.commit()
    except BaseException:
        con.close()
        raise
    return con


def _answers(con: Any) -> bool:
    if not answers(con):
        return False
    con.rollback()
    return True


def is_lost(error: Any) -> bool:
    """Tell whether an error of the driver means that the connection is gone."""
    state = error.sqlstate or ""
    return state.startswith(("08", "57P")) or (not state and int(error.status_code) == _IO)


def words(error: Any) -> str:
    """Return what PostgreSQL or its driver says, in one line, passwords hidden."""
    told = {
        str(key, "utf-8") if isinstance(key, bytes) else key: value
        for key, value in getattr(error, "details", None) or ()
    }
    primary = told.get("PG_DIAG_MESSAGE_PRIMARY", b"").decode("utf-8", "replace")
    text = re.sub(r"^[A-Z_]+: (\[libpq\] )?(Failed to connect: )?", "", first_line(error))
    where = next((line for line in str(error).split("\n") if line.startswith("CONTEXT:  COPY")), "")
    place = f" ({where.removeprefix('CONTEXT:  ').split(':')[0]})" if where else ""
    return redacted(f"{primary or text}{place}").rstrip(".") + "."


def told(error: Any, url: str) -> JobError | WarehouseError:
    """Say what an error of the driver means for someone who writes, and what to do."""
    state, said = error.sqlstate or "", words(error)
    if is_lost(error):
        fix = "run it again; a run is published whole or not at all, and nothing is scored twice."
        return WarehouseError(f"The connection to PostgreSQL at {_place(url)} broke off: {said}", fix)
    if state == "42501":
        fix = "grant what is missing; docs/warehouses/postgresql.md lists the least that is needed."
        return JobError(f"PostgreSQL refuses: {said}", fix)
    if state == "25006":
        return JobError(f"PostgreSQL at {_place(url)} only reads: {said}", "name the primary server.")
    if state == "53100":
        fix = "free some space on the server, then run it again; nothing was changed, and nothing is scored twice."
        return WarehouseError(f"PostgreSQL at {_place(url)} has no space left: {said}", fix)
    if state == "55P03":
        fix = "wait until the other run or reader is done, then run it again."
        return WarehouseError(f"Another session holds the table: {said}", fix)
    if state.startswith(("22", "23", "42", "0A", "2BP")):
        fix = "cast the column in the source, or change the table; nothing was changed."
        return SchemaError(f"PostgreSQL cannot take a value or a change: {said}", fix)
    return WarehouseError(f"PostgreSQL refuses a statement: {said}", "correct what it names, then run it again.")


def _with_options(url: str) -> str:
    """Return the url as libpq reads it, with our options where it sets none of its own."""
    scheme, _, rest = url.partition(":")
    given = {pair.partition("=")[0] for pair in rest.partition("?")[2].split("&")}
    added = "&".join(f"{name}={value}" for name, value in _OPTIONS.items() if name not in given)
    return f"{scheme.partition('+')[0]}:{rest}{'&' if '?' in rest else '?'}{added}"


def _miswritten() -> JobError:
    fix = "write postgresql://user:password@host:5432/database, odd characters as %XX."
    return JobError("The url of PostgreSQL cannot be read.", fix)


def _place(url: str) -> str:
    """Return where a url leads, without who asks."""
    parts = urlsplit(url)
    return repr(f"{parts.netloc.rpartition('@')[2]}{parts.path}")
