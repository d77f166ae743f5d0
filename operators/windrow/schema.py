"""Names and types of the columns that a run adds, and the check that none of them clash."""

from __future__ import annotations

import pyarrow as pa

from windrow.errors import JobError
from windrow.job import Job

__all__ = ["HASH", "RUN_COLUMNS", "rejects_schema", "table_schema"]

HASH = pa.binary(16)
"""Text hash: the first 128 bits of SHA-256 over the UTF-8 text."""

RUN_COLUMNS = pa.schema(
    [
        ("windrow_partition", pa.string()),
        ("windrow_run_id", pa.string()),
        ("windrow_model", pa.string()),
        ("windrow_fingerprint", pa.string()),
        ("windrow_tokens", pa.int32()),
        ("windrow_truncated", pa.bool_()),
        ("windrow_scored_at", pa.timestamp("us", tz="UTC")),
    ]
)


_REJECT_COLUMNS = pa.schema(
    [
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("windrow_partition", pa.string()),
        ("windrow_run_id", pa.string()),
        ("rejected_at", pa.timestamp("us", tz="UTC")),
    ]
)

_CARRIED = "Carried from the source unchanged."
_TASK_COLUMNS = {
    "label": "The most likely label",
    "score": "Probability of the label, 0 to 1",
    "summary": "Summary of the text",
    "translation": "Translation of the text",
    "output": "What the model wrote",
    "embedding": "Vector of the text",
    "entities": "Entities of the text, with their places and scores",
}
_RUN_COMMENTS = {
    "windrow_partition": "Slice of the table that one run replaces, by default its data interval.",
    "windrow_run_id": "Run that wrote the row; run_id in windrow_runs.",
    "windrow_model": "Model that made the row.",
    "windrow_fingerprint": "Hash over weights, tokenizer, task parameters and numerics: equal ones give equal rows.",
    "windrow_tokens": "Tokens that the model read.",
    "windrow_truncated": "Whether the text was cut before the model read it.",
    "windrow_scored_at": "When the prediction was made, perhaps by an earlier run.",
    "reason": "Short code of why there is no prediction.",
    "detail": "The reason in words.",
    "rejected_at": "When the row was set aside.",
}


def table_schema(job: Job, carried: pa.Schema, task_columns: pa.Schema) -> pa.Schema:
    """Return the schema of the job's table: key, kept, task columns, run columns.

    Args:
        carried: Key and kept columns, with the types that the source gives them.
        task_columns: Columns that the task adds.

    Raises:
        JobError: A key or kept column has the name of a column that Windrow adds, or differs from
            another only by case.
    """
    ours = {*task_columns.names, *RUN_COLUMNS.names}
    seen: dict[str, str] = {}
    for name in carried.names:
        is_key = name in job.source.key
        part = "key" if is_key else "keep"
        folded = name.lower()
        if folded in ours or folded.startswith("windrow_") or (is_key and folded in _REJECT_COLUMNS.names):
            raise JobError(
                f"Column {name!r} in source.{part} has the name of a column that task {job.task.name!r} adds.",
                f"rename {name!r} in the source (a query can: SELECT {name} AS source_{name}), or leave it out.",
            )
        if folded in seen:
            raise JobError(
                f"Columns {seen[folded]!r} and {name!r} differ only by case, which most warehouses ignore.",
                f"rename {name!r} in the source, or leave it out.",
            )
        seen[folded] = name
    made = f"Made by task {job.task.name} with model {job.model}."
    parts = [
        *(_told(f, "Key of the row in the source." if f.name in job.source.key else _CARRIED) for f in carried),
        *(_told(f, f"{_TASK_COLUMNS.get(f.name, 'Output')}. {made}") for f in task_columns),
        *(_told(f, _RUN_COMMENTS[f.name]) for f in RUN_COLUMNS),
    ]
    return pa.schema(parts, metadata={"comment": f"Written by Windrow, job {job.name}: one row a row of the source."})


def rejects_schema(keys: pa.Schema) -> pa.Schema:
    """Return the schema of ``<table>__rejects``: key columns and the reason."""
    parts = [
        *(_told(f, "Key of the row in the source; null where it cannot be told.") for f in keys),
        *(_told(f, _RUN_COMMENTS[f.name]) for f in _REJECT_COLUMNS),
    ]
    return pa.schema(parts, metadata={"comment": "Written by Windrow: rows of the source that have no prediction."})


def _told(field: pa.Field, comment: str) -> pa.Field:
    return field.with_metadata({"comment": comment})
