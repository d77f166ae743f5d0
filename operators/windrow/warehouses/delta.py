"""Delta Lake: a folder or bucket for each table, its log the only catalog."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from pyarrow import types

from windrow.duck import first_line
from windrow.errors import JobError, SchemaError, WarehouseError, WindrowError
from windrow.job import redacted
from windrow.warehouses.base import TableName
from windrow.warehouses.delta_table import DeltaLakeTable
from windrow.warehouses.lake import LakeWarehouse, opened
from windrow.warehouses.lake_schema import widened
from windrow.warehouses.local import folder_of

__all__ = ["DeltaWarehouse"]

_CLIENT = {"connect_timeout": "5s", "max_retries": "3", "retry_timeout": "20s"}
"""So that an object store that does not answer is told in seconds."""


class DeltaWarehouse(LakeWarehouse):
    """Tables as folders ``<schema>/<table>`` under one root, which is a local folder or a bucket.

    The url is ``delta:///folder`` or ``delta+s3://bucket/folder`` (also ``gs``, ``abfss``); its query and the
    environment (``AWS_ACCESS_KEY_ID`` and so on) give the options of the object store.
    """

    @staticmethod
    def leaf(kind: pa.DataType) -> pa.DataType | None:
        """Return the type of Delta Lake that holds values of `kind` unchanged."""
        return _leaf(kind)

    def open_table(self, name: TableName) -> DeltaLakeTable:
        """Return the table in its folder."""
        kind, place, options = opened(self.url)
        folder = folder_of(name)
        if not place.strip("/"):
            raise JobError("warehouse.url names no folder.", "write delta:///folder or delta+s3://bucket/folder.")
        uri = f"{kind}://{place.rstrip('/')}/{folder}" if kind else f"/{place.strip('/')}/{folder}"
        return DeltaLakeTable(name.name, uri, {**_CLIENT, **options} if kind else None)

    def local_place(self) -> Path | None:
        """Return the root folder, if it is a local one."""
        kind, place, _ = opened(self.url)
        return None if kind else Path(f"/{place.strip('/')}")

    def told(self, error: Exception) -> WindrowError | None:
        """Say what an error of delta-rs means."""
        from deltalake.exceptions import DeltaError, TableNotFoundError

        if not isinstance(error, DeltaError | TableNotFoundError | OSError):
            return None
        words = first_line(error)
        if "protocol" in words.lower() or "feature" in words.lower():
            fix = "publish to another table, or drop the feature from this one."
            return SchemaError(f"Delta table {self.table.name!r} has what Windrow cannot write: {words}.", fix)
        where = redacted(self.url)
        fix = "check the path, its permissions, its free space and the credentials, then run it again."
        return WarehouseError(f"Delta Lake at {where!r} cannot be used: {redacted(words)}.", fix)


def _leaf(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of Delta Lake that holds values of `kind` unchanged: no unsigned, no nanoseconds, no times."""
    if common := widened(kind, _WIDER):
        return common
    if types.is_fixed_size_binary(kind):
        return pa.binary()
    same = types.is_signed_integer(kind) or types.is_boolean(kind) or types.is_string(kind) or types.is_binary(kind)
    if same or types.is_decimal128(kind) or kind in (pa.float32(), pa.float64()):
        return kind
    return None


_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
}
