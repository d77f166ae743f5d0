"""Airflow's connections as urls, and the secrets in urls kept out of logs and rendered fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from airflow.sdk.log import mask_secret

from windrow.errors import JobError

__all__ = ["airflow_url", "mask_secrets"]

_SECRETS = (r"://[^:/@\s]*:([^@/\s]+)@", r"(?i)(?:password|token|secret|key)=([^&\s]+)")


def airflow_url(connection: str) -> str:
    """Return the url of an Airflow connection, as `windrow.connections.url_of` asks for it.

    Type ``duckdb``: the file is the connection's host (or its path, under a url). Type ``postgres``:
    host, port, login, password and schema. Any other: Airflow's own url of the connection.

    Raises:
        JobError: Airflow knows no such connection.
    """
    try:
        found = BaseHook.get_connection(connection)
    except (AirflowNotFoundException, AirflowRuntimeError):
        raise JobError(
            f"Airflow knows no connection {connection!r}.",
            "add it (Admin, Connections), or correct `connection`.",
        ) from None
    url = _duckdb_url(found) if found.conn_type == "duckdb" else found.get_uri()
    url = re.sub(r"^postgres://", "postgresql://", url)
    mask_secrets(url)
    return url


def _duckdb_url(connection: Connection) -> str:
    """Join host and schema to a path; as a url, three slashes start a relative path and four an absolute one."""
    path = "/".join(part for part in (connection.host, connection.schema) if part)
    if not path:
        raise JobError(
            f"Connection {connection.conn_id!r} names no DuckDB file.", "write the file's path into its host."
        )
    return f"duckdb:///{path}"


def mask_secrets(value: Any) -> None:
    """Tell Airflow to hide the passwords and tokens of all urls in `value`, a text or a nest of dicts and lists."""
    for text in _urls(value):
        for pattern in _SECRETS:
            for secret in re.findall(pattern, text):
                for form in {secret, unquote(secret), quote(unquote(secret), safe="")}:
                    mask_secret(form)


def _urls(value: Any) -> Iterator[str]:
    """Yield the urls in `value`."""
    if isinstance(value, str):
        if "://" in value:
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _urls(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _urls(inner)
