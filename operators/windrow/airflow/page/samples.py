"""Sample rows of a run, out of a store that the deployment names; nothing else is opened."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from airflow.configuration import conf

from windrow.airflow.page.facts import Brief, mapping, text
from windrow.errors import WindrowError

__all__ = ["Samples", "read_samples"]

_MOST_BYTES = 1 << 20
_MOST_ROWS, _MOST_COLUMNS, LONGEST_CELL = 50, 30, 400


@dataclass(frozen=True, slots=True)
class Samples:
    """Tables of texts: columns, and rows in their order; or why there are none."""

    tables: tuple[tuple[str, list[str], list[list[str]]], ...] = ()
    why_not: str = ""


def read_samples(brief: Brief) -> Samples:
    """Return the sample rows that a run kept.

    The store is never taken from an XCom, which more people may write than may read the API server's disk.
    """
    if not conf.getboolean("windrow", "samples", fallback=True):
        return Samples(why_not="Sample rows are switched off in Airflow's configuration ([windrow] samples).")
    if not brief.samples:
        return Samples(why_not="This job keeps no sample rows. To have some: samples: {rows: 5} in the job.")
    if not re.fullmatch(r"[a-z0-9_]+", brief.job) or not re.fullmatch(r"[0-9A-Za-z-]{1,80}", brief.run_id):
        return Samples(why_not="The run's reference is broken.")
    from windrow.sampling import samples_file
    from windrow.store import RunRef

    for url in _stores():
        try:
            found = _read(url, samples_file(RunRef(brief.job, brief.partition, brief.run_id).folder))
        except (WindrowError, ValueError, OSError):
            continue
        return _tables(found)
    return Samples(why_not="The sample rows lie in no store that this server can read ([windrow] stores).")


def _stores() -> list[str]:
    from windrow.job import windrow_home

    given = conf.get("windrow", "stores", fallback="") or ""
    return [url.strip() for url in given.split(",") if url.strip()] or [str(windrow_home() / "store")]


def _read(url: str, name: str) -> Any:
    """Read a small JSON file of a store.

    Raises:
        ValueError: It is larger than sample rows are.
    """
    from windrow.store import Store

    store = Store(url)
    size = store.fs.size(f"{store.root}/{name}")
    if size is None or size > _MOST_BYTES:
        raise ValueError("this is no file of sample rows")
    return store.read_json(name)


def _tables(found: Any) -> Samples:
    told = mapping(found)
    tables = [(title, *_table(told.get(part))) for title, part in (("Published", "rows"), ("Rejected", "rejects"))]
    return Samples(tuple(table for table in tables if table[2]), why_not="The run has no rows to show.")


def _table(rows: Any) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the rows of a list of records, all as short texts."""
    records = [mapping(row) for row in rows[:_MOST_ROWS]] if isinstance(rows, list) else []
    columns = list(dict.fromkeys(name for record in records for name in record))[:_MOST_COLUMNS]
    shown = [[text(_shown(record.get(name)), LONGEST_CELL) for name in columns] for record in records]
    return [text(name, 80) for name in columns], shown


def _shown(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
