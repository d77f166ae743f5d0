"""publish: rows joined with predictions, audited, and the partition replaced in one transaction."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from windrow.duck import execute, literal, quoted
from windrow.errors import StoreError
from windrow.faults import reach, watched
from windrow.incremental import check_latest
from windrow.job import Job, redacted
from windrow.joining import is_wide, joined
from windrow.manifest import LaneReport, Manifest
from windrow.models import resolve
from windrow.predictions import Predictions
from windrow.quality.approval import Approval
from windrow.quality.audit import audit
from windrow.quality.verdict import judged
from windrow.receipt import Receipt, Seconds, utc_now
from windrow.sampling import keep_samples
from windrow.schema import rejects_schema, table_schema
from windrow.store import RunRef, Store
from windrow.tasks import Task, build_task
from windrow.warehouses import Replacement, open_warehouse

__all__ = ["Scored", "publish", "scored"]

_ROWS = 16384


@dataclass(frozen=True, slots=True)
class Scored:
    """A run whose rows have their predictions, before anything is published.

    Attributes:
        con: Has the views ``rows`` and ``early`` (rejects of load), and the table ``found``, one prediction a hash.
        store: Of the run.
        manifest: What load found out.
        task: What was asked.
        receipt: What would be published, and what the quality gates say of it.
    """

    con: duckdb.DuckDBPyConnection
    store: Store
    manifest: Manifest
    task: Task
    receipt: Receipt


def publish(job: Job, ref: RunRef) -> Receipt:
    """Replace the run's partition in the warehouse and write the receipt.

    Raises:
        AuditError: A limit or a quality gate is not met; the warehouse is as it was.
        ReviewError: A gate wants a person to decide; see `windrow.quality.approval.approve`.
        FencedError: A later run has published this partition.
        StoreError: A text has no prediction yet.
        WarehouseError: The warehouse cannot be reached or written.
    """
    began = time.monotonic()
    with scored(job, ref) as run:
        con, store = run.con, run.store
        audit(job, run.receipt)
        carried = list(dict.fromkeys((*job.source.key, *job.source.keep)))
        keep_samples(con, store, job, ref, carried, run.task.columns.names)
        new = _replacement(job, run, began)
        reach("publish.begun")
        with open_warehouse(job) as warehouse:
            check_latest(warehouse, job, ref.partition, ref.run_id)
            reach("publish.opened")
            gone, is_part = _gone(con, store, job, ref), run.manifest.since is not None
            receipt = warehouse.replace(dataclasses.replace(new, gone=gone, is_increment=is_part))
            reach("publish.committed")
    store.write_json(f"{ref.folder}/receipt.json", receipt.to_dict())
    reach("publish.receipt")
    store.remove([f"{ref.folder}/shards"])
    reach("publish.done")
    return receipt


@contextmanager
def scored(job: Job, ref: RunRef) -> Iterator[Scored]:
    """Join a run's rows with their predictions, count them, and hold the quality gates against them.

    Raises:
        StoreError: A text has no prediction yet.
        WarehouseError: The ledger cannot be read.
    """
    began = time.monotonic()
    store = Store(job.store_url)
    manifest = Manifest.read(store, ref)
    task = build_task(job, resolve(job))
    lanes = LaneReport.read_all(store, ref)
    with store.scratch() as folder, store.connect(folder) as con:
        _join(con, store, manifest, Predictions(store, manifest.fingerprint, task.columns))
        counts = _counts(con, manifest, task)
        receipt = _receipt(job, manifest, lanes, counts, time.monotonic() - began)
        yield Scored(con, store, manifest, task, judged(con, job, task.columns, receipt, Approval.read(store, ref)))


def _join(con: duckdb.DuckDBPyConnection, store: Store, manifest: Manifest, predictions: Predictions) -> None:
    """Make views `rows`, `early` (rejects of load) and table `found` (one prediction a hash).

    Raises:
        StoreError: A row's text has no prediction.
    """
    folder = manifest.ref.folder
    for view, name in (("rows", "rows"), ("early", "rejects")):
        if not store.exists(f"{folder}/{name}.parquet"):
            raise StoreError(f"Run {manifest.ref.run_id} has lost its {name}.", "run it again from load.")
        path = literal(store.path(f"{folder}/{name}.parquet"))
        con.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM read_parquet({path})")
    predictions.select(con, "rows", "found")
    if con.execute("SELECT count(*) - count(DISTINCT windrow_hash) FROM found").fetchall()[0][0]:
        order = "row_number() OVER (PARTITION BY windrow_hash ORDER BY windrow_scored_at, windrow_scored_by)"
        later = f"SELECT id FROM (SELECT rowid AS id, {order} AS place FROM found) WHERE place > 1"
        execute(con, f"DELETE FROM found WHERE rowid IN ({later})")
    lost = manifest.texts_distinct - con.execute("SELECT count(*) FROM found").fetchall()[0][0]
    if lost:
        pruned = store.exists(f"{folder}/receipt.json")  # published once, so its shards are gone
        raise StoreError(
            f"{lost} texts of run {manifest.ref.run_id} have no prediction {'any more' if pruned else 'yet'}.",
            "run it again from load (in Airflow, clear the load task)."
            if pruned
            else "run infer for this run again, or the whole run; only those are scored.",
        )


def _counts(con: duckdb.DuckDBPyConnection, manifest: Manifest, task: Task) -> dict[str, Any]:
    """Count what will be published and rejected, and what this run itself has scored, before anything is written."""
    label = "label" if "label" in task.columns.names else "NULL"
    groups = con.execute(
        f"SELECT windrow_reason, {label}, count(*), sum(windrow_truncated::INT)::BIGINT "
        "FROM rows JOIN found USING (windrow_hash) GROUP BY 1, 2 "
        "UNION ALL SELECT windrow_reason, NULL, count(*), 0 FROM early GROUP BY 1 ORDER BY 3 DESC, 1, 2"
    ).fetchall()
    scored, tokens = con.execute(
        "SELECT count(*), coalesce(sum(windrow_tokens), 0)::BIGINT FROM found WHERE windrow_scored_by = ?",
        [manifest.ref.run_id],
    ).fetchall()[0]
    rejects: dict[str, int] = {}
    for reason, _, rows, _ in groups:
        if reason is not None:
            rejects[reason] = rejects.get(reason, 0) + rows
    fine = [(name, rows, cut) for reason, name, rows, cut in groups if reason is None]
    return {
        "rows_published": sum(rows for _, rows, _ in fine),
        "rows_truncated": sum(cut for _, _, cut in fine),
        "labels": {name: rows for name, rows, _ in fine if name is not None},
        "rejects": rejects,
        "texts_scored": scored,
        "texts_reused": manifest.texts_distinct - scored,
        "tokens": tokens,
    }


def _receipt(
    job: Job, manifest: Manifest, lanes: list[LaneReport], counts: dict[str, Any], publish_s: float
) -> Receipt:
    infer_s = max((lane.seconds for lane in lanes), default=0.0)
    seconds = Seconds(manifest.load_s, infer_s, publish_s, manifest.load_s + infer_s + publish_s)
    return Receipt(
        job=job.name,
        task=job.task.name,
        partition=manifest.ref.partition,
        run_id=manifest.ref.run_id,
        model=manifest.model,
        revision=manifest.revision,
        fingerprint=manifest.fingerprint,
        engine="+".join(sorted({lane.engine for lane in lanes if lane.texts})) or manifest.engine,
        device=manifest.device,
        precision=manifest.precision,
        rows_in=manifest.rows_in,
        rows_rejected=sum(counts["rejects"].values()),
        texts_distinct=manifest.texts_distinct,
        seconds=seconds,
        rows_per_s=manifest.rows_in / seconds.total if seconds.total else 0.0,
        tokens_per_s=counts["tokens"] / infer_s if infer_s else 0.0,
        warehouse=redacted(job.warehouse.url or f"connection:{job.warehouse.connection}"),
        table=job.warehouse.table,
        started_at=datetime.fromisoformat(manifest.started_at),
        finished_at=utc_now(),
        choice=manifest.choice_as_run(lanes),
        rows_deleted=manifest.rows_deleted,
        watermark=manifest.watermark,
        **counts,
    )


def _replacement(job: Job, run: Scored, began: float) -> Replacement:
    """Describe the new partition as two streams and its ledger row."""
    con, manifest, task, receipt = run.con, run.manifest, run.task, run.receipt
    rows_file = run.store.path(f"{manifest.ref.folder}/rows.parquet")
    columns = [
        name
        for name in con.execute("SELECT * FROM rows LIMIT 0").to_arrow_table().schema.names
        if name != "windrow_hash"
    ]
    carried = ", ".join(f"rows.{quoted(name)}" for name in columns)
    added = ", ".join(f"found.{quoted(name)}" for name in task.columns.names)
    names = ("windrow_partition", "windrow_run_id", "windrow_model", "windrow_fingerprint")
    facts = dict(zip(names, (receipt.partition, receipt.run_id, receipt.model, receipt.fingerprint), strict=True))
    constants = ", ".join(f"{literal(value)} AS {name}" for name, value in facts.items())
    select = f"SELECT {carried}, {added}, {constants}, windrow_tokens, windrow_truncated, windrow_scored_at"
    keys = ", ".join(quoted(name) for name in job.source.key)
    late = (
        f"SELECT {keys}, windrow_reason, windrow_detail FROM rows JOIN found USING (windrow_hash) "
        "WHERE windrow_reason IS NOT NULL"
    )
    rejects = (
        f"SELECT {keys}, windrow_reason AS reason, windrow_detail AS detail, "
        f"{literal(receipt.partition)} AS windrow_partition, {literal(receipt.run_id)} AS windrow_run_id, "
        f"now() AS rejected_at FROM (FROM early UNION ALL {late})"
    )
    carried_types = con.execute("SELECT * EXCLUDE (windrow_hash) FROM rows LIMIT 0").to_arrow_table().schema
    loose = pa.schema([pa.field(f.name, pa.null()) if f.name in manifest.untyped else f for f in carried_types])
    return Replacement(
        table=table_schema(job, loose, task.columns),
        rejects=rejects_schema(pa.schema([loose.field(name) for name in job.source.key])),
        rows=watched(lambda: joined(con, select, rows_file, is_wide(task.columns)), "publish.rows"),
        reject_rows=watched(lambda: con.execute(rejects).to_arrow_reader(_ROWS), "publish.rejects"),
        receipt=receipt,
        began=began,
        keys=tuple(job.source.key),
        mode=job.warehouse.mode,
    )


def _gone(
    con: duckdb.DuckDBPyConnection, store: Store, job: Job, ref: RunRef
) -> Callable[[], pa.RecordBatchReader] | None:
    """Return what starts the stream of keys that the source deleted; None if there are none."""
    name = f"{ref.folder}/gone.parquet"
    if not store.exists(name):
        return None
    query = f"SELECT {', '.join(map(quoted, job.source.key))} FROM read_parquet({literal(store.path(name))})"
    return lambda: con.execute(query).to_arrow_reader(_ROWS)
