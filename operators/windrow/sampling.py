"""A few rows of a run kept beside its receipt, for people who look at it: only where the job asks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from windrow.duck import quoted
from windrow.errors import JobError
from windrow.job import Job
from windrow.store import RunRef, Store

__all__ = ["REDACTED", "check_redacted", "keep_samples", "samples_file"]

REDACTED = "•••"
LONGEST_CELL = 500


def samples_file(folder: str) -> str:
    """Return the name of the file in a run's folder."""
    return f"{folder}/samples.json"


def check_redacted(job: Job, columns: Sequence[str]) -> None:
    """Refuse to redact a column that the table does not have: a typing error would show what is to be hidden.

    Raises:
        JobError: A name in ``samples.redact`` is no key, kept or task column.
    """
    for name in job.samples.redact:
        if name not in columns:
            raise JobError(
                f"samples.redact names {name!r}, which the table does not have.",
                f"use some of: {', '.join(columns)}.",
            )


def keep_samples(
    con: duckdb.DuckDBPyConnection, store: Store, job: Job, ref: RunRef, carried: Sequence[str], added: Sequence[str]
) -> None:
    """Write some published rows and some rejects into the run's folder, without the values that are to be hidden.

    Which rows goes by their texts' hashes: the same ones each time, and spread over the partition.

    Args:
        con: Holds views ``rows`` and ``early`` and table ``found``, as in publish.
        carried: Key and kept columns.
        added: The task's columns.
    """
    most = job.samples.rows
    if not most:
        return
    fine = "SELECT windrow_hash FROM found WHERE windrow_reason IS NULL ORDER BY windrow_hash LIMIT ?"
    names = ", ".join([*(f"rows.{quoted(name)}" for name in carried), *(f"found.{quoted(name)}" for name in added)])
    keys = ", ".join(quoted(name) for name in job.source.key)
    bad = "SELECT windrow_hash FROM found WHERE windrow_reason IS NOT NULL ORDER BY windrow_hash LIMIT ?"
    join = "FROM rows JOIN found USING (windrow_hash) WHERE windrow_hash IN"
    rejects = f"{keys}, windrow_reason AS reason, windrow_detail AS detail"
    found = {
        "rows": _records(con, f"SELECT {names} {join} ({fine}) LIMIT ?", [most, most]),
        "rejects": _records(
            con,
            f"(SELECT {rejects} FROM early LIMIT ?) UNION ALL (SELECT {rejects} {join} ({bad}) LIMIT ?)",
            [most, most, most],
        )[:most],
    }
    hidden = {part: [_redacted(record, job.samples.redact) for record in records] for part, records in found.items()}
    store.write_json(samples_file(ref.folder), hidden)


def _records(con: duckdb.DuckDBPyConnection, query: str, values: list[int]) -> list[dict[str, Any]]:
    """Return rows as records; long values are cut."""
    table = con.execute(query, values).to_arrow_table()
    return [{name: _short(value) for name, value in row.items()} for row in table.to_pylist()]


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    words = value.hex() if isinstance(value, bytes) else str(value)
    return words if len(words) <= LONGEST_CELL else words[: LONGEST_CELL - 1] + "…"


def _redacted(record: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Hide values; the detail of a reject may quote its row, so it goes with any of them."""
    hidden = {*names, "detail"} if names else set()
    return {name: REDACTED if name in hidden and value is not None else value for name, value in record.items()}
