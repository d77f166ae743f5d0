"""A whole job in one task: load, infer, publish; and presets that need no more than a source and a warehouse."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from windrow.airflow.deadlines import LaneWatch
from windrow.airflow.jobs import JobLike
from windrow.airflow.outlets import add_assets
from windrow.airflow.step import Step, ref_of
from windrow.airflow.telling import LaneProgress
from windrow.errors import JobError
from windrow.job import Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import BaseNotifier, Context

    from windrow.store import RunRef

__all__ = ["JOB_FIELDS", "ScoreOperator", "SentimentOperator", "SummariseOperator", "job_name"]

JOB_FIELDS = tuple(name for name in Job.model_fields if name not in {"folder", "dag"})


class ScoreOperator(Step):
    """Load, infer and publish in one task, with one model in memory. Returns the receipt.

    For jobs that one worker does in good time: there are no lanes, and a retry reads the source again (it
    scores only what has no prediction yet). Source and model are inlets, the table is an outlet. Where a quality
    gate of the job asks a person, the task waits as publish does, and approval publishes the run that was asked
    about, without reading the source again. A retry after that makes a run anew, and so asks anew.

    Args:
        job: As in `windrow.airflow.LoadOperator`.
        partition: Template of the partition that the task owns; see `windrow.airflow.default_partition`.
        partitioned: As in `windrow.airflow.PublishOperator`.
        on_late: As in `windrow.airflow.InferOperator`.
        approvers: As in `windrow.airflow.PublishOperator`.
        notifiers: As in `windrow.airflow.PublishOperator`.
    """

    template_fields: Collection[str] = ("job", "partition", "approvers")

    def __init__(
        self,
        *,
        job: JobLike,
        partition: str | None = None,
        partitioned: bool = False,
        on_late: Callable[[Any], Any] | None = None,
        approvers: Sequence[str] = (),
        notifiers: Sequence[BaseNotifier] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(job=job, **kwargs)
        self.partition = partition
        self.partitioned = partitioned
        self.on_late = on_late
        self.approvers = approvers
        self.notifiers = notifiers
        add_assets(self, self.job)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the job for its partition; return the receipt."""
        with self._working(context) as job:
            return self._published(job, self._scored(job, context), context)

    def execute_complete(self, context: Context, event: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
        """Go on with a person's answer: publish the run that was asked about, or fail."""
        with self._working(context) as job:
            from windrow.airflow.approval import keep_answer

            keep_answer(job, ref_of(run), event)
            return self._published(job, ref_of(run), context)

    def _scored(self, job: Job, context: Context) -> RunRef:
        from windrow.infer import infer
        from windrow.load import load

        pace = LaneProgress(context)
        manifest = load(job, self._partition_of(self.partition, job, context))
        infer(job, manifest.ref, progress=LaneWatch(context, 1, self.on_late), pace=pace)
        pace.clear()
        return manifest.ref

    def _published(self, job: Job, ref: RunRef, context: Context) -> dict[str, Any]:
        from windrow.airflow.approval import publish_or_ask

        receipt = publish_or_ask(self, job, ref, context, **self._kept(ref))
        lane = {"texts": receipt["texts_scored"], "tokens": receipt["tokens"], "seconds": receipt["seconds"]["infer"]}
        self.tell_scored(context, job, lane)
        self._tell(context, job, receipt, self.partitioned)
        return receipt

    def _kept(self, ref: RunRef) -> dict[str, Any]:
        """Return what `execute_complete` needs beside the answer."""
        return {"run": ref.to_dict()}


class _Preset(ScoreOperator):
    """A `ScoreOperator` whose job is given by its fields, most of which have a default."""

    defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, *, task_id: str, source: Any, warehouse: Any, **kwargs: Any) -> None:
        if "job" in kwargs:
            raise JobError(f"{type(self).__name__} takes no job.", "give source and warehouse, or use ScoreOperator.")
        fields = {name: kwargs.pop(name) for name in JOB_FIELDS if name in kwargs}
        given = {"name": job_name(task_id), **self.defaults, **fields, "source": source, "warehouse": warehouse}
        super().__init__(task_id=task_id, job=given, **kwargs)


class SentimentOperator(_Preset):
    """The sentiment of each text: ``label`` and ``score``, by the bundled model unless another is named.

    Args:
        task_id: Also the job's name, unless ``name`` is given.
        source: As in a job: where rows come from, their text and key.
        warehouse: As in a job: where predictions go.
        partition: Template of the partition that the task owns; see `windrow.airflow.default_partition`.
        **kwargs: Other fields of the job (``model``, ``limits``, ``task`` …) and of `ScoreOperator`.

    All fields of the job are templates.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"task": "sentiment", "model": "windrow/minilm-sentiment"}


class SummariseOperator(_Preset):
    """A summary of each text in its own sentences, by the bundled model unless another is named.

    Args:
        task_id: Also the job's name, unless ``name`` is given.
        source: As in a job: where rows come from, their text and key.
        warehouse: As in a job: where predictions go.
        partition: Template of the partition that the task owns; see `windrow.airflow.default_partition`.
        **kwargs: Other fields of the job (``model``, ``limits``, ``task`` …) and of `ScoreOperator`.

    All fields of the job are templates.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"task": "summarise", "model": "windrow/minilm-extractive"}


def job_name(task_id: str) -> str:
    """Return a job's name made from a task's id.

    >>> job_name("reviews.Score-All")
    'reviews_score_all'
    """
    return re.sub(r"[^a-z0-9_]", "_", task_id.lower())
