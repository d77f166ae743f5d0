"""What a Dag's tasks need of an Airflow before they can run: pools, queues, connections, devices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windrow.airflow.jobs import read_job
from windrow.errors import JobError, WindrowError, nearest
from windrow.job import Job

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["Missing", "lane_slots", "missing_for", "preflight"]

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Missing:
    """Something that a task needs and that is not there.

    Attributes:
        task: Id of the task.
        kind: ``pool``, ``queue``, ``connection``, ``device`` or ``job``.
        name: Its name.
        problem: What is wrong, in a sentence.
        fix: The command or the change that mends it.
    """

    task: str
    kind: str
    name: str
    problem: str
    fix: str


def preflight(dag: DAG) -> list[Missing]:
    """Return what the Dag's tasks need and do not find, each with the command that creates it.

    A task in a pool that is not there, or in a queue that no worker listens on, would wait forever without an
    error. Call it where Airflow's database can be reached (``windrow preflight DAG_ID`` does), since tasks cannot.

    Pools and connections are looked up; queues, where Celery's workers can be asked; devices of this
    machine, for tasks that no queue sends elsewhere.
    """
    found = [missing for task in dag.tasks for missing in _of_task(task, Path(dag.fileloc).absolute().parent)]
    return list(dict.fromkeys(found))


def missing_for(dag_id: str, dags: Path | None = None) -> list[dict[str, str]]:
    """Return `preflight` of a Dag by its id, as plain fields.

    Args:
        dag_id: Id of the Dag.
        dags: Folder or file to read it from; Airflow's own Dags folder unless given.

    Raises:
        JobError: There is no such Dag, or Airflow's database is not there.
    """
    from windrow.airflow.compat import dag_bag

    bag = dag_bag(str(dags) if dags else None)
    if dag_id not in bag.dags:
        broken = "; ".join(f"{path}: {text.strip().splitlines()[-1]}" for path, text in bag.import_errors.items())
        hint = nearest(dag_id, bag.dags) or (f"; some files are broken: {broken}" if broken else ".")
        raise JobError(f"There is no Dag {dag_id!r} in {bag.dag_folder}{hint}", "correct the id, or name --dags.")
    return [asdict(missing) for missing in preflight(bag.dags[dag_id])]


def lane_slots(job: Job) -> int:
    """Return the slots of a lane in a pool that has one slot a GiB of GPU memory: weights and room for activations.

    Raises:
        WindrowError: The model cannot be found.
    """
    from windrow.engines.device import choose_device, choose_precision
    from windrow.engines.spread import FOR_WEIGHTS, weight_bytes
    from windrow.models import resolve

    precision = choose_precision(job.precision, choose_device(job.device))
    return max(1, math.ceil(weight_bytes(resolve(job), precision) / FOR_WEIGHTS / _GIB))


def _of_task(task: Any, folder: Path) -> Iterator[Missing]:
    yield from _pool(task)
    yield from _queue(task)
    job = _job_of(task, folder)
    if isinstance(job, Missing):
        yield job
    elif job:
        yield from _connections(task, job)
        yield from _device(task, job)


def _pool(task: Any) -> Iterator[Missing]:
    pools = _pools()
    slots = int(task.pool_slots)
    name = str(task.pool)
    if name not in pools:
        problem = f"Pool {name!r} does not exist, so the task would wait forever."
        fix = f"airflow pools set {name} {max(slots, 1)} 'one slot a GiB of GPU memory, or one a device'"
        yield Missing(task.task_id, "pool", name, problem, fix)
    elif 0 <= pools[name] < slots:
        problem = f"Pool {name!r} has {pools[name]:g} slots, and the task takes {slots}, so it would wait forever."
        yield Missing(task.task_id, "pool", name, problem, f"airflow pools set {name} {slots} 'slots for one lane'")


def _pools() -> dict[str, float]:
    """Return the slots of all pools.

    Raises:
        JobError: Airflow's database cannot be read.
    """
    from airflow.models.pool import Pool
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return {str(pool.pool): float(pool.slots) for pool in Pool.get_pools()}
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise JobError(
            f"Airflow's database cannot be read: {reason}.",
            "run this where Airflow's own commands work: `airflow pools list`.",
        ) from None


def _queue(task: Any) -> Iterator[Missing]:
    from airflow.sdk.configuration import conf

    queue, default = str(task.queue), conf.get("operators", "default_queue")
    executors = [name for name in (task.executor, conf.get("core", "executor")) if name][:1]
    if "CeleryExecutor" in str(executors):
        heard = _celery_queues()
        if heard is not None and queue not in heard:
            problem = f"No worker listens on queue {queue!r}, so the task would wait forever."
            yield Missing(task.task_id, "queue", queue, problem, f"airflow celery worker --queues {queue}")
    elif "LocalExecutor" in str(executors) and queue != default:
        problem = f"The LocalExecutor has no queues: {queue!r} is not minded, and the task runs beside the scheduler."
        yield Missing(task.task_id, "queue", queue, problem, "leave `queue` out, or use the CeleryExecutor")


def _celery_queues() -> set[str] | None:
    """Return the queues that Celery's workers listen on; None where they cannot be asked."""
    try:
        from airflow.providers.celery.executors.celery_executor_utils import app
    except ImportError:
        return None
    try:
        answers = app.control.inspect(timeout=2.0).active_queues()
    except OSError:
        return None
    return {queue["name"] for queues in (answers or {}).values() for queue in queues}


def _job_of(task: Any, folder: Path) -> Job | Missing | None:
    """Return the job of a Windrow task; None for other tasks, and where a template hides it."""
    from windrow.airflow.step import Step

    if not issubclass(_kind(task), Step):
        return None
    given = task.partial_kwargs.get("job") if _is_mapped(task) else task.job
    if hasattr(task, "with_place"):
        given = task.with_place("-")
    if given is None or "{{" in str(given):
        return None
    try:
        return read_job(given, folder)
    except WindrowError as error:
        return Missing(task.task_id, "job", str(given)[:80], error.problem, error.fix)


def _is_mapped(task: Any) -> bool:
    return hasattr(task, "operator_class") and hasattr(task, "partial_kwargs")


def _kind(task: Any) -> type:
    """Return the class of a task's operator, mapped or not."""
    kind: type = task.operator_class if _is_mapped(task) else type(task)
    return kind


def _connections(task: Any, job: Job) -> Iterator[Missing]:
    from windrow.airflow.connections import add_command, airflow_hub, airflow_url

    asked = (
        (job.source.connection, airflow_url, "connection"),
        (job.warehouse.connection, airflow_url, "connection"),
        (job.hub_connection, airflow_hub, "hub_connection"),
    )
    for name, find, field in asked:
        if not name:
            continue
        try:
            find(name)
        except WindrowError as error:
            yield Missing(task.task_id, "connection", name, error.problem, add_command(name, field))


def _device(task: Any, job: Job) -> Iterator[Missing]:
    """Look for the device of a task that scores; where load is the same task, it may be anywhere."""
    from airflow.sdk.configuration import conf

    from windrow.airflow.operators import InferOperator
    from windrow.airflow.score import ScoreOperator

    if not issubclass(_kind(task), InferOperator | ScoreOperator):
        return
    is_alone = issubclass(_kind(task), InferOperator)
    is_elsewhere = str(task.queue) != conf.get("operators", "default_queue") or bool(task.executor_config)
    if is_elsewhere and is_alone and job.device == "auto":
        problem = "Infer runs on another machine than load, and `device: auto` means what load's machine has."
        yield Missing(task.task_id, "device", "auto", problem, "write `device: cuda` (or what infer's machine has)")
    elif not is_elsewhere and job.device.startswith("cuda") and not _has_cuda():
        problem = f"Device {job.device!r} is not on this machine, and no queue sends the task to another."
        yield Missing(task.task_id, "device", job.device, problem, "give `queue`, or write `device: auto` into the job")


def _has_cuda() -> bool:
    import torch

    return bool(torch.cuda.is_available())
