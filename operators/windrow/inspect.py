"""Looking without doing: check, plan, models, schema."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pyarrow as pa

from windrow.engines import check_engine
from windrow.engines.device import choose_device, choose_precision
from windrow.errors import ModelError
from windrow.fitting import carried_columns, check_table
from windrow.incremental import open_rows
from windrow.job import Job, redacted
from windrow.load import load, partition_of
from windrow.models import resolve
from windrow.models.bundled import BUNDLED, base_folder
from windrow.pilot import estimate, hours_allowed
from windrow.pilot.rehearsal import measured
from windrow.quality.measure import check_gates
from windrow.receipt import utc_now
from windrow.store import Store
from windrow.tasks import build_task, check_task

__all__ = ["bundled_models", "check_job", "job_schema", "plan_job"]

_PARAMETERS = {
    "sentiment": "windrow.tasks.classification:ClassificationParameters",
    "summarise": "windrow.tasks.summarise:SummariseParameters",
    "classify": "windrow.tasks.classify:ClassifyParameters",
    "generate": "windrow.tasks.generate:GenerateParameters",
    "embed": "windrow.tasks.embed:EmbedParameters",
    "entities": "windrow.tasks.entities:EntitiesParameters",
    "image_classify": "windrow.tasks.image_classify:ImageParameters",
    "translate": "windrow.tasks.translate:TranslateParameters",
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
    check_gates(job.quality, task)
    source = open_rows(job, partition)
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
        Rows, texts, tokens (estimated from the pilot's), rows and texts per second, seconds with their 95 % interval,
        when a run that begins now would be done, the choice of the engine with what was measured, and the cost where
        the job has a price.
    """
    began = time.monotonic()
    manifest = load(job, partition, spends=False)
    before_s = time.monotonic() - began - manifest.pilot_s  # a run finds the pilot done
    store = Store(job.store_url)
    try:
        timing, tokens, opened_s = measured(job, manifest, store) if manifest.texts_to_score else (None, 0, 0.0)
    finally:
        store.remove([manifest.ref.folder])
    found = estimate(job, tokens, manifest.rows_in, timing)
    before_s += opened_s
    facts: dict[str, Any] = {
        "job": job.name,
        "partition": manifest.ref.partition,
        "since": manifest.since,
        "rows_in": manifest.rows_in,
        "rows_rejected": manifest.rows_rejected,
        "texts_distinct": manifest.texts_distinct,
        "texts_reused": manifest.texts_reused,
        "texts_to_score": manifest.texts_to_score,
        "device": manifest.device,
        "precision": manifest.precision,
        "engine": manifest.engine,
        "tokens": tokens,
        "texts_per_s": round(timing.texts_per_s, 1) if timing else 0.0,
        "rows_per_s": round(manifest.rows_in / max(1e-9, before_s + found.seconds), 1),
        "estimated_s": round(before_s + found.seconds, 1),
        "interval_s": [round(before_s + found.low_s, 1), round(before_s + found.high_s, 1)],
        "finished_at": (utc_now() + timedelta(seconds=before_s + found.seconds)).isoformat(timespec="seconds"),
        "choice": manifest.choice,
    }
    if job.price_per_hour is not None:
        ends = (before_s + found.seconds, before_s + found.low_s, before_s + found.high_s)
        cost, *interval = (round(found.cost(end) or 0.0, 4) for end in ends)
        facts |= {"cost": cost, "cost_interval": interval}
    allowed = hours_allowed(job.limits, job.price_per_hour)
    if allowed is not None:
        facts["within_limits"] = found.seconds / 3600 <= allowed
    return facts


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
