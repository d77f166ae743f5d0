"""What sources and tables are called in lineage: OpenLineage's naming, without secrets.

Tables of databases are ``database.schema.table`` at ``scheme://host:port``; files and lakes are paths in their file
system or bucket, without what differs from partition to partition. OpenLineage has no name for a DuckDB file: that of
its dbt integration is used, ``duckdb://<path>``, so that both meet in one graph.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from windrow.connections import located_url, url_of
from windrow.job import Job
from windrow.warehouses import TableName

__all__ = ["Column", "DatasetName", "file_dataset", "query_columns", "source_datasets", "table_dataset"]

_PORTS = {"postgres": 5432, "redshift": 5439}
_SCHEMAS = {"postgres": "public", "duckdb": "main", "md": "main", "redshift": "public"}
_BUCKETS = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "az": "abfss", "abfs": "abfss"}


class DatasetName(NamedTuple):
    """Namespace and name, as OpenLineage has them."""

    namespace: str
    name: str


class Column(NamedTuple):
    """A column of a dataset."""

    dataset: DatasetName
    name: str


def table_dataset(url: str, table: str) -> DatasetName:
    """Return the name of a table.

    Args:
        url: As `windrow.connections.located_url` gives it.
        table: As in the job.

    >>> table_dataset("postgresql://ann:s3cret@db/shop?sslmode=require", "sales.reviews")
    DatasetName(namespace='postgres://db:5432', name='shop.sales.reviews')
    >>> table_dataset("duckdb:////data/w.duckdb", "reviews")
    DatasetName(namespace='duckdb:///data/w.duckdb', name='w.main.reviews')
    """
    scheme, _, rest = url.partition(":")
    kind, _, inner = scheme.partition("+")
    kind = {"postgresql": "postgres"}.get(kind, kind)
    named, path = TableName.parse(table), rest.partition("?")[0].lstrip("/")
    if kind in {"delta", "parquet"}:
        folder = "/".join([path.rstrip("/"), *([named.schema] if named.schema else []), named.name])
        return file_dataset(f"{inner}://{folder}" if inner else f"/{folder}")
    if kind in {"iceberg", "ducklake"}:
        return DatasetName(f"{scheme}://{_bare(rest)}", _joined(named.schema, named.name))
    schema = named.schema or _SCHEMAS.get(kind)
    if kind == "duckdb":
        stem = path.rpartition("/")[2].partition(".")[0]
        return DatasetName(f"duckdb:///{path}", _joined(stem, schema, named.name))
    if kind == "md":
        return DatasetName("duckdb://md:", _joined(path, schema, named.name))
    parts = urlsplit(f"{kind}:{rest}")
    databases = [unquote(part) for part in parts.path.split("/") if part]
    if kind == "bigquery":
        return DatasetName("bigquery", _joined(parts.hostname, schema or _joined(*databases), named.name))
    port = parts.port or _PORTS.get(kind)
    place = f"{kind}://{parts.hostname or 'localhost'}{f':{port}' if port else ''}"
    if schema and len(databases) > 1:
        databases = databases[:1]
    return DatasetName(place, _joined(*databases, schema, named.name))


def file_dataset(path: str) -> DatasetName:
    """Return the name of a file, or of the folder whose files a pattern or ``{partition}`` picks.

    >>> file_dataset("s3://bucket/reviews/{partition}/*.parquet")
    DatasetName(namespace='s3://bucket', name='reviews')
    >>> file_dataset("/data/reviews.csv")
    DatasetName(namespace='file', name='/data/reviews.csv')
    """
    scheme, mark, rest = path.partition("://")
    scheme, rest = (_BUCKETS.get(scheme, scheme), rest) if mark else ("file", path)
    rest = rest.partition("?")[0] if scheme in {"http", "https"} else rest
    steady = re.split(r"[^/]*(?:\{partition\}|[*?\[])", rest)[0]
    if scheme in {"file", "local"}:
        return DatasetName("file", steady.rstrip("/") or "/")
    host, _, inner = steady.partition("/")
    if scheme != "abfss":
        host = host.rpartition("@")[2]  # what stands before is a login; of Azure's, it is the container
    return DatasetName(f"{scheme}://{host}", inner.strip("/") or "/")


def source_datasets(job: Job) -> list[DatasetName]:
    """Return the names of what a job reads: a file or folder, a dataset of the Hub, the tables of its query."""
    source = job.source
    if source.path:
        return [file_dataset(job.located(source.path))]
    if source.hub:
        return [DatasetName("hf://datasets", source.hub.partition("@")[0])]
    url = located_url(job, url_of(source.url, source.connection))
    return list(dict.fromkeys(table_dataset(url, table) for table in _parsed(source.query or "", url)[0]))


def query_columns(job: Job) -> dict[str, list[Column]]:
    """Return the columns of tables that each column of the job's query is made of, where that can be told."""
    url = located_url(job, url_of(job.source.url, job.source.connection))
    return {
        name: [Column(table_dataset(url, table), column) for table, column in columns if table]
        for name, columns in _parsed(job.source.query or "", url)[1].items()
    }


def _parsed(query: str, url: str) -> tuple[list[str], dict[str, list[tuple[str, str]]]]:
    """Return the tables of a query, and for each of its columns those that it is made of; nothing if it is not SQL."""
    from openlineage_sql import parse

    dialect = {"postgresql": "postgres", "md": "duckdb"}.get(kind := url.partition(":")[0].partition("+")[0], kind)
    found = parse([query.replace("'{partition}'", "''").replace("{partition}", "''")], dialect, None)
    if found is None or found.errors:
        return [], {}
    columns = {
        each.descendant.name: [(origin.origin.qualified_name, origin.name) for origin in each.lineage if origin.origin]
        for each in found.column_lineage
    }
    return [table.qualified_name for table in found.in_tables], columns


def _joined(*parts: str | None) -> str:
    return ".".join(part for part in parts if part)


def _bare(rest: str) -> str:
    """Return an address without login and query."""
    address = rest.removeprefix("//").partition("?")[0]
    host, slash, path = address.partition("/")
    return f"{host.rpartition('@')[2]}{slash}{path}".rstrip("/")
