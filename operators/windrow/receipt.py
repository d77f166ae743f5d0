"""The record of one run: what was asked, what was done, and how the counts add up."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Self

import pyarrow as pa

__all__ = ["LEDGER_SCHEMA", "Receipt", "Seconds", "utc_now", "versions"]

_ROWS = ("rows_in", "rows_published", "rows_rejected", "rows_truncated")
_TEXTS = ("texts_distinct", "texts_reused", "texts_scored", "tokens")

LEDGER_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("job", "task", "partition", "run_id", "model", "revision")),
        *((name, pa.string()) for name in ("fingerprint", "engine", "device", "precision")),
        *((name, pa.int64()) for name in (*_ROWS, *_TEXTS)),
        ("seconds", pa.struct([(name, pa.float64()) for name in ("load", "infer", "publish", "total")])),
        ("rows_per_s", pa.float64()),
        ("tokens_per_s", pa.float64()),
        ("labels", pa.map_(pa.string(), pa.int64())),
        ("rejects", pa.map_(pa.string(), pa.int64())),
        ("warehouse", pa.string()),
        ("table", pa.string()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("finished_at", pa.timestamp("us", tz="UTC")),
        ("versions", pa.map_(pa.string(), pa.string())),
        ("choice", pa.string()),
        ("rows_deleted", pa.int64()),
        ("watermark", pa.string()),
        ("quality", pa.string()),
    ]
)
"""Columns of ``windrow_runs``: one row a published run, the receipt's fields."""


def utc_now() -> datetime:
    """Return the present moment in UTC, with microseconds."""
    return datetime.now(UTC)


def versions() -> dict[str, str]:
    """Return the versions of what took part, without importing any of it."""
    names = (
        "windrow",
        "torch",
        "transformers",
        "tokenizers",
        "openvino",
        "onnxruntime",
        "ctranslate2",
        "pyarrow",
        "duckdb",
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True, slots=True)
class Seconds:
    """Wall time of the three steps, in seconds."""

    load: float = 0.0
    infer: float = 0.0
    publish: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """The record of one run.

    ``rows_in == rows_published + rows_rejected`` and
    ``texts_distinct == texts_reused + texts_scored``.
    """

    job: str
    task: str
    partition: str
    run_id: str
    model: str
    revision: str
    fingerprint: str
    engine: str
    device: str
    precision: str
    rows_in: int
    rows_published: int
    rows_rejected: int
    rows_truncated: int
    texts_distinct: int
    texts_reused: int
    texts_scored: int
    tokens: int
    seconds: Seconds
    rows_per_s: float
    tokens_per_s: float
    warehouse: str
    table: str
    started_at: datetime
    finished_at: datetime
    labels: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=versions)
    choice: dict[str, Any] = field(default_factory=dict)
    """Why this engine and precision, and every candidate that a pilot measured; see `windrow.pilot.Choice`."""
    rows_deleted: int = 0
    """Rows that the source marks as deleted; not among `rows_in`."""
    watermark: str | None = None
    """How far the source had been read, ``column=value``; the next run of a job with `source.since` starts there."""
    quality: dict[str, Any] = field(default_factory=dict)
    """What the quality gates say (``checks``), labels against those before (``drift``), and who decided."""

    def to_dict(self) -> dict[str, Any]:
        """Return the receipt as JSON-ready values, moments in ISO 8601."""
        fields = asdict(self)
        for moment in ("started_at", "finished_at"):
            fields[moment] = fields[moment].isoformat()
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Read back what `to_dict` wrote."""
        moments = {name: datetime.fromisoformat(fields[name]) for name in ("started_at", "finished_at")}
        return cls(**{**fields, **moments, "seconds": Seconds(**fields["seconds"])})

    def to_arrow(self) -> pa.Table:
        """Return the ledger row, one row with the schema `LEDGER_SCHEMA`."""
        fields = asdict(self)
        for name in ("labels", "rejects", "versions"):
            fields[name] = list(fields[name].items())
        for name in ("choice", "quality"):
            fields[name] = json.dumps(fields[name])
        return pa.Table.from_pylist([fields], schema=LEDGER_SCHEMA)
