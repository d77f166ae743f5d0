"""load, infer and publish as one group of tasks."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from airflow.sdk import TaskGroup, TriggerRule, XComArg

from windrow.airflow.jobs import JobLike, templated
from windrow.airflow.operators import InferOperator, LoadOperator, PublishOperator
from windrow.airflow.outlets import assets_of
from windrow.errors import JobError, nearest
from windrow.job import Job

__all__ = ["batch_inference"]

_PLACEMENT = ("queue", "pool", "pool_slots", "priority_weight", "executor", "executor_config")
_PEOPLE = ("approvers", "notifiers")
_FIELDS = tuple(name for name in Job.model_fields if name not in {"folder", "dag"})
_HOW = ("lane_memory_gib", "partitioned", "on_late")


def batch_inference(
    group_id: str, *, job: JobLike | None = None, partition: str | None = None, lanes: int | str = 1, **options: Any
) -> TaskGroup:
    """Add a group to the Dag: ``load``, then ``infer`` mapped over a few lanes, then ``publish``.

    The published table is an asset outlet of ``publish`` (see `windrow.airflow.table_asset`), source and
    model are inlets of ``load``. Where nothing is to be scored, ``infer`` is skipped and ``publish`` runs
    all the same.

    Args:
        group_id: Id of the group; also the job's name, unless `job` or ``name`` says otherwise.
        job: Path of a job file (relative to the Dag file), or a `windrow.Job`; or leave it out and
            give the job's fields as keywords.
        partition: Template of the partition that a run owns; see `windrow.airflow.default_partition`.
        lanes: Most infer tasks of one run; each keeps one model in memory.
        **options: Fields of the job (``source, task, model, warehouse, limits …``), all of them
            templates; where infer runs: ``queue, pool, pool_slots, priority_weight, executor,
            executor_config``; ``lane_memory_gib``, the GPU memory of a lane, which then takes as many slots of
            the pool ``gpu``; ``partitioned`` of `PublishOperator` and ``on_late`` of `InferOperator`; and who is
            asked where a quality gate asks: ``approvers, notifiers``.

    Raises:
        JobError: An option is not known, or the job file cannot be read.
    """
    placement = _placement(options)
    people = {name: options.pop(name) for name in _PEOPLE if name in options}
    partitioned, on_late = options.pop("partitioned", False), options.pop("on_late", None)
    _refuse_unknown(options, job)
    given = templated(job if job is not None else {"name": group_id, **options})
    with TaskGroup(group_id=group_id) as group:
        load = LoadOperator(task_id="load", job=given, partition=partition, lanes=lanes)
        inlets, outlets = assets_of(given, Path(load.dag.fileloc).absolute().parent)
        load.add_inlets(inlets)
        infer = InferOperator.partial(
            task_id="infer",
            job=given,
            map_index_template="{{ task.lane['lane'] + 1 }} of {{ task.lane['lanes'] }}",
            on_late=on_late,
            **placement,
        ).expand(lane=load.output)
        publish = PublishOperator(
            task_id="publish",
            job=given,
            run=XComArg(load, key="run"),
            partitioned=partitioned,
            outlets=outlets,
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
            **people,
        )
        infer >> publish
    return group


def _placement(options: dict[str, Any]) -> dict[str, Any]:
    """Take out of the options what says where infer runs; memory becomes slots of a pool."""
    placement = {name: options.pop(name) for name in _PLACEMENT if name in options}
    memory = options.pop("lane_memory_gib", None)
    if memory is not None:
        placement = {"pool": "gpu", "pool_slots": max(1, math.ceil(memory)), **placement}
    return placement


def _refuse_unknown(options: dict[str, Any], job: JobLike | None) -> None:
    """Refuse keywords that are no field of a job, and fields beside a whole job."""
    if job is not None and options:
        raise JobError(
            f"Both `job` and {next(iter(options))!r} are given.", "put the field into the job, or leave `job` out."
        )
    for name in options:
        if name not in _FIELDS:
            known = (*_FIELDS, "job", "partition", "lanes", *_PLACEMENT, *_PEOPLE, *_HOW)
            raise JobError(
                f"batch_inference knows no {name!r}{nearest(name, known) or '.'}", f"use one of: {', '.join(known)}."
            )
