"""Databricks as a tool: a url read, a session that connects within seconds, and what its errors mean."""

from __future__ import annotations

import logging
import re
import socket
import tempfile
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from urllib.request import getproxies

from windrow.drivers import connected, driver_of
from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError, nearest
from windrow.job import redacted

__all__ = ["Address", "connect", "driver", "errors", "told"]

_OPTIONS = {
    "auth_type", "catalog", "connection_uri", "http_path", "oauth_client_id", "oauth_client_secret", "schema", "volume",
}  # fmt: skip
_KNOCK_TIMEOUT_S = 10
_URL = "write databricks://token:${DATABRICKS_TOKEN}@host/catalog?http_path=…&volume=/Volumes/catalog/schema/volume."
_REFUSED = ("401", "403", "invalid access token", "unauthorized", "credential was not sent", "invalid_client")
_DENIED = ("PERMISSION_DENIED", "INSUFFICIENT_PERMISSIONS", "does not have privilege", "does not have permission")
_VALUES = ("CAST_", "NUMERIC_VALUE_OUT_OF_RANGE", "MALFORMED_RECORD", "DATATYPE_MISMATCH", "ARITHMETIC_OVERFLOW")
_OTHERS = ("DELTA_CONCURRENT", "CONCURRENT_", "ConcurrentAppend", "ConcurrentDelete", "DELTA_METADATA_CHANGED")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a url leads.

    Attributes:
        catalog: Of the tables.
        schema: Where a table goes that names none.
        volume: The folder in which rows are staged.
        options: What the driver is called with; secrets included, so never shown.
        place: Host, for errors.
    """

    catalog: str
    schema: str
    volume: str
    options: dict[str, Any] = field(repr=False)
    place: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a url.

        Raises:
            JobError: It names no host, path, catalog or volume, or has an option that nobody knows.
        """
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in given:
            if name not in _OPTIONS:
                hint = nearest(name, _OPTIONS) or "."
                problem = f"The url of Databricks has an unknown option {name!r}{hint}"
                raise JobError(problem, f"use {', '.join(sorted(_OPTIONS))}.")
        path = [unquote(part) for part in parts.path.split("/") if part]
        catalog, schema = [*path, "", ""][:2]
        catalog, schema = given.pop("catalog", "") or catalog, given.pop("schema", "") or schema or "default"
        volume = given.pop("volume", "").rstrip("/")
        is_fine = parts.hostname and catalog and given.get("http_path") and len(path) <= 2 and not parts.fragment
        if not is_fine or parts.netloc.count("@") > 1:
            raise JobError("The url of Databricks names no host, catalog or http_path.", _URL)
        if not re.fullmatch(r"/Volumes/[^/]+/[^/]+/[^/]+(/.*)?", volume):
            fix = "add &volume=/Volumes/catalog/schema/volume to the url: rows are staged there."
            raise JobError("The url of Databricks names no volume.", fix)
        options: dict[str, Any] = {**given, "server_hostname": parts.hostname}
        if "connection_uri" in options:
            options["_connection_uri"] = options.pop("connection_uri")
        if parts.port:
            options["_port"] = parts.port
        if parts.password:
            options["access_token"] = unquote(parts.password)
        return cls(catalog, schema, volume, options, repr(parts.hostname))


def driver() -> Any:
    """Return the module of the driver, ``databricks.sql``.

    Raises:
        JobError: It is not installed.
    """
    sql = driver_of("databricks.sql", "Databricks", "databricks")
    logging.getLogger("databricks.sql").setLevel(logging.CRITICAL)  # errors are raised anyway
    return sql


def connect(address: Address) -> Any:
    """Connect; a host that does not answer is given up after some seconds.

    Raises:
        JobError: Databricks refuses the token.
        WarehouseError: It cannot be reached.
    """
    sql = driver()
    settings: dict[str, Any] = {
        "session_configuration": {"TIMEZONE": "UTC", "ANSI_MODE": "true"},
        "staging_allowed_local_path": tempfile.gettempdir(),
        "user_agent_entry": "windrow",
        "enable_telemetry": False,
    }
    failures: tuple[type[Exception], ...] = (*errors(), ValueError)
    try:
        connected(lambda: _knock(address.options), lambda error: isinstance(error, OSError))
        return sql.connect(**settings, **address.options)
    except failures as error:
        said = _said(error)
        if any(word in said.lower() for word in _REFUSED):
            problem = f"Databricks at {address.place} refuses the connection: {said}."
            raise JobError(problem, "check the token, http_path and who may use the warehouse.") from None
        problem = f"Databricks at {address.place} cannot be reached: {said}."
        raise WarehouseError(problem, "check host, http_path and network, then try again.") from None


def errors() -> tuple[type[Exception], ...]:
    """Return what the driver raises."""
    from urllib3.exceptions import HTTPError

    return (driver().Error, HTTPError, OSError)


def told(error: Any, place: str) -> JobError | WarehouseError:
    """Say what an error of the driver means for someone who writes, and what to do."""
    said = _said(error)
    if "TABLE_OR_VIEW_NOT_FOUND" in said and re.search(r"windrow_(stage|claim)_", said):
        fix = "run it again, unless another run of the partition is under way; nothing is scored twice."
        return WarehouseError("Another run took this one's place while it was writing.", fix)
    if any(word in said for word in _DENIED):
        fix = "grant what is missing; docs/warehouses/databricks.md lists the least that is needed."
        return JobError(f"Databricks refuses: {said}.", fix)
    if any(word in said for word in _OTHERS):
        fix = "run it again; nothing is scored twice."
        return WarehouseError(f"Another writer of the table came first: {said}.", fix)
    if any(word in said for word in _VALUES):
        fix = "cast the column in the source, or change the table; nothing was changed."
        return SchemaError(f"Databricks cannot take a value: {said}.", fix)
    if not isinstance(error, driver().exc.ServerOperationError):
        fix = "run it again; nothing is scored twice."
        return WarehouseError(f"The connection to Databricks at {place} broke off: {said}.", fix)
    return WarehouseError(f"Databricks refuses a statement: {said}.", "correct what it names, then run it again.")


def _knock(options: dict[str, Any]) -> None:
    """Raise if the host does not answer; the driver itself would try for a quarter of an hour.

    It does so while a warehouse starts, and that is to be waited for. Behind a proxy nobody can tell.
    """
    place = urlsplit(options.get("_connection_uri") or f"https://{options['server_hostname']}")
    if not getproxies().get(place.scheme):
        port = place.port or options.get("_port") or (80 if place.scheme == "http" else 443)
        socket.create_connection((place.hostname, port), timeout=_KNOCK_TIMEOUT_S).close()


def _said(error: Any) -> str:
    """Return what Databricks or its driver says, in one line, secrets hidden."""
    return redacted(first_line(" ".join(str(error).split())))[:500]
