"""Folders of warehouses: how a table's name becomes one, and whether a local one may be written."""

from __future__ import annotations

import os
import re
from pathlib import Path

from windrow.errors import WarehouseError
from windrow.warehouses.base import TableName

__all__ = ["check_writable", "folder_of"]


def folder_of(name: TableName) -> str:
    """Return the folder of a table under a root: its name, odd characters as ``~XX``.

    >>> folder_of(TableName("analytics", "größe/50%"))
    'analytics/größe~2F50~25'
    """

    def told(found: re.Match[str]) -> str:
        return "".join(f"~{byte:02X}" for byte in found[0].encode())

    return "/".join(re.sub(r"^\.|[^\w.\- ]", told, part) for part in (name.schema, name.name) if part)


def check_writable(place: Path) -> None:
    """Refuse a local place that cannot be written, before anything is scored.

    Args:
        place: A folder or file, which may not exist yet.

    Raises:
        WarehouseError: It, or the nearest folder above it that exists, may not be written.
    """
    there = next(path for path in (place, *place.parents) if path.exists())
    if (there.is_dir() or there == place) and os.access(there, os.W_OK):
        return
    reason = "it is read-only" if there.is_dir() or there == place else f"{str(there)!r} is no folder"
    raise WarehouseError(
        f"{str(place)!r} cannot be written: {reason}.", "correct warehouse.url or the permissions of the folder."
    )
