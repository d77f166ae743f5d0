"""Iceberg: tables in a SQL, REST or Glue catalog, through pyiceberg."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
from pyarrow import types

from windrow.duck import first_line
from windrow.errors import JobError, WarehouseError, WindrowError
from windrow.job import redacted
from windrow.warehouses.base import TableName
from windrow.warehouses.iceberg_catalog import catalog_of
from windrow.warehouses.iceberg_table import IcebergTable
from windrow.warehouses.lake import LakeWarehouse, opened
from windrow.warehouses.lake_schema import widened

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog

__all__ = ["IcebergWarehouse"]

_DEFAULT_NAMESPACE = "default"


class IcebergWarehouse(LakeWarehouse):
    """Tables in an Iceberg catalog; the part of the table's name before the dot is the namespace.

    ``iceberg+sql:///folder/catalog.db`` is a catalog in a SQLite file, ``iceberg+sql+postgresql+psycopg://…`` one in
    a database that SQLAlchemy knows, ``iceberg+rest://host/path`` a REST catalog (``iceberg+rest+http://`` without
    TLS) and ``iceberg+glue://`` AWS Glue. The query gives the catalog's properties, as pyiceberg names them.
    """

    @staticmethod
    def leaf(kind: pa.DataType) -> pa.DataType | None:
        """Return the type of Iceberg that holds values of `kind` unchanged."""
        return _leaf(kind)

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if self._catalog is not None:
            with suppress(Exception):
                self._catalog.close()

    def open_table(self, name: TableName) -> IcebergTable:
        """Return the table of the catalog."""
        if not hasattr(self, "_catalog") or self._catalog is None:
            self._catalog: Catalog | None = catalog_of(self.url, self.writes)
        return IcebergTable(self._catalog, (name.schema or _DEFAULT_NAMESPACE, name.name))

    def local_place(self) -> Path | None:
        """Return the file of a SQLite catalog."""
        scheme, place, _ = opened(self.url)
        return Path(f"/{place.lstrip('/')}") if scheme == "sql" else None

    def told(self, error: Exception) -> WindrowError | None:
        """Say what an error of pyiceberg, of its catalog or of its files means."""
        module = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError) and module not in ("pyiceberg", "sqlalchemy", "botocore", "requests"):
            return None
        words, where = redacted(first_line(error)), redacted(self.url)
        if "not a database" in words:
            return JobError(f"{where!r} is no SQLite catalog: {words}.", "name another file, or remove it.")
        fix = "check the catalog, its permissions, its free space and the credentials, then run it again."
        return WarehouseError(f"Iceberg at {where!r} cannot be used: {words}.", fix)


def _leaf(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of Iceberg that holds values of `kind` unchanged: 32 and 64 bits, signed, microseconds."""
    if common := widened(kind, _WIDER):
        return common
    if types.is_time(kind) and kind.unit != "ns":
        return pa.time64("us")
    same = kind in (pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary())
    return kind if same or types.is_decimal128(kind) or types.is_fixed_size_binary(kind) else None


_WIDER = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
}
