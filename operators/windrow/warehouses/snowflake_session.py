"""Snowflake as a tool: a url read, a session that connects within seconds, and what its errors mean."""

from __future__ import annotations

import base64
import logging
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from windrow.drivers import driver_of
from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError, nearest
from windrow.job import redacted

__all__ = ["Address", "connect", "driver", "is_lost", "told"]

_OPTIONS = {
    "authenticator",
    "host",
    "login_timeout",
    "network_timeout",
    "passcode",
    "port",
    "private_key_content",
    "private_key_file",
    "private_key_file_pwd",
    "protocol",
    "role",
    "token",
    "token_file_path",
    "warehouse",
    "workload_identity_provider",
}
_NUMBERS = {"port", "login_timeout", "network_timeout"}
_LOGIN_TIMEOUT_S = 10
_NETWORK_TIMEOUT_S = 1800
"""For one statement, however often the driver tries again."""
_URL = "write snowflake://user:password@account/database/schema?warehouse=name, odd characters as %XX."
_REFUSED = ("incorrect username or password", "jwt token is invalid", "is not allowed to access", "has been locked")
_UNREACHED = ("could not connect", "failed to connect", "connection", "timed out", "timeout", "retries")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a url leads.

    Attributes:
        database: As Snowflake spells it unless it is quoted.
        schema: Where a table goes that names none.
        options: What the driver is called with; secrets included, so never shown.
        place: Account and database, for errors.
    """

    database: str
    schema: str
    options: dict[str, Any]
    place: str

    def __repr__(self) -> str:
        return f"Address({self.place})"

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a url.

        Raises:
            JobError: It names no account or database, or has an option that nobody knows.
        """
        parts = urlsplit(url)
        path = [unquote(part) for part in parts.path.split("/") if part]
        if not parts.hostname or not 1 <= len(path) <= 2 or parts.netloc.count("@") > 1 or parts.fragment:
            raise JobError("The url of Snowflake names no account and database.", _URL)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in given:
            if name not in _OPTIONS:
                hint = nearest(name, _OPTIONS) or "."
                problem = f"The url of Snowflake has an unknown option {name!r}{hint}"
                raise JobError(problem, f"use {', '.join(sorted(_OPTIONS))}.")
        options: dict[str, Any] = {
            name: int(value) if name in _NUMBERS and value.isdigit() else value for name, value in given.items()
        }
        if "private_key_content" in options:
            options["private_key"] = _private_key(options.pop("private_key_content"), options)
        account = parts.netloc.rpartition("@")[2].partition(":")[0]
        options |= {"account": account, "user": unquote(parts.username or "")}
        if parts.password:
            options["password"] = unquote(parts.password)
        return cls(path[0], path[1] if len(path) > 1 else "public", options, repr(f"{account}/{path[0]}"))


def driver() -> Any:
    """Return the module of the driver, ``snowflake.connector``.

    Raises:
        JobError: It is not installed.
    """
    module = driver_of("snowflake.connector", "Snowflake", "snowflake")
    logging.getLogger("snowflake.connector").setLevel(logging.CRITICAL)  # it logs each try; errors are raised anyway
    return module


def connect(address: Address, lock_wait_s: float) -> Any:
    """Connect; whoever cannot be reached is given up after some seconds.

    Raises:
        JobError: Snowflake refuses user, password or database.
        WarehouseError: It cannot be reached.
    """
    connector = driver()
    settings = {
        "TIMEZONE": "UTC",
        "QUOTED_IDENTIFIERS_IGNORE_CASE": False,
        "LOCK_TIMEOUT": max(1, round(lock_wait_s)),
        "ABORT_DETACHED_QUERY": True,
        "QUERY_TAG": "windrow",
        "CLIENT_TELEMETRY_ENABLED": False,
    }
    defaults = {
        "login_timeout": _LOGIN_TIMEOUT_S,
        "network_timeout": _NETWORK_TIMEOUT_S,
        "platform_detection_timeout_seconds": 0,
        "application": "windrow",
    }
    try:
        return connector.connect(
            **{**defaults, **address.options}, database=address.database, session_parameters=settings, autocommit=True
        )
    except (connector.errors.Error, ValueError, TypeError, OSError) as error:
        raise _unconnected(error, address.place) from None


def is_lost(error: Any) -> bool:
    """Tell whether an error of the driver means that the connection is gone, and not that the database refuses."""
    errors = driver().errors
    code = getattr(error, "errno", None) or 0
    is_database = isinstance(error, errors.DatabaseError) and not isinstance(error, errors.OperationalError)
    return not is_database or 250_000 <= code < 260_000


def told(error: Any, place: str) -> JobError | WarehouseError:
    """Say what an error of the driver means for someone who writes, and what to do."""
    state, said, code = error.sqlstate or "", _said(error), error.errno or 0
    if code == 606:
        return JobError(f"Snowflake has no warehouse to compute with: {said}.", "add ?warehouse=name to the url.")
    if state == "42501" or code in (3001, 3003, 3540):
        fix = "grant what is missing; docs/warehouses/snowflake.md lists the least that is needed."
        return JobError(f"Snowflake refuses: {said}.", fix)
    if state in ("42S02", "02000", "42710") or code in (2003, 2043):
        fix = "correct warehouse.url and warehouse.table, or grant what the role may not see."
        return JobError(f"Snowflake at {place} does not know or show it: {said}.", fix)
    if code == 625:
        fix = "wait until the other run or statement is done, then run it again; nothing is scored twice."
        return WarehouseError(f"Another session holds the table: {said}.", fix)
    if is_lost(error):
        fix = "run it again; a run is published whole or not at all, and nothing is scored twice."
        return WarehouseError(f"The connection to Snowflake at {place} broke off: {said}.", fix)
    if state.startswith("22") or 100000 <= code < 101000:
        fix = "cast the column in the source, or change the table; nothing was changed."
        return SchemaError(f"Snowflake cannot take a value: {said}.", fix)
    return WarehouseError(f"Snowflake refuses a statement: {said}.", "correct what it names, then run it again.")


def _unconnected(error: Exception, place: str) -> JobError | WarehouseError:
    """Say why there is no connection."""
    said = _said(error)
    is_refused = any(words in said.lower() for words in _REFUSED)
    is_unreached = any(words in said.lower() for words in _UNREACHED)
    if (is_unreached or isinstance(error, driver().errors.OperationalError)) and not is_refused:
        problem = f"Snowflake at {place} cannot be reached: {said}."
        return WarehouseError(problem, "check account, host and network, then try again.")
    fix = "check account, user, password or key, and role; then the network policy of the user."
    return JobError(f"Snowflake at {place} refuses the connection: {said}.", fix)


def _said(error: Any) -> str:
    """Return what Snowflake or its driver says, in one line, secrets hidden."""
    text = " ".join(str(getattr(error, "raw_msg", None) or getattr(error, "msg", None) or error).split())
    text = re.sub(r"^(\d{6} ?(\(\w*\))?: )+", "", text)
    return redacted(first_line(text))


def _private_key(content: str, options: dict[str, Any]) -> bytes:
    """Return a private key from a PEM text, or one in base64, in the form that the driver takes.

    Raises:
        JobError: It is no key, or its passphrase is wrong.
    """
    from cryptography.hazmat.primitives import serialization

    phrase = options.pop("private_key_file_pwd", None)
    try:
        pem = content.encode() if "-----BEGIN" in content else base64.b64decode(content)
        key = serialization.load_pem_private_key(pem, phrase.encode() if phrase else None)
    except (ValueError, TypeError):
        fix = "give a PEM key, as it is or in base64, and private_key_file_pwd if it has one."
        raise JobError("The private key of the Snowflake connection cannot be read.", fix) from None
    encodings = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*encodings)
