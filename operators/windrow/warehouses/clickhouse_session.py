"""ClickHouse as a tool: a url read, a client that connects within seconds, and what its errors mean."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from windrow.drivers import connected, driver_of
from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError, nearest
from windrow.job import redacted

__all__ = ["Address", "connect", "driver", "told"]

_OPTIONS = {"secure", "verify", "ca_cert", "client_cert", "client_cert_key", "access_token", "connect_timeout"}
_SECURE_PORTS = (443, 8443)
_NATIVE_PORTS = (9000, 9440)
_SENDS_ONCE = (1, 10)
"""The first version of the driver that sends an INSERT once alone, though the connection breaks before its answer."""
_CONNECT_TIMEOUT_S = 5
_ANSWER_TIMEOUT_S = 1800
_URL = "write clickhouse://user:password@host:8443/database, odd characters as %XX."
_UNKNOWN_TABLE, _UNKNOWN_DATABASE = 60, 81
_REFUSED = (192, 193, 194, 516)
"""Unknown user, wrong or missing password, authentication failed."""
_DENIED = (164, 291, 497)
_NO_SPACE = 243
_VALUES = (6, 27, 26, 38, 41, 53, 69, 70, 72, 117, 321, 349, 407, 636)
_SHAPES = (10, 16, 36, 44, 47, 122, 524)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a url leads.

    Attributes:
        database: Where a table goes that names none.
        options: What the driver is called with; secrets included, so never shown.
        place: Host and port, for errors.
    """

    database: str
    options: dict[str, Any] = field(repr=False)
    place: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a url.

        Raises:
            JobError: It names no host, or has an option that nobody knows.
        """
        parts = urlsplit(url)
        try:
            port, path = parts.port, unquote(parts.path.strip("/"))
        except ValueError:
            raise JobError("The url of ClickHouse has a port that is no number.", _URL) from None
        if not parts.hostname or parts.netloc.count("@") > 1 or "/" in path or parts.fragment:
            raise JobError("The url of ClickHouse cannot be read.", _URL)
        if port in _NATIVE_PORTS:
            fix = "give the port of its HTTP interface, 8443 with TLS or 8123 without."
            raise JobError(f"Port {port} is that of ClickHouse's native protocol.", fix)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in given:
            if name not in _OPTIONS:
                hint = nearest(name, _OPTIONS) or "."
                problem = f"The url of ClickHouse has an unknown option {name!r}{hint}"
                raise JobError(problem, f"use {', '.join(sorted(_OPTIONS))}.")
        secure = given.pop("secure", str(port in _SECURE_PORTS)).lower() in ("1", "true", "yes")
        options: dict[str, Any] = {**given, "interface": "https" if secure else "http", "host": parts.hostname}
        options["port"] = port or (8443 if secure else 8123)
        if "access_token" not in options:
            options |= {"username": unquote(parts.username or "default"), "password": unquote(parts.password or "")}
        return cls(path or "default", options, repr(f"{parts.hostname}:{options['port']}"))


def driver() -> Any:
    """Return the module of the driver, ``clickhouse_connect``.

    Raises:
        JobError: It is not installed, or sends rows twice where a connection breaks.
    """
    module = driver_of("clickhouse_connect", "ClickHouse", "clickhouse")
    found = version("clickhouse-connect")
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < _SENDS_ONCE:
        problem = (
            f"The ClickHouse driver is clickhouse-connect {found}, which may send rows twice if a connection breaks."
        )
        raise JobError(problem, "pip install --upgrade 'windrow[clickhouse]', for version 1.10 or later.")
    logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)  # errors are raised anyway
    return module


def connect(address: Address) -> Any:
    """Connect; a host that does not answer is given up after some seconds.

    Raises:
        JobError: ClickHouse refuses user or password, or the driver an option.
        WarehouseError: It cannot be reached.
    """
    module = driver()
    errors = module.driver.exceptions
    settings = {"connect_timeout": _CONNECT_TIMEOUT_S, "send_receive_timeout": _ANSWER_TIMEOUT_S}
    try:
        return connected(
            lambda: module.get_client(
                **{**settings, **address.options}, autogenerate_session_id=False, client_name="windrow", tz_mode="aware"
            ),
            lambda error: isinstance(error, errors.OperationalError) and not error.code,
        )
    except errors.Error as error:
        raise told(error, address.place) from None
    except (ValueError, TypeError, OSError) as error:
        raise JobError(f"The url of ClickHouse cannot be used: {_said(error)}.", _URL) from None


def told(error: Any, place: str) -> JobError | WarehouseError:
    """Say what an error of the driver means for someone who writes, and what to do."""
    code, said = error.code or 0, _said(error)
    if code in _REFUSED:
        return JobError(f"ClickHouse at {place} refuses the connection: {said}.", "check user and password.")
    if code in _DENIED:
        fix = "grant what is missing; docs/warehouses/clickhouse.md lists the least that is needed."
        return JobError(f"ClickHouse refuses: {said}.", fix)
    if code == _UNKNOWN_TABLE and re.search(r"windrow_(stage|claim)_", said):
        fix = "run it again, unless another run of the partition is under way; nothing is scored twice."
        return WarehouseError("Another run took this one's place while it was writing.", fix)
    if code in (_UNKNOWN_TABLE, _UNKNOWN_DATABASE):
        fix = "correct warehouse.url and warehouse.table, or grant what the user may not see."
        return JobError(f"ClickHouse at {place} does not know it: {said}.", fix)
    if code == _NO_SPACE or "No space left" in said:
        fix = "free some space on the server, then run it again; nothing is scored twice."
        return WarehouseError(f"ClickHouse at {place} has no space left: {said}.", fix)
    if code in _SHAPES:
        fix = "run it again; nothing is scored twice."
        return WarehouseError(f"A table was changed while it was being written: {said}.", fix)
    if code in _VALUES:
        fix = "cast the column in the source, or change the table; nothing was changed."
        return SchemaError(f"ClickHouse cannot take a value: {said}.", fix)
    if not code:
        problem = f"ClickHouse at {place} cannot be reached, or does not answer: {said}."
        return WarehouseError(problem, "check host, port and network, then try again.")
    return WarehouseError(f"ClickHouse refuses a statement: {said}.", "correct what it names, then run it again.")


def _said(error: Any) -> str:
    """Return what ClickHouse or its driver says, in one line, secrets hidden."""
    text = " ".join(str(error).split())
    found = re.search(r"DB::Exception: (.*)", text)
    text = re.sub(r" \(version .*$", "", found[1]) if found else text
    if not found:
        text = re.sub(r".*\((?:Caused by )?\w+\((.*)\)\).*", r"\1", text)
    return redacted(first_line(text))[:500]
