"""How a connection id becomes a url. Outside Airflow: ``$WINDROW_CONN_<ID>``; inside, Airflow's own connections."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from windrow.errors import JobError
from windrow.job import Job, from_environment

__all__ = ["located_url", "resolving_with", "url_of"]


def _from_environment(connection: str) -> str:
    name = f"WINDROW_CONN_{connection.upper()}"
    if name in os.environ:
        return os.environ[name]
    raise JobError(
        f"Connection {connection!r} is not known here.",
        f"set {name} to its url, give `url` instead of `connection`, or run the job in Airflow.",
    )


_resolver: ContextVar[Callable[[str], str]] = ContextVar("resolver", default=_from_environment)


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


def located_url(job: Job, url: str) -> str:
    """Make the file of a ``duckdb:///`` url absolute, relative to the job file.

    Four slashes start an absolute path, three a relative one, as in SQLAlchemy.
    """
    scheme, _, path = url.partition(":///")
    return f"duckdb:///{job.located(path)}" if scheme == "duckdb" and path else url
