"""An analyst who reads a table in a loop, with the tools that the docs name, and tells at the end what was seen.

python -m warehouses.reader KIND URL
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

__all__ = ["READERS"]

COUNTED = "SELECT count(*), min(label), max(label) FROM {table}"
WHOLE = (
    "SELECT (SELECT count(*) FROM {at}analytics.reviews), (SELECT min(label) FROM {at}analytics.reviews), "
    "(SELECT max(label) FROM {at}analytics.reviews), (SELECT min(windrow_run_id) FROM {at}analytics.reviews__rejects), "
    "(SELECT max(windrow_run_id) FROM {at}analytics.reviews__rejects), "
    "(SELECT max(run_id) FROM {at}analytics.windrow_runs)"
)
"""Table, rejects and ledger in one statement, where one transaction holds the three."""


def of_duckdb(url: str) -> tuple[Any, ...]:
    """Open the file for reading, and close it soon."""
    with duckdb.connect(url.removeprefix("duckdb:///"), read_only=True) as con:
        return con.execute(WHOLE.format(at="")).fetchall()[0]


def of_ducklake(url: str) -> tuple[Any, ...]:
    """Attach the lake for reading."""
    from windrow.duck_extensions import load_extension

    with duckdb.connect() as con:
        load_extension(con, "ducklake")
        catalog = "/" + url.partition(":")[2].partition("?")[0].lstrip("/")
        con.execute(f"ATTACH 'ducklake:{catalog}' AS lake (READ_ONLY)")
        return con.execute(WHOLE.format(at="lake.")).fetchall()[0]


def of_postgresql(url: str) -> tuple[Any, ...]:
    """Ask the server."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as con, con.cursor() as cursor:
        cursor.execute(WHOLE.format(at=""))
        return cursor.fetchall()[0]


def of_delta(url: str) -> tuple[Any, ...]:
    """Read the newest version with delta-rs."""
    from deltalake import DeltaTable

    return _counted(pa.table(DeltaTable(f"{url.removeprefix('delta://')}/analytics/reviews").scan()))


def of_iceberg(url: str) -> tuple[Any, ...]:
    """Read the newest snapshot with pyiceberg."""
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog("default", type="sql", uri=f"sqlite:///{url.removeprefix('iceberg+sql:///')}")
    try:
        return _counted(catalog.load_table("analytics.reviews").scan().to_arrow())
    finally:
        catalog.close()


def of_parquet(url: str) -> tuple[Any, ...]:
    """Read the files that ``_current.json`` names."""
    folder = Path(url.removeprefix("parquet://")) / "analytics" / "reviews"
    paths = [str(folder / file["path"]) for file in json.loads((folder / "_current.json").read_text())["files"]]
    with duckdb.connect() as con:
        return con.execute(COUNTED.format(table="read_parquet(?)"), [paths]).fetchall()[0]


def of_clickhouse(url: str) -> tuple[Any, ...]:
    """Ask the server with its own driver."""
    import clickhouse_connect

    with clickhouse_connect.get_client(dsn=url) as client:
        return tuple(client.query(COUNTED.format(table="analytics.reviews")).result_rows[0])


READERS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "duckdb": of_duckdb,
    "ducklake": of_ducklake,
    "postgresql": of_postgresql,
    "delta": of_delta,
    "iceberg": of_iceberg,
    "parquet": of_parquet,
    "clickhouse": of_clickhouse,
}


def _counted(given: pa.Table) -> tuple[Any, ...]:
    with duckdb.connect() as con:
        return con.execute(COUNTED.format(table="given")).fetchall()[0]


def main(kind: str, url: str) -> None:
    """Look until standard input ends; print a line when the first look is done, and what was seen at the end."""
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    seen: Counter[tuple[Any, ...]] = Counter()
    told: Counter[str] = Counter()
    while not ended.is_set():
        began = time.monotonic()
        try:
            seen[READERS[kind](url)] += 1
            if seen.total() == 1:
                print("reads", flush=True)
        except Exception as error:
            if not seen:  # nobody writes yet
                raise
            told[f"{type(error).__name__}: {error}"] += 1
        time.sleep(0.01 + time.monotonic() - began)  # who never lets go of a file keeps its writer out
    seen[READERS[kind](url)] += 1
    print(json.dumps({"seen": [[*what, count] for what, count in seen.items()], "told": dict(told)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
