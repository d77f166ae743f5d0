"""Every warehouse that runs here, as the contract suite sees it: where it is, and what lies in it, read natively."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import duckdb
import pyarrow as pa
import pytest

import clickhouse_server
from postgres_server import shared
from windrow.duck import literal, quoted
from windrow.warehouses.base import TableName
from windrow.warehouses.ducklake import DuckLakeWarehouse


class Place(Protocol):
    """An empty warehouse of its own for one test."""

    url: str

    def rows(self, table: str) -> pa.Table:
        """Return all rows of a table of schema ``analytics``, by the warehouse's own driver; empty if it is missing."""
        ...


class DuckDBPlace:
    """A file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "warehouse.duckdb"
        self.url = f"duckdb:///{self.file}"

    def rows(self, table: str) -> pa.Table:
        """Read the table whole."""
        if not self.file.exists():
            return pa.table({})
        with duckdb.connect(str(self.file)) as con:
            con.execute("SET TimeZone = 'UTC'")
            try:
                return con.execute(f'SELECT * FROM analytics."{table}"').to_arrow_table()
            except duckdb.CatalogException:
                return pa.table({})


class DuckLakePlace:
    """A lake whose catalog is a DuckDB file, or another that `kind` names."""

    def __init__(self, folder: Path, kind: str = "", catalog: str | None = None) -> None:
        pytest.importorskip("duckdb_extension_ducklake")
        self.folder = folder / "lake"
        address = catalog or f"/{folder / 'catalog.ducklake'}"
        self.url = f"ducklake{kind}://{address}"
        self.url += f"{'&' if '?' in self.url else '?'}data={self.folder}"

    def rows(self, table: str) -> pa.Table:
        """Read the table whole."""
        with DuckLakeWarehouse(self.url, TableName("analytics", table), writes=False) as lake:
            try:
                return lake.con.execute(f"SELECT * FROM {lake.sql['table']}").to_arrow_table()
            except duckdb.CatalogException:
                return pa.table({})


class PostgresPlace:
    """A database."""

    def __init__(self, _: Path) -> None:
        pytest.importorskip("adbc_driver_postgresql")
        self.server = shared()
        self.database = self.server.database()
        self.url = self.server.at(self.database)

    def rows(self, table: str) -> pa.Table:
        """Read the table whole; what is exact in PostgreSQL alone comes as text and is turned back."""
        name = quoted("analytics", table)
        kinds = self.server.rows(
            f"SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = to_regclass({literal(name)}) AND attnum > 0 AND NOT attisdropped",
            self.database,
        )
        if not kinds:
            return pa.table({})
        casts = [
            f"{quoted(column)}{'::text' if kind.startswith(('numeric', 'jsonb')) else ''}" for column, kind in kinds
        ]
        rows = self.server.rows(f"SELECT {', '.join(casts)} FROM {name}", self.database)
        values = dict(zip([column for column, _ in kinds], zip(*rows, strict=True), strict=True)) if rows else {}
        return pa.table({column: _exact(values.get(column, ()), kind) for column, kind in kinds})


def _exact(values: Iterable[Any], kind: str) -> pa.Array:
    read = {"numeric": Decimal, "jsonb": json.loads}.get(kind.partition("(")[0], lambda value: value)
    return pa.array([None if value is None else read(value) for value in values])


class DeltaPlace:
    """A folder of tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lake"
        self.url = f"delta:///{self.folder}"

    def rows(self, table: str) -> pa.Table:
        """Read the newest version through delta-rs."""
        from deltalake import DeltaTable

        if not DeltaTable.is_deltatable(str(self.folder / "analytics" / table)):
            return pa.table({})
        return pa.table(DeltaTable(self.folder / "analytics" / table).scan())


class IcebergPlace:
    """A catalog in a SQLite file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "lake" / "catalog.db"
        self.url = f"iceberg+sql:///{self.file}"

    def rows(self, table: str) -> pa.Table:
        """Read the newest snapshot through pyiceberg."""
        if not self.file.exists():
            return pa.table({})
        return iceberg_rows(table, type="sql", uri=f"sqlite:///{self.file}", warehouse=str(self.file.parent))


def iceberg_rows(table: str, **properties: str) -> pa.Table:
    """Read the newest snapshot of a catalog's table of schema ``analytics``; empty if it is missing."""
    from pyiceberg.catalog import load_catalog
    from pyiceberg.exceptions import NoSuchTableError

    catalog = load_catalog("default", **properties)
    try:
        return catalog.load_table(("analytics", table)).scan().to_arrow()
    except NoSuchTableError:
        return pa.table({})
    finally:
        catalog.close()


class IcebergRestPlace:
    """A REST catalog of a stand-in."""

    def __init__(self, folder: Path) -> None:
        from warehouses.iceberg_rest import IcebergRest

        self.credential = "windrow:c0rrect"
        self.server = IcebergRest(folder / "lake", self.credential)
        self.server.__enter__()
        self.url = f"iceberg+rest+http://{self.credential}@{self.server.address}/v1"

    def rows(self, table: str) -> pa.Table:
        """Read the newest snapshot through pyiceberg."""
        from warehouses.iceberg_rest import TOKEN

        return iceberg_rows(table, type="rest", uri=f"http://{self.server.address}", token=TOKEN)

    def close(self) -> None:
        """Stop the server."""
        self.server.__exit__()


class ParquetPlace:
    """A folder of tables."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "lake"
        self.url = f"parquet:///{self.folder}"

    def rows(self, table: str) -> pa.Table:
        """Read the files that the newest version names through DuckDB, as an analyst would."""
        folder = self.folder / "analytics" / table
        if not (folder / "_current.json").exists():
            return pa.table({})
        paths = [str(folder / file["path"]) for file in json.loads((folder / "_current.json").read_text())["files"]]
        with duckdb.connect() as con:
            con.execute("SET TimeZone = 'UTC'")
            query = "SELECT * FROM read_parquet(?, union_by_name = true, hive_partitioning = false)"
            return con.execute(query, [paths]).to_arrow_table() if paths else pa.table({})


class SnowflakePlace:
    """A database of a stand-in."""

    def __init__(self, _: Path) -> None:
        pytest.importorskip("fakesnow")
        from warehouses import snowflake_server

        self.server, self.database = snowflake_server, f"DB_{uuid.uuid4().hex[:8].upper()}"
        self.url = self.at()

    def at(self, user: str = "fake:snow", **options: object) -> str:
        """Return its url, for another user or with other options."""
        given = {"host": "127.0.0.1", "port": self.server.shared(), "protocol": "http", **options}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"snowflake://{user}@account/{self.database}?{query}"

    def rows(self, table: str) -> pa.Table:
        """Read the table whole, by DuckDB; names that nobody has to quote are in upper case."""
        try:
            found = self.server.rows(f'SELECT * FROM {self.database}.ANALYTICS."{table}"')
        except duckdb.CatalogException:
            return pa.table({})
        except duckdb.BinderException:  # nobody has connected yet
            return pa.table({})
        names = [name.lower() if name.isascii() else name for name in found.column_names]
        return pa.table([_told(column) for column in found.columns], names=names)


class BigQueryPlace:
    """A project of a stand-in."""

    def __init__(self, _: Path) -> None:
        pytest.importorskip("google.cloud.bigquery")
        from warehouses import bigquery_server

        port, self.server = bigquery_server.shared()
        self.project = f"project-{uuid.uuid4().hex[:8]}"
        self.endpoint = f"http://127.0.0.1:{port}"
        self.url = f"bigquery://{self.project}/analytics?endpoint={self.endpoint}"

    def rows(self, table: str) -> pa.Table:
        """Read the table whole, by DuckDB."""
        con = self.server.con.cursor()
        con.execute("SET TimeZone = 'UTC'")
        try:
            found = con.execute(f'SELECT * FROM "{self.project}".analytics."{table}"').to_arrow_table()
        except (duckdb.CatalogException, duckdb.BinderException):
            return pa.table({})
        return pa.table([_told(column) for column in found.columns], names=found.column_names)


def _told(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return whole numbers as such, and JSON as what it says."""
    kind = column.type
    if isinstance(kind, pa.JsonType):
        return pa.array([None if text is None else json.loads(text) for text in column.to_pylist()])
    return column.cast(pa.int64()) if pa.types.is_decimal(kind) and kind.scale == 0 else column


class ClickHousePlace:
    """A database of ClickHouse's engine, behind an HTTP interface of the tests' own."""

    lacks = ("local",)
    """Columns of the contract with a value before the year 1900."""

    def __init__(self, _: Path, server: clickhouse_server.Server | None = None) -> None:
        pytest.importorskip("chdb")
        pytest.importorskip("clickhouse_connect")
        self.server = server or clickhouse_server.shared()
        self.server.run("DROP DATABASE IF EXISTS analytics SYNC")
        self.url = self.server.at()

    def rows(self, table: str) -> pa.Table:
        """Read the table whole, without the driver."""
        found = self.server.table(
            f"SELECT count() AS n FROM system.tables WHERE database = 'analytics' AND name = '{table}'"
        )
        if not found["n"][0].as_py():
            return pa.table({})
        return self.server.table(f"SELECT * FROM analytics.`{table}`")

    def names(self) -> list[str]:
        """Return the names of all tables."""
        return list(
            self.server.table("SELECT name FROM system.tables WHERE database = 'analytics'")["name"].to_pylist()
        )


class RedshiftPlace(PostgresPlace):
    """A database of PostgreSQL behind a relay that knows what Redshift adds."""

    def __init__(self, _: Path) -> None:
        pytest.importorskip("redshift_connector")
        import redshift_server

        self.redshift = redshift_server.shared()
        self.server = self.redshift.postgres
        self.database = self.redshift.database()
        self.url = self.redshift.at(self.database)

    def names(self) -> list[str]:
        """Return the names of all tables, and of what is in the bucket."""
        tables = self.server.rows("SELECT relname::text FROM pg_class WHERE relkind = 'r'", self.database)
        return [*(name for (name,) in tables), *map(str, self.redshift.folder.rglob("*.parquet"))]


class DatabricksPlace:
    """A catalog of a stand-in."""

    def __init__(self, _: Path) -> None:
        pytest.importorskip("databricks.sql")
        pytest.importorskip("sqlglot")
        import databricks_server

        self.server = databricks_server.shared()
        self.catalog = self.server.catalog()
        self.url = self.server.at(self.catalog)

    def names(self) -> list[str]:
        """Return the names of all tables, and of what is in the volume."""
        with self.server.alone:
            tables = self.server.con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        return [*(name for (name,) in tables), *map(str, self.server.folder.rglob("*.parquet"))]

    def rows(self, table: str) -> pa.Table:
        """Read the table whole, by DuckDB."""
        with self.server.alone:
            try:
                return self.server.con.execute(f'SELECT * FROM {self.catalog}.analytics."{table}"').to_arrow_table()
            except duckdb.CatalogException:
                return pa.table({})


PLACES: dict[str, Callable[[Path], Place]] = {
    "duckdb": DuckDBPlace,
    "ducklake": DuckLakePlace,
    "postgresql": PostgresPlace,
    "iceberg": IcebergPlace,
    "delta": DeltaPlace,
    "parquet": ParquetPlace,
}
"""Each is made with a folder of its own; one whose parts are not installed skips the test."""

STAND_INS: dict[str, Callable[[Path], Place]] = {
    "snowflake": SnowflakePlace,
    "bigquery": BigQueryPlace,
    "clickhouse": ClickHousePlace,
    "redshift": RedshiftPlace,
    "databricks": DatabricksPlace,
}
"""Places that speak a warehouse's protocol; but for ClickHouse's, what answers is not that warehouse's engine."""

BROKEN: dict[str, Callable[[Path], Place]] = {**PLACES, "clickhouse": ClickHousePlace}
"""Places whose engine is the warehouse's own: they bear clients that are killed, and many at once."""
