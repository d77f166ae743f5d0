"""BigQuery as a tool: a url read, a client that gives up within seconds, and what its errors mean."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from windrow.drivers import driver_of
from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError, nearest
from windrow.job import redacted

__all__ = ["Address", "connect", "driver", "is_conflict", "is_lost", "patience", "problems", "told"]

_OPTIONS = {"credentials_content", "credentials_file", "endpoint", "impersonate_service_account", "location"}
_URL = "write bigquery://project/dataset, and ?credentials_file= unless the environment knows who asks."
_SCOPES = ("https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/cloud-platform")
_CONNECT_WAIT_S = 8.0
_BAD_VALUES = ("Bad ", "Invalid ", "overflow", "out of range")
_CONFLICTS = ("concurrent update", "could not serialize", "another run was first")


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Where a url leads.

    Attributes:
        project: Whose data it is, and who pays.
        dataset: Where a table goes that names none.
        options: Secrets included, so never shown.
    """

    project: str
    dataset: str
    options: dict[str, str]

    @classmethod
    def of(cls, url: str) -> Address:
        """Read a url.

        Raises:
            JobError: It names no project, or has an option that nobody knows.
        """
        parts = urlsplit(url)
        path = [unquote(part) for part in parts.path.split("/") if part]
        if not parts.netloc or "@" in parts.netloc or len(path) > 1 or parts.fragment:
            raise JobError("The url of BigQuery names no project.", _URL)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        for name in options:
            if name not in _OPTIONS:
                hint = nearest(name, _OPTIONS) or "."
                problem = f"The url of BigQuery has an unknown option {name!r}{hint}"
                raise JobError(problem, f"use {', '.join(sorted(_OPTIONS))}.")
        return cls(unquote(parts.netloc), path[0] if path else "", options)


def driver() -> Any:
    """Return the module of the driver, ``google.cloud.bigquery``.

    Raises:
        JobError: It is not installed.
    """
    return driver_of("google.cloud.bigquery", "BigQuery", "bigquery")


def connect(address: Address) -> Any:
    """Return a client; nothing is asked yet.

    Raises:
        JobError: There are no credentials, or they cannot be read.
    """
    bigquery = driver()
    from google.auth.exceptions import GoogleAuthError

    options, endpoint = address.options, address.options.get("endpoint")
    try:
        return bigquery.Client(
            project=address.project,
            credentials=_credentials(options),
            location=options.get("location"),
            client_options={"api_endpoint": endpoint} if endpoint else None,
        )
    except (GoogleAuthError, ValueError, OSError) as error:
        fix = "set GOOGLE_APPLICATION_CREDENTIALS, or add ?credentials_file= with the key file of a service account."
        raise JobError(f"BigQuery's credentials cannot be read: {_said(error)}.", fix) from None


def patience(seconds: float = _CONNECT_WAIT_S) -> dict[str, Any]:
    """Return the arguments of a call that is not to wait for long."""
    from google.cloud.bigquery.retry import DEFAULT_RETRY

    return {"retry": DEFAULT_RETRY.with_timeout(seconds), "timeout": seconds}


def problems() -> tuple[type[Exception], ...]:
    """Return the kinds of errors that the client raises."""
    from google.api_core.exceptions import GoogleAPIError
    from google.auth.exceptions import GoogleAuthError
    from requests.exceptions import RequestException

    return (GoogleAPIError, GoogleAuthError, RequestException, ConnectionError, TimeoutError)


def is_conflict(error: Exception) -> bool:
    """Tell whether another transaction was first, so that this one can begin again."""
    return any(words in str(error) for words in _CONFLICTS)


def is_lost(error: Exception) -> bool:
    """Tell whether an error means that BigQuery was not reached."""
    from google.api_core.exceptions import RetryError, ServerError
    from google.auth.exceptions import TransportError
    from requests.exceptions import RequestException

    return isinstance(
        error, RetryError | ServerError | TransportError | RequestException | ConnectionError | TimeoutError
    )


def told(error: Exception, address: Address) -> JobError | WarehouseError:
    """Say what an error of the client means for someone who writes, and what to do."""
    from google.api_core.exceptions import BadRequest, Forbidden, NotFound, Unauthorized
    from google.auth.exceptions import GoogleAuthError

    said, place = _said(error), repr(address.project)
    if is_conflict(error):
        fix = "run it again when they are done; nothing is scored twice."
        return WarehouseError(f"BigQuery project {place}: others write the same table: {said}.", fix)
    if is_lost(error):
        fix = "check the network and the endpoint, then try again; nothing is scored twice."
        return WarehouseError(f"BigQuery project {place} cannot be reached: {said}.", fix)
    if isinstance(error, Unauthorized | GoogleAuthError):
        fix = "check the key file, or log in anew with `gcloud auth application-default login`."
        return JobError(f"BigQuery refuses who asks for project {place}: {said}.", fix)
    if isinstance(error, Forbidden):
        if "rateLimitExceeded" in str(error) or "quotaExceeded" in str(error):
            return WarehouseError(f"BigQuery project {place} is over a quota: {said}.", "try again later.")
        fix = "grant what is missing; docs/warehouses/bigquery.md lists the least that is needed."
        return JobError(f"BigQuery refuses: {said}.", fix)
    if isinstance(error, NotFound):
        return JobError(f"BigQuery does not know it: {said}.", "correct warehouse.url and warehouse.table.")
    if isinstance(error, BadRequest) and any(
        words in said for words in ("Bad ", "Invalid ", "overflow", "out of range")
    ):
        fix = "cast the column in the source, or change the table; nothing was changed."
        return SchemaError(f"BigQuery cannot take a value: {said}.", fix)
    return WarehouseError(f"BigQuery refuses a statement: {said}.", "correct what it names, then run it again.")


def _credentials(options: dict[str, str]) -> Any:
    """Return the credentials that a url names; None for those of the environment.

    Raises:
        JobError: The key file is missing or none.
    """
    endpoint = options.get("endpoint", "")
    if endpoint.startswith("http://"):  # a stand-in: nobody's token is sent where others can read it
        from google.auth.credentials import AnonymousCredentials

        return AnonymousCredentials()
    found = None
    if content := options.get("credentials_content"):
        from google.oauth2 import service_account

        text = content if content.lstrip().startswith("{") else base64.b64decode(content).decode()
        found = service_account.Credentials.from_service_account_info(json.loads(text), scopes=_SCOPES)
    elif path := options.get("credentials_file"):
        from google.oauth2 import service_account

        found = service_account.Credentials.from_service_account_file(path, scopes=_SCOPES)
    if target := options.get("impersonate_service_account"):
        from google.auth import default, impersonated_credentials

        source = found or default(scopes=_SCOPES)[0]
        found = impersonated_credentials.Credentials(source, target, list(_SCOPES))
    return found


def _said(error: Exception) -> str:
    """Return what BigQuery or its client says, in one line."""
    text = getattr(error, "message", None) or str(getattr(error, "cause", None) or "") or str(error)
    return redacted(first_line(" ".join(str(text).split())))[:500]
