"""Redshift as a tool: a url read, a session that connects within seconds, and what its errors mean."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from traceback import walk_tb
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from windrow.drivers import connected, driver_of
from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError, nearest
from windrow.job import redacted

__all__ = ["Address", "connect", "driver", "is_lost", "state_of", "told"]

_OURS = {"stage", "iam_role", "endpoint_url"}
_DRIVERS = {
    "cluster_identifier", "db_user", "iam", "is_serverless", "profile", "region", "serverless_work_group", "ssl",
    "sslmode", "timeout",
}  # fmt: skip
_TRUTHS = {"iam", "is_serverless", "ssl"}
_CONNECT_TIMEOUT_S = 10
_URL = "write redshift://user:password@host:5439/database?stage=s3://bucket/folder, odd characters as %XX."


@dataclass(frozen=True, slots=True)
class Address:
    """Where a url leads.

    Attributes:
        options: What the driver is called with; secrets included, so never shown.
        place: Host and database, for errors.
        bucket: Of the stage.
        folder: In the bucket; empty, or ends with a slash.
        iam_role: Under which Redshift reads the stage.
        region: Of the bucket, where it is not the cluster's.
        endpoint_url: Of the object store; S3's own unless given.
    """

    options: dict[str, Any] = field(repr=False)
    place: str
    bucket: str
    folder: str
    iam_role: str
    region: str
    endpoint_url: str

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a url.

        Raises:
            JobError: It names no database or no stage, or has an option that nobody knows.
        """
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in given:
            if name not in _OURS | _DRIVERS:
                hint = nearest(name, _OURS | _DRIVERS) or "."
                problem = f"The url of Redshift has an unknown option {name!r}{hint}"
                raise JobError(problem, f"use {', '.join(sorted(_OURS | _DRIVERS))}.")
        try:
            port, database = parts.port or 5439, unquote(parts.path.strip("/"))
        except ValueError:
            raise JobError("The url of Redshift has a port that is no number.", _URL) from None
        if not parts.hostname or not database or "/" in database or parts.netloc.count("@") > 1 or parts.fragment:
            raise JobError("The url of Redshift cannot be read.", _URL)
        bucket, _, folder = given.pop("stage", "").removeprefix("s3://").partition("/")
        if not bucket:
            fix = "add ?stage=s3://bucket/folder to the url: Redshift loads rows from there."
            raise JobError("The url of Redshift names no stage.", fix)
        ours = {name: given.pop(name, "") for name in ("iam_role", "endpoint_url")}
        options: dict[str, Any] = {
            name: value.lower() in ("1", "true", "yes") if name in _TRUTHS else value for name, value in given.items()
        }
        options["timeout"] = int(options.get("timeout") or _CONNECT_TIMEOUT_S)
        options |= {"host": parts.hostname, "port": port, "database": database, "user": unquote(parts.username or "")}
        options["password"] = unquote(parts.password or "")
        place = repr(f"{parts.hostname}:{port}/{database}")
        folder = f"{folder.strip('/')}/".lstrip("/")
        return cls(
            options, place, bucket, folder, ours["iam_role"] or "default", given.get("region", ""), ours["endpoint_url"]
        )


def driver() -> Any:
    """Return the module of the driver, ``redshift_connector``.

    Raises:
        JobError: It is not installed.
    """
    return driver_of("redshift_connector", "Redshift", "redshift")


def connect(address: Address) -> Any:
    """Connect, in transactions that are begun on purpose; a host that does not answer is given up after some seconds.

    Raises:
        JobError: Redshift refuses user, password or database.
        WarehouseError: It cannot be reached.
    """
    module = driver()
    try:
        con = connected(
            lambda: module.connect(**address.options, application_name="windrow", tcp_keepalive=True), _may_pass
        )
    except (module.Error, OSError) as error:
        _let_go(error)
        state, said = state_of(error), _said(error)
        if state.startswith(("28", "3D")) or "password authentication failed" in said:
            problem = f"Redshift at {address.place} refuses the connection: {said}."
            raise JobError(problem, "check user, password and database.") from None
        problem = f"Redshift at {address.place} cannot be reached: {said}."
        raise WarehouseError(problem, "check host, port, network and ssl, then try again.") from None
    except (TypeError, ValueError) as error:
        raise JobError(f"The url of Redshift cannot be used: {_said(error)}.", _URL) from None
    con._usock.settimeout(None)  # it was for connecting; a statement may take longer
    con.autocommit = True
    return con


def state_of(error: Any) -> str:
    """Return the SQLSTATE of an error; empty if it is not the server's."""
    told = error.args[0] if error.args else None
    return str(told.get("C", "")) if isinstance(told, dict) else ""


def is_lost(error: Any) -> bool:
    """Tell whether an error means that the connection is gone."""
    state = state_of(error)
    return state.startswith(("08", "57P")) or not state


def told(error: Any, place: str) -> JobError | WarehouseError:
    """Say what an error of the driver means for someone who writes, and what to do."""
    state, said = state_of(error), _said(error)
    if is_lost(error):
        fix = "run it again; a run is published whole or not at all, and nothing is scored twice."
        return WarehouseError(f"The connection to Redshift at {place} broke off: {said}.", fix)
    if state == "57014":
        fix = "wait until the other run is done, then run it again; nothing is scored twice."
        return WarehouseError(f"Another session holds the ledger: {said}.", fix)
    if state == "42501":
        fix = "grant what is missing; docs/warehouses/redshift.md lists the least that is needed."
        return JobError(f"Redshift refuses: {said}.", fix)
    if state.startswith(("22", "23", "42", "0A", "2BP")) or "stl_load_errors" in said.lower():
        fix = "cast the column in the source, or change the table; nothing was changed."
        return SchemaError(f"Redshift cannot take a value or a change: {said}.", fix)
    return WarehouseError(f"Redshift refuses a statement: {said}.", "correct what it names, then run it again.")


def _let_go(error: Exception) -> None:
    """Close the socket that the driver leaves open where it is refused; nothing but the error leads to it."""
    for frame, _ in walk_tb(error.__traceback__):
        half_made = frame.f_locals.get("self")
        for part in ("_sock", "_usock"):
            with suppress(Exception):
                getattr(half_made, part).close()


def _may_pass(error: Any) -> bool:
    """Tell whether the server was out of reach, and has not refused."""
    is_out_of_reach = isinstance(error, OSError) or error.args[:1] == ("communication error",)
    return is_out_of_reach or state_of(error).startswith(("08", "57P"))


def _said(error: Any) -> str:
    """Return what Redshift or its driver says, in one line, secrets hidden."""
    told = error.args[0] if error.args else ""
    return redacted(first_line(" ".join(str(told.get("M", told) if isinstance(told, dict) else told).split())))[:500]
