"""Airflow's connections as urls and ways to the Hub, and the secrets in urls kept out of logs and rendered fields."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, unquote, urlencode

from airflow.sdk import BaseHook, Connection
from airflow.sdk.exceptions import AirflowRuntimeError

from windrow.airflow.cloud_urls import CLOUD_URLS
from windrow.airflow.compat import AirflowNotFoundException, mask_secret, setting
from windrow.errors import JobError
from windrow.hub import HubAccess
from windrow.job import SECRET_NAMES

__all__ = ["add_command", "airflow_hub", "airflow_url", "hub_of", "mask_secrets", "url_of_connection"]

_SECRETS = (r"://[^:/@\s]*:([^@/\s]+)@", rf"(?i)(?:{SECRET_NAMES})=([^&\s]+)")
_NOT_LIBPQ = ("cursor", "iam", "redshift", "redshift-serverless", "cluster-identifier", "workgroup-name", "aws_conn_id")
_NOT_LIBPQ_EITHER = ("sqlalchemy_scheme", "sqlalchemy_query", "enable_log_db_messages", "azure_conn_id")
"""Extra fields of Airflow's PostgreSQL connections that are for its hook, not for the driver."""


def airflow_url(connection: str) -> str:
    """Return the url of an Airflow connection, as `windrow.connections.url_of` asks for it.

    Raises:
        JobError: Airflow knows no such connection, or it lacks something.
    """
    found = _found(connection)
    if found is None:
        raise _unknown(connection)
    url = url_of_connection(found)
    mask_secrets(url)
    return url


def airflow_hub(connection: str | None) -> HubAccess:
    """Return how the Hub is reached, as `windrow.hub.hub_access` asks for it.

    Args:
        connection: Its id; None for the one that ``[windrow] hub_connection`` names, if Airflow has it.

    Raises:
        JobError: A connection that the job names is not known.
    """
    default = setting("windrow", "hub_connection", "windrow_models_default")
    found = _found(connection or default)
    if found is None and connection:
        raise _unknown(connection, "hub_connection")
    return hub_of(found) if found else HubAccess()


def hub_of(connection: Connection) -> HubAccess:
    """Return the way to the Hub that a connection of type ``windrow_models`` describes."""
    if connection.password:
        mask_secret(connection.password)
    cache = connection.extra_dejson.get("cache")
    return HubAccess(connection.password or None, connection.host or None, cache or None)


def url_of_connection(connection: Connection) -> str:
    """Return the url that a connection's fields describe; which fields count depends on its type.

    Raises:
        JobError: A field that is needed is empty.
    """
    kind = connection.conn_type or ""
    if build := _URLS.get(kind):
        return build(connection)
    if _is_warehouse(kind):
        return _plain_url(connection, kind)
    host = connection.host or ""
    if kind == "generic" and "://" in host:
        return _lake_url(connection)
    if kind == "generic" and host.endswith((".duckdb", ".ddb")):
        return _duckdb_url(connection)
    return connection.get_uri()


def _is_warehouse(scheme: str) -> bool:
    from windrow.warehouses import WAREHOUSES

    return scheme.partition("+")[0] in WAREHOUSES


def _found(connection: str) -> Connection | None:
    try:
        return BaseHook.get_connection(connection)
    except (AirflowNotFoundException, AirflowRuntimeError, ImportError):  # ImportError: Airflow 3.1, outside a task
        return None


def _unknown(connection: str, field: str = "connection") -> JobError:
    return JobError(
        f"Airflow knows no connection {connection!r}.",
        f"add it (Admin, Connections, or {add_command(connection, field)}), or correct `{field}`.",
    )


def add_command(connection: str, field: str = "connection") -> str:
    """Return a command that adds a connection.

    Args:
        connection: Its id.
        field: The job's field that names it: ``connection``, with a DuckDB file as an example, or ``hub_connection``.
    """
    shown = {
        "connection": "--conn-type windrow_duckdb --conn-host /path/to/file.duckdb",
        "hub_connection": "--conn-type windrow_models --conn-password HUB_TOKEN",
    }
    return f"airflow connections add {connection} {shown[field]}"


def _duckdb_url(connection: Connection) -> str:
    """Join host and schema to a path, relative (three slashes) or absolute (four); ``md:name`` is MotherDuck's."""
    path = "/".join(part for part in (connection.host, connection.schema) if part)
    if path.startswith("md:"):
        token = connection.password or connection.extra_dejson.get("motherduck_token")
        return f"{path}?motherduck_token={quote(token, safe='')}" if token else path
    if not path:
        raise JobError(
            f"Connection {connection.conn_id!r} names no DuckDB file.", "write the file's path into its host."
        )
    return f"duckdb:///{path}"


def _lake_url(connection: Connection) -> str:
    """Put login, password and the extra options into the url that stands in the host."""
    scheme, mark, rest = (connection.host or "").partition("://")
    if not mark or not _is_warehouse(scheme):
        raise JobError(
            f"Connection {connection.conn_id!r} names no lake.",
            "write its url into the host: delta:///folder, iceberg+rest://host, ducklake:///catalog.ducklake …",
        )
    options = {name: value for name, value in connection.extra_dejson.items() if value not in (None, "")}
    joined = "&" if "?" in rest else "?"
    return f"{scheme}://{_login(connection)}{rest}{joined if options else ''}{urlencode(options, safe='/:')}"


def _postgres_url(connection: Connection) -> str:
    """Return the url as libpq reads it; options of Airflow's hook stay out."""
    extra = connection.extra_dejson.items()
    mine = {name: value for name, value in extra if name not in (*_NOT_LIBPQ, *_NOT_LIBPQ_EITHER)}
    return _plain_url(connection, "postgresql", {name: v for name, v in mine.items() if isinstance(v, str | int)})


def _plain_url(connection: Connection, scheme: str, options: dict[str, Any] | None = None) -> str:
    """Return ``scheme://login:password@host:port/schema?extra``; a path keeps its slashes."""
    options = connection.extra_dejson if options is None else options
    port = f":{connection.port}" if connection.port else ""
    path = f"/{quote(connection.schema)}" if connection.schema else ""
    query = f"?{urlencode(options, safe='/:')}" if options else ""
    return f"{scheme}://{_login(connection)}{connection.host or ''}{port}{path}{query}"


def _query(options: dict[str, Any]) -> str:
    """Return options as a query; paths and urls in it stay readable."""
    return urlencode(options, safe="/:")


def _login(connection: Connection) -> str:
    """Return ``login:password@``, as much of it as there is."""
    password = f":{quote(connection.password, safe='')}" if connection.password else ""
    login = quote(connection.login or "", safe="")
    return f"{login}{password}@" if login or password else ""


_URLS: dict[str, Callable[[Connection], str]] = {
    "duckdb": _duckdb_url,
    "windrow_duckdb": _duckdb_url,
    "windrow_lake": _lake_url,
    "postgres": _postgres_url,
    "postgresql": _postgres_url,
    **CLOUD_URLS,
}
"""How the types of connections become urls that Windrow's warehouses and sources know."""


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
