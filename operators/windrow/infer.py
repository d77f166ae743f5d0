"""infer: shard after shard through one resident model, each shard's predictions written as one file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from windrow.engines import Engine, EnginePlan, open_first
from windrow.errors import JobError
from windrow.job import Job
from windrow.manifest import LaneReport, Manifest, Shard
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.overlap import WriteBehind, read_ahead
from windrow.predictions import Predictions
from windrow.receipt import utc_now
from windrow.store import RunRef, Store
from windrow.tasks import Scored, Task, build_task, fingerprint

__all__ = ["Progress", "infer", "predictions_table"]

log = logging.getLogger("windrow")
Progress = Callable[[int, int], None]
"""Called with texts done and texts in all."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A shard that has been read and prepared, waiting for the engine."""

    shard: Shard
    hashes: pa.Array
    prepared: Any


def infer(job: Job, ref: RunRef, *, lane: int = 0, lanes: int = 1, progress: Progress | None = None) -> LaneReport:
    """Score the shards of one lane; what already has a prediction is left out.

    Args:
        lane: Takes the shards ``lane, lane + lanes, lane + 2 * lanes …``.
        progress: Told after each shard.

    Raises:
        JobError: The model changed since load.
        EngineError: The device or the model failed on everything.
        StoreError: The store cannot be read or written.
    """
    began = time.monotonic()
    store = Store(job.store_url)
    manifest = Manifest.read(store, ref)
    reports = {report.lane: report for report in LaneReport.read_all(store, ref)}
    if lane in reports and store.exists(f"{ref.folder}/receipt.json"):
        return reports[lane]  # published: all is scored, and the shards are gone
    model = resolve(job)
    task = build_task(job, model)
    if fingerprint(task, model, manifest.precision) != manifest.fingerprint:
        raise JobError("The model or the task changed since this run was loaded.", "run it again from load.")
    predictions = Predictions(store, manifest.fingerprint, task.columns)
    shards = manifest.shards[lane::lanes]
    pending = _pending(store, ref, predictions, shards)
    texts = tokens_read = 0
    ran = manifest.engine
    if any(len(hashes) for hashes in pending.values()):
        plan = EnginePlan(manifest.engine, task.head, manifest.device, manifest.precision, task.labels)
        tokens = Tokens(model)
        engine = open_first(plan, model, job.engine)
        ran = engine.plan.engine
        try:
            total = sum(len(hashes) for hashes in pending.values())
            for done, read in _score_all(store, ref, task, engine, tokens, predictions, shards, pending):
                texts += done
                tokens_read += read
                log.info(
                    "Lane %d: %d of %d texts, %.0f tokens/s",
                    lane,
                    texts,
                    total,
                    tokens_read / (time.monotonic() - began),
                )
                if progress:
                    progress(texts, total)
        finally:
            engine.close()
    report = LaneReport(lane, texts, tokens_read, time.monotonic() - began, ran, manifest.device, manifest.precision)
    report.write(store, ref)
    return report


def _pending(store: Store, ref: RunRef, predictions: Predictions, shards: Sequence[Shard]) -> dict[str, pa.Array]:
    """Return, for each shard, the hashes that still have no prediction."""
    hashes = {shard.name: store.read_arrow(f"{ref.folder}/{shard.name}", [0]).column(0) for shard in shards}
    chunks = [chunk for column in hashes.values() for chunk in column.chunks]
    with store.scratch() as folder, store.connect(folder) as con:
        con.register("wanted", pa.table({"windrow_hash": pa.chunked_array(chunks, pa.binary())}))
        predictions.select(con, "wanted", "predicted", columns=[])
        done = con.execute("SELECT windrow_hash FROM predicted").to_arrow_table().column(0)
    return {
        name: column.filter(compute.invert(compute.is_in(column, value_set=done))).combine_chunks()
        for name, column in hashes.items()
    }


def _read(store: Store, ref: RunRef, shard: Shard) -> pa.Table:
    return store.read_arrow(f"{ref.folder}/{shard.name}")


def _score_all(
    store: Store,
    ref: RunRef,
    task: Task,
    engine: Engine,
    tokens: Tokens,
    predictions: Predictions,
    shards: Sequence[Shard],
    pending: dict[str, pa.Array],
) -> Iterator[tuple[int, int]]:
    """Read ahead, score, write behind; yield texts and tokens of each shard as it is done."""

    def prepared() -> Iterator[_Ready]:
        for shard in shards:
            wanted = pending[shard.name]
            if not len(wanted):
                continue
            table = _read(store, ref, shard)
            if len(wanted) < table.num_rows:
                table = table.filter(compute.is_in(table["windrow_hash"], value_set=wanted))
            texts = table["windrow_text"].to_pylist()
            yield _Ready(shard, table["windrow_hash"].combine_chunks(), task.prepare(texts, tokens))

    with WriteBehind() as writer:
        for ready in read_ahead(prepared()):
            scored = task.score(ready.prepared, engine, tokens)
            table = predictions_table(ready.hashes, scored, task, ref.run_id)
            name = f"{ref.run_id}-{ready.shard.name.rsplit('/', 1)[-1].removesuffix('.arrow')}"
            writer.submit(predictions.write, table, name)
            yield len(ready.hashes), int(scored.tokens.sum())


def predictions_table(hashes: pa.Array, scored: Scored, task: Task, run_id: str) -> pa.Table:
    """Return the predictions of one shard as a table: hash, task columns, facts.

    Failed texts carry their reason and nulls in the task's columns.
    """
    count = len(hashes)
    fine = np.ones(count, dtype=np.bool_)
    fine[list(scored.failed)] = False
    columns: dict[str, Any] = {"windrow_hash": hashes}
    for field in task.columns:
        values = scored.columns[field.name].cast(field.type)
        columns[field.name] = compute.if_else(pa.array(fine), values, pa.scalar(None, field.type))
    columns["windrow_tokens"] = pa.array(scored.tokens, pa.int32())
    columns["windrow_truncated"] = pa.array(scored.truncated)
    columns["windrow_scored_at"] = pa.array([utc_now()] * count, pa.timestamp("us", tz="UTC"))
    columns["windrow_scored_by"] = pa.array([run_id] * count)
    for place, name in enumerate(("windrow_reason", "windrow_detail")):
        columns[name] = pa.array(
            [scored.failed[i][place] if i in scored.failed else None for i in range(count)], pa.string()
        )
    return pa.table(columns)
