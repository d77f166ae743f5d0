"""Keeping the store small: sizes, pruning by age, compaction."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from windrow.predictions import FACTS, Predictions
from windrow.store import Store

__all__ = ["compact_all", "prune", "store_sizes"]

_DAY_S = 86_400


def store_sizes(url: str) -> dict[str, Any]:
    """Return how many files and bytes runs and predictions take up."""
    store = Store(url)
    sizes: dict[str, Any] = {}
    for part in ("runs", "predictions"):
        files = store.listed(part, "")
        sizes[f"{part}_files"] = len(files)
        sizes[f"{part}_bytes"] = sum(size for _, size, _ in files)
    sizes["fingerprints"] = len({name.split("/")[1] for name, _, _ in store.listed("predictions", "")})
    return sizes


def prune(url: str, days: int) -> int:
    """Remove files of runs and predictions that were last written more than `days` ago; return how many.

    What was pruned is scored again when it is next asked for.
    """
    store = Store(url)
    oldest = time.time() - days * _DAY_S
    old = [
        name for part in ("runs", "predictions") for name, _, modified in store.listed(part, "") if modified <= oldest
    ]
    store.remove(old)
    if store.is_local:
        store.drop_empty_folders("runs")
        store.drop_empty_folders("predictions")
    return len(old)


def compact_all(url: str) -> int:
    """Merge the small prediction files of every fingerprint; return how many files were merged."""
    store = Store(url)
    marks = sorted({name.split("/")[1] for name, _, _ in store.listed("predictions")})
    return sum(Predictions(store, mark, _columns(store, mark)).compact(above_files=1) for mark in marks)


def _columns(store: Store, mark: str) -> pa.Schema:
    """Return the task's columns from a prediction file."""
    name = store.listed(f"predictions/{mark}")[0][0]
    with store.opened(name) as file:
        schema = parquet.read_schema(file)
    ours = {"windrow_hash", *FACTS.names}
    return pa.schema([column for column in schema if column.name not in ours])
