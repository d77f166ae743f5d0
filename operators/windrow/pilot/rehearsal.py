"""A loaded run's chosen engine, timed on texts from all over its shards: what a plan and the limits go by."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from windrow.engines.devices import lane_devices
from windrow.engines.several import calls_at_once, open_on
from windrow.job import Job
from windrow.manifest import Manifest
from windrow.models import resolve
from windrow.models.reader import open_reader
from windrow.pilot.timing import Limit, Timing, timed
from windrow.store import Store
from windrow.tasks import build_task

__all__ = ["measured"]

REHEARSAL_S = 8.0
_TEXTS, _SHARDS, _BYTES = 4096, 8, 64 << 20
"""A sample has about so many texts, of so many shards, or fewer where these have more bytes."""
_BYTES_BESIDE = 24
"""Of hash and offsets, for each text of a shard."""


def measured(job: Job, manifest: Manifest, store: Store) -> tuple[Timing, int, float]:
    """Score a sample for some seconds.

    Returns:
        The timing; the tokens that the whole run has to read, estimated by the bytes of its texts; and the seconds
        until the model was open.
    """
    began = time.monotonic()
    model = resolve(job)
    task = build_task(job, model)
    sample = _sample(store, manifest)
    tokens = open_reader(model, task)
    engine = open_on(lane_devices(manifest.device), manifest.engine_plan(task, tokens), model, job.engine)
    opened_s = time.monotonic() - began
    try:
        timing, _ = timed(task, engine, tokens, sample, Limit(REHEARSAL_S))
        timing = timing.shared(calls_at_once(engine))  # the sample keeps one device busy, a run all of them
    finally:
        engine.close()
    if timing.texts == manifest.texts_to_score:
        return timing, timing.tokens, opened_s
    size_bytes = sum(max(0, shard.size_bytes - _BYTES_BESIDE * shard.texts) for shard in manifest.shards)
    sampled_bytes = sum(len(text if isinstance(text, bytes) else text.encode()) for text in sample[: timing.texts])
    return timing, round(timing.tokens / max(1, sampled_bytes) * size_bytes), opened_s


def _sample(store: Store, manifest: Manifest) -> list[Any]:
    """Return texts (or the bytes of images) of some shards, spread evenly over each, shard after shard in turn."""
    step = max(1, len(manifest.shards) // _SHARDS)
    chosen = manifest.shards[::step][:_SHARDS]
    parts = []
    for shard in chosen:
        with store.opened(f"{manifest.ref.folder}/{shard.name}") as file:
            column = pa.ipc.open_file(file).read_all()["windrow_text"]
        fitting = min(_TEXTS, _BYTES * shard.texts // max(1, shard.size_bytes)) // len(chosen)
        every = max(1, shard.texts // max(1, fitting))
        parts.append(column.take(pa.array(range(0, shard.texts, every))).to_pylist())
    longest = max(map(len, parts), default=0)
    return [part[place] for place in range(longest) for part in parts if place < len(part)]
