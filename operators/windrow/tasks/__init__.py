"""What to ask of a text: one module a task, behind one seam."""

from __future__ import annotations

import hashlib
import json
from importlib import import_module
from typing import Any

from pydantic import ValidationError

from windrow.errors import JobError, nearest
from windrow.job import Job
from windrow.models.resolve import ResolvedModel
from windrow.tasks.base import Scored, Task, engine_plan

__all__ = ["TASKS", "Scored", "Task", "build_task", "engine_plan", "fingerprint"]

TASKS = {
    "sentiment": "windrow.tasks.classification:Classification",
    "summarise": "windrow.tasks.summarise:summarise",
    "classify": "windrow.tasks.classify:classify",
    "generate": "windrow.tasks.generate:Generate",
    "embed": "windrow.tasks.embed:Embed",
    "entities": "windrow.tasks.entities:Entities",
    "image_classify": "windrow.tasks.image_classify:ImageClassification",
    "translate": "windrow.tasks.translate:Translation",
}
_FILES = {"generate": ("schema",)}
"""Parameters that may name a file, relative to the job's."""


def build_task(job: Job, model: ResolvedModel) -> Task:
    """Make the task that a job names, with its parameters checked.

    Raises:
        JobError: The task or a parameter is not known, or a value is of the wrong type.
        ModelError: The model is of no use for the task.
    """
    name = job.task.name
    check_task(name)
    module, _, maker = TASKS[name].partition(":")
    make: Any = getattr(import_module(module), maker)
    parameters = job.task.parameters
    for file in _FILES.get(name, ()):
        if isinstance(parameters.get(file), str):
            parameters[file] = job.located(parameters[file])
    try:
        task: Task = make(model, **parameters)
    except ValidationError as error:
        raise _explain(name, error) from None
    return task


def check_task(name: str) -> None:
    """Raise a `JobError` if no task has this name."""
    if name not in TASKS:
        raise JobError(f"Unknown task {name!r}{nearest(name, TASKS) or '.'}", f"use one of: {', '.join(TASKS)}.")


def fingerprint(task: Task, model: ResolvedModel, precision: str) -> str:
    """Return the SHA-256 that says which predictions are equal: bytes, task, parameters, numerics, code."""
    facts = {
        "model": model.digest,
        "task": task.name,
        "parameters": task.parameters(),
        "precision": precision,
        "version": task.version,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _explain(task: str, error: ValidationError) -> JobError:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else task
    if first["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return JobError(f"Task {task!r} has no parameter {name!r}.", f"`windrow schema --task {task}` lists them.")
    words = first["msg"].removeprefix("Value error, ")
    return JobError(f"Field 'task.{name}': {words[0].lower()}{words[1:]}.", f"correct task.{name}.")
