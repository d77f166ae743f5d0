"""What is wrong with a job's fields, as a person reads it."""

from __future__ import annotations

import re
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from windrow.errors import JobError, nearest

__all__ = ["explained"]


def explained(error: ValidationError, job: type[BaseModel]) -> JobError:
    """Turn the first of pydantic's complaints into a sentence with its fix.

    Args:
        error: What pydantic says.
        job: The model that it says it of.
    """
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    steps = [str(step) for step in first["loc"] if not str(step).startswith("function-")]
    field = ".".join(steps) or "job"
    known = _fields_at(job, steps[:-1])
    if first["type"] == "extra_forbidden":
        hint = nearest(steps[-1], known)
        return JobError(f"Unknown field '{field}'{hint or '.'}", f"use one of: {', '.join(sorted(known))}.")
    if first["type"] == "missing":
        return JobError(f"Field '{field}' is missing.", f"add {field} to the job.")
    return JobError(f"Field '{field}': {_sentence(first)}.", _fix(first, field))


def _sentence(detail: ErrorDetails) -> str:
    words = detail["msg"].removeprefix("Value error, ")
    given = detail.get("input")
    shown = f" (found {given!r})" if isinstance(given, str | int | float | bool) else ""
    return (words[0].lower() + words[1:]).rstrip(".") + ("" if "://" in shown else shown)


def _fix(detail: ErrorDetails, field: str) -> str:
    choices = re.findall(r"'([^']+)'", str(detail.get("ctx", {}).get("expected", "")))
    if choices:
        hint = nearest(str(detail.get("input")), choices)
        return f"use one of: {', '.join(choices)}{hint.removesuffix('?') + '?' if hint else '.'}"
    if "pattern" in detail["type"]:
        return "use lower-case letters, digits and underscores only."
    return f"correct {field}; `windrow schema` describes every field."


def _fields_at(job: type[BaseModel], steps: list[str]) -> set[str]:
    """Names of the fields of the nested part that `steps` leads to."""
    inner = job
    for step in steps:
        kind = inner.model_fields[step].annotation if step in inner.model_fields else None
        parts = [part for part in (kind, *get_args(kind)) if isinstance(part, type) and issubclass(part, BaseModel)]
        inner = parts[0] if parts else job
    return {name for name in inner.model_fields if name != "folder"}
