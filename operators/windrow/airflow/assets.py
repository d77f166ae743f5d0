"""A published table as an Airflow asset: the same name from every Dag, and no secret in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import Asset

__all__ = ["asset_of", "table_asset"]


def table_asset(table: str, *, url: str | None = None, connection: str | None = None) -> Asset:
    """Return the asset of a published table, for another Dag's ``schedule``.

    Its name is ``windrow://<warehouse>/<table>``. The warehouse is ``connection/<conn_id>``, or the
    url's scheme, host, port and path, as written in the job; user, password and query are left out.

    Args:
        table: As in the job, for example ``analytics.review_sentiment``.
        url: As in the job; or
        connection: As in the job.

    >>> table_asset("sales.reviews", url="postgresql://ann:s3cret@db:5432/shop?sslmode=require").name
    'windrow://postgresql/db:5432/shop/sales.reviews'
    >>> table_asset("reviews", connection="warehouse").name
    'windrow://connection/warehouse/reviews'
    """
    name = f"windrow://{_place(url, connection)}/{table}"
    return Asset(name=name, uri=name)


def asset_of(warehouse: Mapping[str, Any]) -> Asset:
    """Return the asset of a job's ``warehouse`` field."""
    return table_asset(warehouse["table"], url=warehouse.get("url"), connection=warehouse.get("connection"))


def _place(url: str | None, connection: str | None) -> str:
    if connection or not url:
        return f"connection/{connection}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return "/".join(part for part in (parts.scheme, host, parts.path.strip("/")) if part)
