"""Where tables live: one module a warehouse, behind one seam."""

from __future__ import annotations

from importlib import import_module

from windrow.connections import located_url, url_of
from windrow.errors import JobError, nearest
from windrow.job import Job
from windrow.warehouses.base import Replacement, TableName, Warehouse

__all__ = ["WAREHOUSES", "Replacement", "TableName", "Warehouse", "open_warehouse"]

WAREHOUSES = {"duckdb": "windrow.warehouses.duckdb:DuckDBWarehouse"}


def open_warehouse(job: Job, writes: bool = True) -> Warehouse:
    """Return the warehouse of a job; entering it connects.

    Args:
        writes: Whether anything will be written; a reader changes nothing and locks nobody out.

    Raises:
        JobError: The url is of no known kind.
    """
    url = located_url(job, url_of(job.warehouse.url, job.warehouse.connection))
    scheme = url.partition(":")[0]
    if scheme not in WAREHOUSES:
        hint = nearest(scheme, WAREHOUSES) or "."
        raise JobError(
            f"warehouse.url: {scheme!r} is no known warehouse{hint}", f"use one of: {', '.join(WAREHOUSES)}."
        )
    module, _, name = WAREHOUSES[scheme].partition(":")
    warehouse: Warehouse = getattr(import_module(module), name)(url, TableName.parse(job.warehouse.table), writes)
    return warehouse
