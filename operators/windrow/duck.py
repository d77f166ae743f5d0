"""DuckDB as a tool: quoting, connecting while others hold a file, and statements that hear Ctrl-C."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

__all__ = ["Config", "connect_patiently", "execute", "first_line", "is_locked", "literal", "patiently", "quoted"]

T = TypeVar("T")
Config = dict[str, str | bool | int | float | list[str]]

_LOCK_WORDS = ("Could not set lock", "being used by another process", "Conflicting lock")
_LAST_WAIT_S = 10.0


def quoted(*parts: str | None) -> str:
    """Quote the parts of a name for SQL and join them by dots.

    >>> quoted("analytics", 'odd"name')
    '"analytics"."odd""name"'
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts if part is not None)


def literal(text: object) -> str:
    """Write a text as a SQL literal.

    >>> literal("O'Neil")
    "'O''Neil'"
    """
    return "'" + str(text).replace("'", "''") + "'"


def execute(
    con: duckdb.DuckDBPyConnection, statement: str, arriving: pa.Table | pa.RecordBatchReader | None = None
) -> duckdb.DuckDBPyConnection:
    """Run a statement that may take long; a signal stops it at once.

    The statement runs in a thread, and this one waits: DuckDB itself would hear a signal late, and
    not as `KeyboardInterrupt`.

    Args:
        con: Nobody else may use it meanwhile.
        statement: One SQL statement.
        arriving: Can be read as ``arriving`` by the statement. Unlike a registered table it is
            let go at once, not at the end of the transaction.
    """
    done: Future[duckdb.DuckDBPyConnection] = Future()

    def work(arriving: pa.Table | pa.RecordBatchReader | None) -> None:  # noqa: ARG001 (DuckDB finds it by name)
        try:
            done.set_result(con.execute(statement))
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=work, args=(arriving,), name="windrow-duckdb", daemon=True)
    thread.start()
    try:
        return done.result()
    finally:
        if not done.done():
            con.interrupt()
            thread.join(_LAST_WAIT_S)


def is_locked(error: Exception) -> bool:
    """Tell whether a DuckDB error means that another process holds the file."""
    return any(words in str(error) for words in _LOCK_WORDS)


def connect_patiently(path: str, read_only: bool, config: Config, wait_s: float) -> duckdb.DuckDBPyConnection:
    """Open a DuckDB file, waiting with back-off while another process holds it.

    Raises:
        duckdb.Error: It cannot be opened, or not within `wait_s` seconds.
    """
    return patiently(lambda: duckdb.connect(path, read_only=read_only, config=config), wait_s)


def patiently(work: Callable[[], T], wait_s: float, passes: Callable[[duckdb.Error], bool] = is_locked) -> T:
    """Return what `work` returns, trying again with back-off while its error `passes`, as that of a held file does.

    Raises:
        duckdb.Error: It fails for another reason, or still fails after `wait_s` seconds.
    """
    deadline = time.monotonic() + wait_s
    pause_s = 0.05
    while True:
        try:
            return work()
        except duckdb.Error as error:
            if not passes(error) or time.monotonic() > deadline:
                raise
        time.sleep(pause_s * (0.5 + random.random()))
        pause_s = min(2.0, pause_s * 1.6)


def first_line(error: Any) -> str:
    """Return the first line of an error's message, without its full stop."""
    return str(error).strip().split("\n")[0].rstrip(".")
