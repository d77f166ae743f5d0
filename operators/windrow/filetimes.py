"""When a file was last written, as its file system tells it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

__all__ = ["modified_s"]

_NAMES = ("mtime", "LastModified", "last_modified", "updated", "created")


def modified_s(info: Mapping[str, Any]) -> float:
    """Return the seconds since 1970 of fsspec's `info` about a file; 0 where it tells none.

    >>> modified_s({"LastModified": "1970-01-01T00:01:00+00:00"}), modified_s({"mtime": 5}), modified_s({})
    (60.0, 5.0, 0.0)
    """
    told = next((info[name] for name in _NAMES if info.get(name)), 0)
    if isinstance(told, str):
        told = datetime.fromisoformat(told)
    return float(told if isinstance(told, int | float) else told.timestamp())
