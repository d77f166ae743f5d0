"""Publishing against each warehouse's own bulk path: the same rows, side by side, a process each.

    python -m benchmarks.publish [--rows 1000000] [--repeats 3] [--place duckdb parquet …]

Twelve columns, one of them a list of structs, one a text of 120 characters. The bulk path is what the warehouse's own
driver does best with the same Arrow rows into a new table: no partition, no rejects, no ledger, no fence. Windrow
publishes the rows as a partition of a new table, then the same partition again. PostgreSQL is the one that `--postgres
URL` names, an empty database.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import ipc

from benchmarks.machine import machine
from windrow.receipt import Receipt, Seconds
from windrow.schema import rejects_schema
from windrow.warehouses import open_url
from windrow.warehouses.base import Replacement, TableName

RESULTS = Path(__file__).parent / "results"
PLACES = {
    "duckdb": "duckdb:///{folder}/warehouse.duckdb",
    "parquet": "parquet:///{folder}/parquet",
    "delta": "delta:///{folder}/delta",
    "iceberg": "iceberg+sql:///{folder}/catalog.db?warehouse={folder}/iceberg",
    "postgresql": "{postgres}",
}
WAYS = ("bulk", "first", "again")
BATCH = 65_536
SPAN = pa.struct([("word", pa.string()), ("score", pa.float32())])
NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)


def write_rows(path: Path, rows: int) -> None:
    """Write the result rows, seeded, as an Arrow stream."""
    rng = np.random.default_rng(0)
    with ipc.new_stream(str(path), batch_of(rng, 0, 1).schema) as writer:
        for start in range(0, rows, BATCH):
            writer.write_batch(batch_of(rng, start, min(BATCH, rows - start)))


def batch_of(rng: np.random.Generator, start: int, count: int) -> pa.RecordBatch:
    """Make rows of twelve columns, the last seven those that every run adds."""
    letters = rng.integers(97, 123, (count, 120), dtype=np.uint8)
    texts = pa.Array.from_buffers(
        pa.string(),
        count,
        [None, pa.py_buffer(np.arange(0, 120 * count + 1, 120, dtype=np.int32)), pa.py_buffer(letters.tobytes())],
    )
    words = pa.array(["good", "bad", "film"]).take(pa.array(rng.integers(0, 3, 2 * count)))
    scores = pa.array(rng.random(2 * count, dtype=np.float32))
    spans = pa.ListArray.from_arrays(
        pa.array(np.arange(0, 2 * count + 1, 2, dtype=np.int32)),
        pa.StructArray.from_arrays([words, scores], fields=list(SPAN)),
    )
    return pa.record_batch(
        {
            "id": pa.array(np.arange(start, start + count)),
            "text": texts,
            "label": pa.array(["negative", "positive"]).take(pa.array(rng.integers(0, 2, count))),
            "score": pa.array(rng.random(count, dtype=np.float32)),
            "spans": spans,
            "windrow_partition": pa.repeat("2026-11-23", count),
            "windrow_run_id": pa.repeat("run-1", count),
            "windrow_model": pa.repeat("windrow/minilm-sentiment", count),
            "windrow_fingerprint": pa.repeat("0123456789abcdef", count),
            "windrow_tokens": pa.array(rng.integers(1, 128, count, dtype=np.int32)),
            "windrow_truncated": pa.repeat(False, count),
            "windrow_scored_at": pa.repeat(pa.scalar(NOW, pa.timestamp("us", tz="UTC")), count),
        }
    )


def publish(url: str, rows: Path, run_id: str) -> None:
    """Publish the rows as one partition, with Windrow."""

    def start() -> pa.RecordBatchReader:
        return ipc.open_stream(pa.memory_map(str(rows)))

    texts = {f.name: "x" for f in dataclasses.fields(Receipt) if f.type == "str"}
    counts = {f.name: 0 for f in dataclasses.fields(Receipt) if f.type in {"int", "float"}}
    facts = texts | counts | {"partition": "2026-11-23", "run_id": run_id, "table": "analytics.results"}
    receipt = Receipt(**facts, seconds=Seconds(), started_at=NOW, finished_at=NOW)  # type: ignore[arg-type]
    schema = start().schema
    rejects = rejects_schema(pa.schema([schema.field("id")]))
    new = Replacement(
        schema, rejects, start, lambda: rejects.empty_table().to_reader(), receipt, time.monotonic(), ("id",)
    )
    with open_url(url, TableName("analytics", "results")) as warehouse:
        warehouse.replace(new)


def bulk_duckdb(_folder: Path, rows: pa.RecordBatchReader, url: str) -> None:  # noqa: ARG001 (DuckDB finds it by name)
    """Insert the stream in one statement, with the driver's own settings."""
    import duckdb

    tuned = {"preserve_insertion_order": False}
    with duckdb.connect(url.removeprefix("duckdb:///") + ".bulk", config=tuned) as con:
        con.execute("CREATE TABLE results AS FROM rows")


def bulk_parquet(folder: Path, rows: pa.RecordBatchReader, _url: str) -> None:
    """Write a dataset by partition."""
    from pyarrow import dataset

    dataset.write_dataset(
        rows, folder / "bulk", format="parquet", partitioning=["windrow_partition"], partitioning_flavor="hive"
    )


def bulk_delta(folder: Path, rows: pa.RecordBatchReader, _url: str) -> None:
    """Append the stream to a new table."""
    from deltalake import write_deltalake

    write_deltalake(str(folder / "bulk-delta"), rows, partition_by=["windrow_partition"])


def bulk_iceberg(folder: Path, rows: pa.RecordBatchReader, _url: str) -> None:
    """Append the rows, which pyiceberg wants whole, to a new table."""
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("bulk", uri=f"sqlite:///{folder}/bulk.db", warehouse=f"file://{folder}/bulk-iceberg")
    catalog.create_namespace("analytics")
    table = rows.read_all()
    catalog.create_table("analytics.results", table.schema).append(table)


def bulk_postgresql(_folder: Path, rows: pa.RecordBatchReader, url: str) -> None:
    """Bare binary COPY into a new table of the same types, the spans' JSON made beforehand."""
    import adbc_driver_postgresql.dbapi

    where = rows.schema.get_field_index("spans")
    schema = rows.schema.set(where, pa.field("spans", pa.json_()))

    def plain() -> pa.RecordBatchReader:
        spans = '[{"word":"good","score":0.12345678},{"word":"film","score":0.12345678}]'
        whole = pa.ExtensionArray.from_storage(pa.json_(), pa.repeat(spans, BATCH))
        made = (batch.set_column(where, schema.field(where), whole[: batch.num_rows]) for batch in rows)
        return pa.RecordBatchReader.from_batches(schema, made)

    with adbc_driver_postgresql.dbapi.connect(url) as con, con.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS bulk_results")
        cursor.execute("DROP SCHEMA IF EXISTS analytics CASCADE")  # of the repeat before
        cursor.adbc_ingest("bulk_results", plain(), mode="create")
        con.commit()


BULK: dict[str, Callable[[Path, pa.RecordBatchReader, str], None]] = {
    "duckdb": bulk_duckdb,
    "parquet": bulk_parquet,
    "delta": bulk_delta,
    "iceberg": bulk_iceberg,
    "postgresql": bulk_postgresql,
}


def one(place: str, way: str, folder: Path, url: str) -> None:
    """Do one thing in this process and print its figures as JSON."""
    rows = folder.parent / "rows.arrow"
    open_url(url, TableName("analytics", "results"), writes=False)  # imports the driver, for both ways
    began = time.perf_counter()
    if way == "bulk":
        BULK[place](folder, ipc.open_stream(pa.memory_map(str(rows))), url)
    else:
        publish(url, rows, f"run-{WAYS.index(way)}")
    told = {"seconds": time.perf_counter() - began}
    print(json.dumps(told | {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def as_markdown(found: dict[str, dict[str, list[dict[str, float]]]], rows: int, repeats: int) -> str:
    """Return the table and the machine as Markdown."""
    lines = [
        "| warehouse | own bulk path, rows/s | Windrow, rows/s | to the bulk path | again, to the first | peak, MB |",
        "|---|---|---|---|---|---|",
    ]
    for place, ways in found.items():
        spent = {way: statistics.median(run["seconds"] for run in ways[way]) for way in WAYS}
        peak = max(run["peak_mb"] for way in ("first", "again") for run in ways[way])
        times, again = spent["first"] / spent["bulk"], spent["again"] / spent["first"]
        lines.append(
            f"| {place} | {rows / spent['bulk']:,.0f} | {rows / spent['first']:,.0f} | {times:.2f}x the time "
            f"| {again:.2f}x the time | {peak:,.0f} |"
        )
    told = f"{rows:,} rows of 12 columns; medians of {repeats} interleaved repeats, a process each, a new table each."
    where = "; ".join(f"{name}: {value}" for name, value in machine().items())
    return "\n".join([*lines, "", f"{told} {where}."])


def main() -> None:
    """Run all places, print one table, and write it to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=1_000_000)
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--place", nargs="+", choices=PLACES, default=[name for name in PLACES if name != "postgresql"])
    asked.add_argument("--postgres", default="", help="url of an empty database; adds postgresql")
    asked.add_argument("--one", nargs=4, metavar=("PLACE", "WAY", "FOLDER", "URL"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.one:
        return one(options.one[0], options.one[1], Path(options.one[2]), options.one[3])
    places = [*options.place, *(["postgresql"] if options.postgres else [])]
    found: dict[str, dict[str, list[dict[str, float]]]] = {place: {way: [] for way in WAYS} for place in places}
    for repeat in range(options.repeats):
        with tempfile.TemporaryDirectory(prefix="windrow-publish-") as top:
            write_rows(Path(top) / "rows.arrow", options.rows)
            for place in places:
                folder = Path(top) / place
                folder.mkdir()
                url = PLACES[place].format(folder=folder, postgres=options.postgres)
                for way in WAYS:
                    command = [sys.executable, "-m", "benchmarks.publish", "--one", place, way, str(folder), url]
                    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    found[place][way].append(json.loads(told))
                    print(repeat, place, way, told.strip(), flush=True)
    table = as_markdown(found, options.rows, options.repeats)
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "publish.md").write_text(table + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
