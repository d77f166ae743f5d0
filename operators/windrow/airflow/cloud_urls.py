"""Airflow's connections of cloud warehouses as urls."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from airflow.sdk import Connection

from windrow.errors import JobError

__all__ = ["CLOUD_URLS"]

_SNOWFLAKE = (
    "authenticator",
    "host",
    "port",
    "private_key_content",
    "private_key_file",
    "protocol",
    "role",
    "token",
    "warehouse",
)
_CLICKHOUSE = ("access_token", "ca_cert", "client_cert", "client_cert_key", "secure", "verify")
_REDSHIFT = (
    "cluster_identifier",
    "db_user",
    "endpoint_url",
    "iam",
    "iam_role",
    "is_serverless",
    "profile",
    "region",
    "serverless_work_group",
    "ssl",
    "sslmode",
    "stage",
)
_DATABRICKS = ("auth_type", "catalog", "http_path", "oauth_client_id", "oauth_client_secret", "schema", "volume")


def _snowflake_url(connection: Connection) -> str:
    """Return ``snowflake://`` of a connection; with a private key its password is the key's passphrase."""
    told = _extra(connection, "snowflake")
    account, database = told.get("account") or connection.host, told.get("database")
    if not account or not database:
        problem = f"Connection {connection.conn_id!r} names no Snowflake account and database."
        raise JobError(problem, "write both into its extra fields: account, database.")
    account = f"{account}.{told['region']}" if told.get("region") else account
    options = {name: told[name] for name in _SNOWFLAKE if told.get(name)}
    who, password = quote(connection.login or "", safe=""), connection.password
    if password and ("private_key_file" in options or "private_key_content" in options):
        options["private_key_file_pwd"] = password
    elif password:
        who += f":{quote(password, safe='')}"
    path = "/".join(quote(part, safe="") for part in (database, connection.schema) if part)
    return f"snowflake://{f'{who}@' if who else ''}{account}/{path}{_query(options)}"


def _bigquery_url(connection: Connection) -> str:
    """Return ``bigquery://`` of a connection of Google Cloud."""
    told = _extra(connection, "google_cloud_platform")
    key = told.get("keyfile_dict") or {}
    key = json.loads(key) if isinstance(key, str) else key
    project = told.get("project") or told.get("project_id") or key.get("project_id")
    if not project:
        problem = f"Connection {connection.conn_id!r} names no Google Cloud project."
        raise JobError(problem, "write it into its extra field project.")
    chain = told.get("impersonation_chain") or ""
    targets = [each.strip() for each in chain.split(",")] if isinstance(chain, str) else list(chain)
    if len(targets) > 1:
        problem = f"Connection {connection.conn_id!r} has an impersonation chain of several accounts."
        raise JobError(problem, "name the last account alone, and let it be impersonated directly.")
    options = {
        "credentials_file": told.get("key_path"),
        "credentials_content": json.dumps(key) if key else None,
        "impersonate_service_account": targets[0],
        "location": told.get("location"),
    }
    return f"bigquery://{project}{_query(options)}"


def _extra(connection: Connection, kind: str) -> dict[str, Any]:
    """Return the extra fields, those of older releases under their short names."""
    told = connection.extra_dejson
    return {name.removeprefix(f"extra__{kind}__"): value for name, value in told.items()}


def _query(options: dict[str, Any]) -> str:
    given = {name: value for name, value in options.items() if value}
    return f"?{urlencode(given, quote_via=quote)}" if given else ""


def _clickhouse_url(connection: Connection) -> str:
    """Return ``clickhouse://`` of a connection; of its extra fields those that the url takes."""
    told = _extra(connection, "clickhouse")
    options = {name: _text(told[name]) for name in _CLICKHOUSE if told.get(name) not in (None, "")}
    return f"clickhouse://{_who(connection)}{connection.host}{_port(connection)}/{_path(connection)}{_query(options)}"


def _redshift_url(connection: Connection) -> str:
    """Return ``redshift://`` of a connection; the stage is one of its extra fields."""
    told = _extra(connection, "redshift")
    options = {name: _text(told[name]) for name in _REDSHIFT if told.get(name) not in (None, "")}
    return f"redshift://{_who(connection)}{connection.host}{_port(connection)}/{_path(connection)}{_query(options)}"


def _databricks_url(connection: Connection) -> str:
    """Return ``databricks://`` of a connection: the token is its password, all else an extra field."""
    told = _extra(connection, "databricks")
    host = (connection.host or "").removeprefix("https://").rstrip("/")
    token = told.get("token") or connection.password
    options = {name: _text(told[name]) for name in _DATABRICKS if told.get(name) not in (None, "")}
    if told.get("service_principal_oauth"):
        names = ("oauth_client_id", "oauth_client_secret")
        options |= dict(zip(names, (connection.login or "", connection.password or ""), strict=True))
        token = None
    who = f"token:{quote(token, safe='')}@" if token else ""
    return f"databricks://{who}{host}/{_query({'schema': connection.schema, **options})}"


def _who(connection: Connection) -> str:
    """Return login and password as a url has them."""
    password = f":{quote(connection.password, safe='')}" if connection.password else ""
    return f"{quote(connection.login or '', safe='')}{password}@" if connection.login else ""


def _port(connection: Connection) -> str:
    return f":{connection.port}" if connection.port else ""


def _path(connection: Connection) -> str:
    return quote(connection.schema or "", safe="")


def _text(value: Any) -> str:
    """Return an extra field as a url has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


CLOUD_URLS: dict[str, Callable[[Connection], str]] = {
    "snowflake": _snowflake_url,
    "google_cloud_platform": _bigquery_url,
    "gcpbigquery": _bigquery_url,
    "clickhouse": _clickhouse_url,
    "redshift": _redshift_url,
    "databricks": _databricks_url,
}
"""By the type of the connection."""
