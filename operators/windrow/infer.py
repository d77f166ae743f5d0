"""infer: shard after shard through one resident model, each shard's predictions written as one file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import compute

from windrow.engines import Engine, EnginePlan
from windrow.engines.devices import lane_devices
from windrow.engines.several import calls_at_once, open_on
from windrow.errors import JobError, LimitError, StoreError
from windrow.faults import reach
from windrow.job import Job
from windrow.manifest import LaneReport, Manifest, Shard
from windrow.models import ResolvedModel, resolve
from windrow.models.reader import open_reader
from windrow.models.tokens import Tokens
from windrow.overlap import WriteBehind, as_done, read_ahead
from windrow.pace import Meter, Pace
from windrow.pilot import hours_allowed
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


def infer(
    job: Job,
    ref: RunRef,
    *,
    lane: int = 0,
    lanes: int = 1,
    progress: Progress | None = None,
    pace: Callable[[Pace], None] | None = None,
) -> LaneReport:
    """Score the shards of one lane; what already has a prediction is left out.

    Args:
        lane: Takes the shards ``lane, lane + lanes, lane + 2 * lanes …``.
        progress: Told after each shard.
        pace: Told every few seconds while shards are scored, from the thread that scores, and once at their end.

    Raises:
        JobError: The model changed since load.
        EngineError: The device or the model failed on everything.
        StoreError: The store cannot be read or written.
    """
    began = time.monotonic()
    store = Store(job.store_url)
    manifest = Manifest.read(store, ref)
    reach("infer.begun")
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
    ran, device = manifest.engine, manifest.device
    notes = list(reports[lane].fallbacks) if lane in reports else []
    if any(len(hashes) for hashes in pending.values()):
        total = sum(len(hashes) for hashes in pending.values())
        with _opened(job, manifest, model, task, lane, lanes) as (engine, tokens, plan):
            ran, device = engine.plan.engine, engine.plan.device
            meter = Meter(_sizes(shards, pending), partial(_tell, lane, pace))
            for done, read in _score_all(store, ref, task, engine, tokens, predictions, shards, pending, meter):
                texts += done
                tokens_read += read
                if progress:
                    progress(texts, total)
                _keep_limits(job, time.monotonic() - began, lanes)
            meter.end()
        notes += plan.notes
    seconds, told = time.monotonic() - began, list(dict.fromkeys(notes))
    report = LaneReport(lane, texts, tokens_read, seconds, ran, device, manifest.precision, told)
    reach("infer.done")
    report.write(store, ref)
    reach("infer.report")
    return report


@contextmanager
def _opened(
    job: Job, manifest: Manifest, model: ResolvedModel, task: Task, lane: int, lanes: int
) -> Iterator[tuple[Engine, Tokens, EnginePlan]]:
    """Give the lane's engine with its model resident, what reads texts for it, and the plan that it was opened by."""
    tokens = open_reader(model, task)
    plan = manifest.engine_plan(task, tokens)
    engine = open_on(lane_devices(manifest.device, lane, lanes), plan, model, job.engine)
    try:
        yield engine, tokens, plan
    finally:
        engine.close()


def _sizes(shards: Sequence[Shard], pending: dict[str, pa.Array]) -> dict[str, tuple[int, int]]:
    """Return how many texts of each shard are still to be scored, and about how many bytes they have."""
    return {
        shard.name: (count, shard.size_bytes * count // max(1, shard.texts))
        for shard in shards
        if (count := len(pending[shard.name]))
    }


def _tell(lane: int, also: Callable[[Pace], None] | None, pace: Pace) -> None:
    """Write a line that a person can follow, and tell who else wants to know."""
    log.info("Lane %d: %s.", lane + 1, pace)
    if also:
        also(pace)


def _keep_limits(job: Job, seconds: float, lanes: int) -> None:
    """Stop a lane that has used up its hours, or its share of the cost; what is scored is kept."""
    price = job.price_per_hour * lanes if job.price_per_hour else None
    allowed = hours_allowed(job.limits, price)
    if allowed is not None and seconds / 3600 > allowed:
        raise LimitError(
            f"Scoring has taken {seconds / 3600:.3g} hours; its limits leave it {allowed:.3g}.",
            "raise limits.max_hours or limits.max_cost and run it again; what is scored is kept.",
        )


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
    """Read a shard; a text that is not the one of its hash must not get a prediction under it.

    Raises:
        StoreError: The shard is broken.
    """
    table = store.read_arrow(f"{ref.folder}/{shard.name}")
    texts = table["windrow_text"].cast(pa.large_binary()).to_pylist()
    marks = (sha256(text or b"").digest()[:16] for text in texts)
    if any(mark != told for mark, told in zip(marks, table["windrow_hash"].to_pylist(), strict=True)):
        raise StoreError(f"File {shard.name!r} of run {ref.run_id} is broken.", "run it again from load.")
    return table


def _score_all(
    store: Store,
    ref: RunRef,
    task: Task,
    engine: Engine,
    tokens: Tokens,
    predictions: Predictions,
    shards: Sequence[Shard],
    pending: dict[str, pa.Array],
    meter: Meter,
) -> Iterator[tuple[int, int]]:
    """Read ahead, score, write behind; yield texts and tokens of each shard as it is done.

    Where the engine has several devices, each takes a shard of its own.
    """

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

    watched = meter.watched(engine)

    def score(ready: _Ready) -> tuple[_Ready, Scored]:
        with meter.shard(ready.shard.name):
            scored = task.score(ready.prepared, watched, tokens)
        meter.done(ready.shard.name, int(scored.tokens.sum()))
        return ready, scored

    with WriteBehind() as writer:
        for ready, scored in as_done(read_ahead(prepared()), score, calls_at_once(engine)):
            table = predictions_table(ready.hashes, scored, task, ref.run_id)
            name = f"{ref.run_id}-{ready.shard.name.rsplit('/', 1)[-1].removesuffix('.arrow')}"
            reach("infer.scored")
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
