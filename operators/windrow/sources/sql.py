"""SQL queries as record batches, through Arrow-native drivers: DuckDB and PostgreSQL (ADBC)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from windrow.duck import connect_patiently, first_line, is_locked, quoted
from windrow.errors import SourceError, WarehouseError, nearest
from windrow.sources.base import BATCH_ROWS, RowSource, require_columns
from windrow.sources.since import Since

__all__ = ["DuckDBQuery", "open_query", "selected"]

LOCK_WAIT_S = 60.0


def open_query(query: str, url: str) -> RowSource:
    """Open a query at the database that `url` names.

    Raises:
        SourceError: The url is of no known kind.
    """
    scheme = url.partition(":")[0]
    text = query.strip().rstrip(";")
    if scheme == "duckdb":
        return DuckDBQuery(text, url.partition(":///")[2])
    if scheme in {"postgresql", "postgres"}:
        from windrow.sources.postgres import PostgresQuery

        return PostgresQuery(text, url)
    known = ["duckdb", "postgresql"]
    hint = nearest(scheme, known) or "."
    raise SourceError(f"source.url: {scheme!r} is no known kind of database{hint}", f"use one of: {', '.join(known)}.")


def selected(query: str, columns: Sequence[str] = (), since: Since | None = None) -> str:
    """Return the statement that reads `columns` of a query; none of its rows where no column is named.

    The query stands on lines of its own, since it may end in a comment.
    """
    what = ", ".join(map(quoted, columns)) or "*"
    where = f" WHERE {since.sql()}" if since else ""
    return f"SELECT {what} FROM (\n{query}\n) AS q{where}" + ("" if columns else " LIMIT 0")


class DuckDBQuery:
    """A query over a DuckDB file, opened for reading only; without a file, in memory."""

    def __init__(self, query: str, path: str) -> None:
        self.query, self.path = query, path

    def schema(self) -> pa.Schema:
        """Return the query's columns; it is planned, not run."""
        with self._run(selected(self.query)) as reader:
            return reader.schema

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the query's rows as they come."""
        require_columns(self.schema(), columns, "the query")
        with self._run(selected(self.query, columns, since)) as reader:
            yield from reader

    def malformed(self) -> list[str]:
        """Return nothing: a query has no malformed rows."""
        return []

    @contextmanager
    def _run(self, statement: str) -> Iterator[pa.RecordBatchReader]:
        if self.path and not Path(self.path).exists():
            raise SourceError(f"DuckDB file {self.path!r} does not exist.", "correct source.url.")
        try:
            con = connect_patiently(self.path or ":memory:", bool(self.path), {}, LOCK_WAIT_S)
        except duckdb.Error as error:
            problem = f"DuckDB file {self.path!r} cannot be opened: {first_line(error)}."
            if is_locked(error):
                raise WarehouseError(problem, "close the program that holds it, then try again.") from None
            raise SourceError(problem, "correct source.url.") from None
        with closing(con):
            try:
                yield con.execute(statement).to_arrow_reader(BATCH_ROWS)
            except (duckdb.Error, pa.ArrowException, OSError) as error:
                told = _first_error(con, statement, error)
                raise SourceError(f"The query failed: {first_line(told)}.", "correct source.query.") from None


def _first_error(con: duckdb.DuckDBPyConnection, statement: str, error: Exception) -> Exception:
    """Return why a query failed: where one thread fails and stops the others, DuckDB may tell of a stopped one."""
    if "Interrupted" in first_line(error):
        try:
            con.execute("SET threads = 1")
            for _ in con.execute(statement).to_arrow_reader(BATCH_ROWS):
                pass
        except (duckdb.Error, pa.ArrowException, OSError) as first:
            return first
    return error
