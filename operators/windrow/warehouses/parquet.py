"""Plain Parquet files in folders by partition, on a local disk or any object store that fsspec knows."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
from pyarrow import types

from windrow.duck import first_line
from windrow.errors import JobError, WarehouseError, WindrowError
from windrow.job import redacted
from windrow.warehouses.base import TableName
from windrow.warehouses.lake import LakeWarehouse, opened
from windrow.warehouses.local import folder_of
from windrow.warehouses.parquet_table import ParquetTable, can_create

__all__ = ["ParquetWarehouse"]

_HOW = "write parquet:///folder or parquet+s3://bucket/folder."


class ParquetWarehouse(LakeWarehouse):
    """Tables as folders ``<schema>/<table>`` under one root.

    The url is ``parquet:///folder`` or ``parquet+s3://bucket/folder`` (any protocol of fsspec that can create a file
    only if it is not there); its query gives the options of the file system.
    """

    holds_any_moment = True

    @staticmethod
    def leaf(kind: pa.DataType) -> pa.DataType | None:
        """Return the type of Parquet, as DuckDB reads it, that holds values of `kind` unchanged."""
        return _leaf(kind)

    def open_table(self, name: TableName) -> ParquetTable:
        """Return the table in its folder."""
        kind, place, options = opened(self.url)
        if not place.strip("/"):
            raise JobError("warehouse.url names no folder.", _HOW)
        try:
            uri = f"{kind}://{place}" if kind else f"/{place.lstrip('/')}"
            files, root = fsspec.core.url_to_fs(uri, **options)
        except (ImportError, ValueError) as error:
            raise JobError(f"warehouse.url cannot be opened: {redacted(first_line(error))}.", _HOW) from None
        if not can_create(files):
            fix = "name a local folder, or a bucket of S3, Google or Azure with a recent s3fs, gcsfs or adlfs."
            raise JobError(f"{kind!r} cannot create a file only if it is not there.", fix)
        return ParquetTable(name.name, files, f"{root.rstrip('/')}/{folder_of(name)}")

    def local_place(self) -> Path | None:
        """Return the root folder, if it is a local one."""
        kind, place, _ = opened(self.url)
        return None if kind else Path(f"/{place.strip('/')}")

    def told(self, error: Exception) -> WindrowError | None:
        """Say what an error of the file system or of a file means."""
        module = type(error).__module__.partition(".")[0]
        if not isinstance(error, OSError | pa.ArrowInvalid) and module not in ("botocore", "gcsfs", "azure", "aiohttp"):
            return None
        words, where = redacted(first_line(error)), redacted(self.url)
        fix = "check the path, its permissions, its free space and the credentials, then run it again."
        return WarehouseError(f"Parquet files at {where!r} cannot be used: {words}.", fix)


def _leaf(kind: pa.DataType) -> pa.DataType | None:
    """Return the type that holds values of `kind` unchanged both in Parquet and in DuckDB, which filters its rows."""
    if kind == pa.float16():
        return pa.float32()
    if types.is_timestamp(kind):
        zone = "UTC" if kind.tz else None
        return pa.timestamp("us", tz=zone) if kind.unit != "ns" else None if zone else kind
    if types.is_date(kind):
        return pa.date32()
    if types.is_time(kind):
        return pa.time64("us") if kind.unit != "ns" else None
    same = types.is_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_binary(kind)
    if same or types.is_decimal128(kind) or types.is_fixed_size_binary(kind) or types.is_floating(kind):
        return kind
    return None
