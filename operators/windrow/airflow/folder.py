"""Job files in a folder, each a Dag; a bad one is an import error of its own, and harms no other."""

from __future__ import annotations

import inspect
import os
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow.sdk import DAG, Asset, AssetAll

from windrow.airflow.assets import asset_of, watched_model
from windrow.airflow.deadlines import deadline
from windrow.airflow.group import batch_inference
from windrow.airflow.import_errors import tell_airflow
from windrow.errors import JobError, WindrowError, nearest
from windrow.job import Job
from windrow.schedule import Schedule

__all__ = ["dags_from"]

_PLACEMENT = ("pool", "pool_slots", "lane_memory_gib", "queue")


def dags_from(folder: str | os.PathLike[str], **defaults: Any) -> dict[str, DAG]:
    """Make a Dag of every job file in a folder and those below it: ``*.yaml`` and ``*.yml``.

    The job's name is the Dag's id, and its section ``dag`` says when it runs. A file that is no sound job
    becomes an import error under its own path; the Dags of the others are there all the same.

    Args:
        folder: Relative to the Dag file that calls this.
        **defaults: Fields of the section ``dag`` for the files that do not say otherwise
            (``schedule="@daily", start_date=…, lanes=2``).

    Returns:
        The Dags by their ids; Airflow finds them by itself.

    Raises:
        JobError: The folder is missing, a default is unknown, or a file is bad and nobody but the caller can be
            told, since this is no Dag file that Airflow is reading.
    """
    frame = inspect.currentframe()
    caller = Path(frame.f_back.f_code.co_filename if frame and frame.f_back else "").absolute()
    root = caller.parent / Path(folder).expanduser()
    if not root.is_dir():
        raise JobError(f"Folder {str(folder)!r} does not exist beside {caller.name}.", "name a folder of job files.")
    _check_defaults(defaults)
    jobs, problems = _read(root)
    dags: dict[str, DAG] = {}
    for file, job in jobs.items():
        try:
            dags[job.name] = _dag(file, job, jobs, defaults, caller)
        except Exception as error:  # what Airflow makes of a schedule is its own
            problems[file] = _sentence(error)
    if problems and not tell_airflow(problems):
        listed = "\n".join(f"{file.relative_to(root)}: {text}" for file, text in sorted(problems.items()))
        raise JobError(f"{len(problems)} job files in {str(folder)!r} are bad.\n{listed}", "mend or remove them.")
    return dags


def _read(root: Path) -> tuple[dict[Path, Job], dict[Path, str]]:
    """Return the jobs of all files, and what is wrong with the others."""
    jobs: dict[Path, Job] = {}
    problems: dict[Path, str] = {}
    names: dict[str, Path] = {}
    for file in sorted((*root.rglob("*.yaml"), *root.rglob("*.yml"))):
        try:
            job = Job.from_file(file)
            if job.name in names:
                other = names[job.name].relative_to(root)
                raise JobError(f"Job {job.name!r} is described in {other} already.", "give one of them another name.")
        except Exception as error:  # also what a reader of YAML raises on broken values
            problems[file] = _sentence(error)
        else:
            jobs[file], names[job.name] = job, file
    return jobs, problems


def _dag(file: Path, job: Job, jobs: dict[Path, Job], defaults: dict[str, Any], caller: Path) -> DAG:
    """Return the Dag of one job file."""
    told = job.dag.model_dump(exclude_unset=True) if job.dag else {}
    plan = Schedule(**{**defaults, **told})
    placement = {name: getattr(plan, name) for name in _PLACEMENT if getattr(plan, name) is not None}
    path = os.path.relpath(file, caller.parent)
    dag = DAG(
        job.name,
        description=f"Made of {path}",
        schedule=_schedule(plan, job, jobs),
        start_date=_moment(plan.start_date, _zone(plan.timezone)),
        catchup=plan.catchup,
        max_active_runs=plan.max_active_runs,
        tags=list(plan.tags),
        default_args={"retries": plan.retries, "owner": plan.owner},
        deadline=deadline(plan.deadline) if plan.deadline else None,
    )
    dag.fileloc = str(caller)
    with dag:
        batch_inference(
            job.name,
            job=path,
            partition=plan.partition,
            lanes=plan.lanes,
            partitioned=plan.partitioned,
            approvers=list(plan.approvers),
            **placement,
        )
    dag.validate()  # type: ignore[no-untyped-call]
    return dag


def _schedule(plan: Schedule, job: Job, jobs: dict[Path, Job]) -> Any:
    """Return what Airflow schedules the Dag by: a cron, assets, or both."""
    waits: list[Any] = [_awaited(name, jobs) for name in plan.after]
    condition: Any = AssetAll(*waits) if waits else None
    if plan.on_model_update:
        model = watched_model(job.model)
        condition = condition | model if condition else AssetAll(model)
    timetable: Any = None
    if plan.schedule:
        timetable = _cron(plan)
    if timetable and condition:
        from windrow.airflow.versions import AssetOrTimeSchedule

        return AssetOrTimeSchedule(timetable=timetable, assets=condition)
    return timetable or condition


def _cron(plan: Schedule) -> Any:
    from windrow.airflow.versions import AirflowTimetableInvalid, CronDataIntervalTimetable, CronTriggerTimetable

    kind: Any = CronDataIntervalTimetable if plan.interval else CronTriggerTimetable
    timetable = kind(plan.schedule, timezone=plan.timezone)
    try:
        timetable.validate()
    except AirflowTimetableInvalid as error:
        raise JobError(
            f"Field 'dag.schedule': {plan.schedule!r} is no cron text: {str(error).rstrip('.')}.",
            "use five fields, such as '0 6 * * *', or @hourly, @daily, @weekly, @monthly.",
        ) from None
    return timetable


def _awaited(name: str, jobs: dict[Path, Job]) -> Asset:
    """Return the table of another job of the folder, or an asset by its name."""
    if "://" in name:
        return Asset(name=name, uri=name)
    tables = {job.name: job.warehouse.model_dump() for job in jobs.values()}
    if name not in tables:
        raise JobError(
            f"Field 'dag.after': there is no sound job {name!r} in this folder{nearest(name, tables) or '.'}",
            "name a job of the folder, or an asset (windrow://…).",
        )
    return asset_of(tables[name])


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise JobError(
            f"Field 'dag.timezone': there is no time zone {name!r}.", "use a name such as UTC or Europe/Berlin."
        ) from None


def _moment(given: date | datetime | None, zone: ZoneInfo) -> datetime | None:
    if given is None:
        return None
    whole = given if isinstance(given, datetime) else datetime(given.year, given.month, given.day)
    return whole if whole.tzinfo else whole.replace(tzinfo=zone)


def _check_defaults(defaults: dict[str, Any]) -> None:
    known = Schedule.model_fields
    for name in defaults:
        if name not in known:
            hint = nearest(name, known) or "."
            raise JobError(f"dags_from knows no {name!r}{hint}", f"use one of: {', '.join(known)}.")
    Schedule(**defaults)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, WindrowError) else f"{type(error).__name__}: {error}"
