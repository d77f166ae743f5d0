"""How a connection id becomes a url. Outside Airflow: ``$WINDROW_CONN_<ID>``; inside, Airflow's own connections."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from windrow.errors import JobError
from windrow.job import from_environment

__all__ = ["Locates", "located_url", "resolving_with", "url_in_environment", "url_of"]


def url_in_environment(connection: str) -> str:
    """Return ``$WINDROW_CONN_<ID>``.

    Raises:
        JobError: It is not set.
    """
    name = f"WINDROW_CONN_{connection.upper()}"
    if name in os.environ:
        return os.environ[name]
    raise JobError(
        f"Connection {connection!r} is not known here.",
        f"set {name} to its url, give `url` instead of `connection`, or run the job in Airflow.",
    )


_resolver: ContextVar[Callable[[str], str]] = ContextVar("resolver", default=url_in_environment)


@contextmanager
def resolving_with(resolver: Callable[[str], str]) -> Iterator[None]:
    """Let `resolver` turn connection ids into urls while the context lasts."""
    token = _resolver.set(resolver)
    try:
        yield
    finally:
        _resolver.reset(token)


def url_of(url: str | None, connection: str | None) -> str:
    """Return the url that a job means, its environment variables filled in.

    Raises:
        JobError: The connection or a variable is not known.
    """
    return from_environment(url) if url else _resolver.get()(connection or "")


_LOCAL = ("duckdb", "delta", "parquet", "iceberg+sql", "ducklake", "ducklake+sqlite")
_FOLDERS = re.compile(r"(?<![^&])(data|warehouse)=([^&:]+)(?=&|$)")
"""Local folders in the query of a lake's catalog; object stores have a colon."""


class Locates(Protocol):
    """What makes a local path absolute, as a `Job` does."""

    def located(self, path: str) -> str:
        """Return the path, absolute."""
        ...


def located_url(job: Locates, url: str) -> str:
    """Make the local paths of a url absolute, relative to the job file: a DuckDB file, a lake's catalog and its folder.

    Four slashes start an absolute path, three a relative one, as in SQLAlchemy.
    """
    address, mark, query = url.partition("?")
    scheme, _, path = address.partition(":///")
    if scheme == "duckdb":
        return f"duckdb:///{job.located(path)}{mark}{query}" if path else url
    if scheme.startswith(("ducklake", "iceberg+sql")):
        query = _FOLDERS.sub(lambda found: f"{found[1]}={job.located(found[2])}", query)
    if scheme in _LOCAL and path:
        address = f"{scheme}:///{job.located(path)}"
    return f"{address}{mark}{query}"
