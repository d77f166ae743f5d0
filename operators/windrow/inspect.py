"""Looking without doing: check, plan, explain, models, schema."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from windrow.engines import Engine, EnginePlan, check_engine, open_first
from windrow.engines.device import choose_device, choose_precision
from windrow.errors import JobError, ModelError
from windrow.job import Job, redacted
from windrow.load import carried_columns, check_table, load, partition_of
from windrow.manifest import Manifest
from windrow.models import resolve
from windrow.models.bundled import BUNDLED, base_folder
from windrow.models.tokens import Tokens
from windrow.sources import open_source
from windrow.store import Store
from windrow.tasks import Task, build_task, check_task
from windrow.warehouses import open_warehouse

__all__ = ["bundled_models", "check_job", "explain_row", "job_schema", "plan_job"]

_PILOT_TEXTS = 256
_PILOT_S = 8.0
_PILOT_STEP = 16
_PARAMETERS = {
    "sentiment": "windrow.tasks.classification:ClassificationParameters",
    "summarise": "windrow.tasks.summarise:SummariseParameters",
}


def check_job(job: Job, partition: str | None = None) -> dict[str, Any]:
    """Check all that a run would need; nothing is scored or written.

    Raises:
        WindrowError: The first thing that is wrong.
    """
    check_engine(job.engine)
    check_task(job.task.name)
    model = resolve(job)
    task = build_task(job, model)
    source = open_source(job, partition)
    carried = carried_columns(job, source, task)
    untyped = tuple(f.name for f in carried if pa.types.is_null(f.type))
    check_table(job, task, carried, untyped)
    device = choose_device(job.device)
    return {
        "job": job.name,
        "source": redacted(job.source.path or job.source.hub or "query"),
        "columns": ", ".join(f"{f.name} ({f.type})" for f in carried),
        "task": f"{task.name}: {', '.join(task.columns.names)}",
        "model": f"{model.name} @ {model.revision[:12]}",
        "engine": f"{job.engine}, {choose_precision(job.precision, device)} on {device}",
        "table": job.warehouse.table,
        "partition": partition_of(job, partition),
    }


def plan_job(job: Job, partition: str | None = None) -> dict[str, Any]:
    """Count what a run would do and time a small pilot; its few predictions are thrown away.

    Returns:
        Rows, texts, tokens (estimated from the pilot's), texts per second and seconds.
    """
    manifest = load(job, partition)
    store = Store(job.store_url)
    try:
        pilot = _pilot(job, manifest, store)
    finally:
        store.remove([manifest.ref.folder])
    return {
        "job": job.name,
        "partition": manifest.ref.partition,
        "rows_in": manifest.rows_in,
        "rows_rejected": manifest.rows_rejected,
        "texts_distinct": manifest.texts_distinct,
        "texts_reused": manifest.texts_reused,
        "texts_to_score": manifest.texts_to_score,
        "device": manifest.device,
        "precision": manifest.precision,
        **pilot,
    }


def _pilot(job: Job, manifest: Manifest, store: Store) -> dict[str, Any]:
    """Score a sample spread over all shards for some seconds."""
    left = manifest.texts_to_score
    if not left:
        return {"tokens": 0, "texts_per_s": 0.0, "estimated_s": round(manifest.load_s, 1)}
    model = resolve(job)
    task = build_task(job, model)
    tokens = Tokens(model)
    sample = _sample(store, manifest)
    plan = EnginePlan(manifest.engine, task.head, manifest.device, manifest.precision, task.labels)
    engine = open_first(plan, model, job.engine)
    try:
        scored, read, texts_per_s = _timed(task, engine, tokens, sample)
    finally:
        engine.close()
    return {
        "engine": engine.plan.engine,
        "tokens": round(read / scored * left),
        "texts_per_s": round(texts_per_s, 1),
        "estimated_s": round(left / texts_per_s + manifest.load_s, 1),
    }


def _timed(task: Task, engine: Engine, tokens: Tokens, sample: list[str]) -> tuple[int, int, float]:
    """Score a sample in growing steps, for some seconds; return texts and tokens scored, and texts per second.

    The first step warms up, so its time counts only if there is no other.
    """
    began, done, read, step = time.monotonic(), 0, 0, _PILOT_STEP
    warm_at, warm_done = began, 0
    while done < len(sample) and time.monotonic() - began < _PILOT_S:
        part = sample[done : done + step]
        read += int(task.score(task.prepare(part, tokens), engine, tokens).tokens.sum())
        if done == 0 and len(part) < len(sample):
            warm_at, warm_done = time.monotonic(), len(part)
        done, step = done + len(part), step * 2
    if done == warm_done:
        warm_at, warm_done = began, 0
    return done, read, (done - warm_done) / (time.monotonic() - warm_at)


def _sample(store: Store, manifest: Manifest) -> list[str]:
    texts: list[str] = []
    step = max(1, len(manifest.shards) // 8)
    chosen = manifest.shards[::step][:8]
    for shard in chosen:
        with store.opened(f"{manifest.ref.folder}/{shard.name}") as file:
            column = pa.ipc.open_file(file).read_all()["windrow_text"]
        every = max(1, shard.texts * len(chosen) // _PILOT_TEXTS)
        texts += column.take(pa.array(range(0, shard.texts, every))).to_pylist()
    return texts


def explain_row(job: Job, key: list[str]) -> dict[str, Any]:
    """Find the published and rejected rows of a key, with the ledger row that made each.

    Raises:
        JobError: The key has another number of parts, or no row has it.
    """
    columns = job.source.key
    if len(key) != len(columns):
        raise JobError(
            f"The key has {len(columns)} columns ({', '.join(columns)}), but {len(key)} values were given.",
            "give --key once for each.",
        )
    where = " AND ".join(
        'CAST(t."' + name.replace('"', '""').replace("{", "{{").replace("}", "}}") + '" AS VARCHAR) = ?'
        for name in columns
    )
    ledger = "l.started_at, l.finished_at, l.revision, l.engine, l.device, l.precision, l.task"
    found = {}
    with open_warehouse(job, writes=False) as warehouse:
        for part in ("table", "rejects"):
            joined = f"{{{part}}} t LEFT JOIN {{ledger}} l ON l.run_id = t.windrow_run_id"
            query = f"SELECT t.*, {ledger} FROM {joined} WHERE {where}"
            found["rows" if part == "table" else "rejects"] = warehouse.read(query, list(key)).to_pylist()
    if not found["rows"] and not found["rejects"]:
        raise JobError(
            f"No row of {job.warehouse.table} has the key {', '.join(key)}.", "check the key; it is compared as text."
        )
    return {"job": job.name, "table": job.warehouse.table, **found}


def bundled_models() -> list[dict[str, Any]]:
    """List the bundled models and check their bytes."""
    listed = []
    for bundled in BUNDLED.values():
        try:
            base_folder()
            bundled.adapter_folder()
            state = "verified"
        except ModelError as error:
            state = error.problem
        listed.append(
            {
                "model": bundled.name,
                "task": bundled.task,
                "about": bundled.about,
                "licence": bundled.licence,
                "bytes": state,
            }
        )
    return listed


def job_schema(task: str | None = None) -> dict[str, Any]:
    """Return the JSON schema of a job file, or of one task's parameters."""
    from importlib import import_module

    if task:
        check_task(task)
        module, _, name = _PARAMETERS[task].partition(":")
        parameters: dict[str, Any] = getattr(import_module(module), name).model_json_schema()
        return parameters
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Windrow job",
        **_without_folder(Job.model_json_schema()),
    }


def _without_folder(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not for people to set, and let a task be a name alone and columns be single."""
    schema["properties"].pop("folder")
    schema["properties"]["task"] = {"anyOf": [{"type": "string"}, schema["properties"]["task"]]}
    source = schema["$defs"]["Source"]["properties"]
    for name in ("text", "key", "keep"):
        source[name] = {"anyOf": [{"type": "string"}, source[name]], "description": source[name].get("description", "")}
    return schema
