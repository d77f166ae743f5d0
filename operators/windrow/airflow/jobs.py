"""A job as a Dag's author gives it: a file, a `Job`, or the same fields as a mapping."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from windrow.job import Job

__all__ = ["JobLike", "read_job", "templated"]

JobLike: TypeAlias = str | Job | Mapping[str, Any]
"""Path of a job file (relative to the Dag file), a `Job`, or its fields."""


def templated(job: JobLike) -> str | dict[str, Any]:
    """Return `job` in a form that Airflow can render and show: a path or plain fields.

    >>> templated({"name": "reviews"})
    {'name': 'reviews'}
    """
    if isinstance(job, Job):
        fields = job.model_dump(mode="json", exclude_defaults=True)
        return {**fields, "folder": job.folder} if job.folder else fields
    return job if isinstance(job, str) else dict(job)


def read_job(job: str | Mapping[str, Any], folder: Path) -> Job:
    """Read a rendered job; relative paths start at `folder`, those of a job file at the file.

    Raises:
        JobError: The file cannot be read, or a field is missing, unknown or of the wrong type.
    """
    if isinstance(job, str):
        return Job.from_file(folder / Path(job).expanduser())
    return Job(**{"folder": str(folder), **job})
