"""Where tables live: one module a warehouse, behind one seam."""

from __future__ import annotations

from importlib import import_module

from windrow.connections import located_url, url_of
from windrow.errors import JobError, nearest
from windrow.job import Job
from windrow.warehouses.base import Replacement, TableName, Warehouse

__all__ = ["WAREHOUSES", "Replacement", "TableName", "Warehouse", "open_url", "open_warehouse"]

WAREHOUSES = {
    "duckdb": "windrow.warehouses.duckdb:DuckDBWarehouse",
    "ducklake": "windrow.warehouses.ducklake:DuckLakeWarehouse",
    "md": "windrow.warehouses.motherduck:MotherDuckWarehouse",
    "postgresql": "windrow.warehouses.postgres:PostgresWarehouse",
    "postgres": "windrow.warehouses.postgres:PostgresWarehouse",
    "snowflake": "windrow.warehouses.snowflake:SnowflakeWarehouse",
    "bigquery": "windrow.warehouses.bigquery:BigQueryWarehouse",
    "clickhouse": "windrow.warehouses.clickhouse:ClickHouseWarehouse",
    "redshift": "windrow.warehouses.redshift:RedshiftWarehouse",
    "databricks": "windrow.warehouses.databricks:DatabricksWarehouse",
    "iceberg": "windrow.warehouses.iceberg:IcebergWarehouse",
    "delta": "windrow.warehouses.delta:DeltaWarehouse",
    "parquet": "windrow.warehouses.parquet:ParquetWarehouse",
}
"""By the scheme of the url, up to a ``+``."""


def open_warehouse(job: Job, writes: bool = True) -> Warehouse:
    """Return the warehouse of a job; entering it connects.

    Args:
        writes: Whether anything will be written; a reader changes nothing and locks nobody out.

    Raises:
        JobError: The url is of no known kind.
    """
    url = located_url(job, url_of(job.warehouse.url, job.warehouse.connection))
    return open_url(url, TableName.parse(job.warehouse.table), writes)


def open_url(url: str, table: TableName, writes: bool = True) -> Warehouse:
    """Return the warehouse at a url whose paths are absolute; as `open_warehouse`."""
    scheme = url.partition(":")[0]
    kind = scheme.partition("+")[0]
    if kind not in WAREHOUSES:
        hint = nearest(kind, WAREHOUSES) or "."
        raise JobError(
            f"warehouse.url: {scheme!r} is no known warehouse{hint}", f"use one of: {', '.join(WAREHOUSES)}."
        )
    module, _, name = WAREHOUSES[kind].partition(":")
    warehouse: Warehouse = getattr(import_module(module), name)(url, table, writes)
    return warehouse
