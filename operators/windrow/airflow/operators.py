"""load, infer and publish as Airflow tasks. They only translate: the work is in the core."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator, XComArg
from airflow.sdk.exceptions import AirflowFailException

from windrow.airflow.jobs import JobLike, read_job, templated
from windrow.errors import Interrupted, JobError, WindrowError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from windrow.job import Job
    from windrow.store import RunRef

__all__ = ["InferOperator", "LoadOperator", "PublishOperator", "lane_count"]

_EVENT = ("partition", "run_id", "rows_in", "rows_published", "rows_rejected", "texts_scored", "texts_reused", "labels")


class _Step(BaseOperator):
    """One step of a job.

    Args:
        job: Path of a job file (relative to the Dag file), a `windrow.Job`, or its fields as a mapping;
            every text in it may be a template. Relative paths in the fields start at the Dag file.
    """

    template_fields: Collection[str] = ("job",)
    ui_color = "#f4e8c8"

    def __init__(self, *, job: JobLike, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job = templated(job)

    def on_kill(self) -> None:
        """Stop where the step is; what has been scored is kept, and a retry goes on from there."""
        raise Interrupted("The task was asked to stop; nothing was half published.", "run it again: it resumes.")

    @contextmanager
    def _working(self, context: Context) -> Iterator[Job]:
        """Give the job, with Airflow's connections; an error that trying again cannot mend fails the task at once."""
        from windrow.airflow.connections import airflow_url
        from windrow.connections import resolving_with

        try:
            with resolving_with(airflow_url):
                yield read_job(self.job, Path(context["dag"].fileloc).absolute().parent)
        except WindrowError as error:
            if error.retryable:
                raise
            raise AirflowFailException(str(error)) from error

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render, then hide the secrets of urls before the fields are shown or logged."""
        from windrow.airflow.connections import mask_secrets

        super()._do_render_template_fields(*args, **kwargs)
        mask_secrets(self.job)


class LoadOperator(_Step):
    """Read the source of one partition, and stage the texts that have no prediction yet.

    Returns lanes for `InferOperator`, each a small reference: at most `lanes`, never more than there are
    shards, none if nothing is to be scored. XCom ``run`` holds the run's reference and its counts.

    Args:
        partition: Template of the partition that the run owns. Unless given, or where it renders to
            nothing: see `windrow.airflow.default_partition`.
        lanes: Most tasks among which the shards are dealt.
    """

    template_fields: Collection[str] = ("job", "partition", "lanes")

    def __init__(self, *, partition: str | None = None, lanes: int | str = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.partition = partition
        self.lanes = lanes

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Load the partition; return its lanes."""
        with self._working(context) as job:
            from windrow.load import load

            most = lane_count(self.lanes)
            manifest = load(job, self._partition_of(job, context))
        counts = ("rows_in", "rows_rejected", "texts_distinct", "texts_reused", "texts_to_score")
        run = {**manifest.ref.to_dict(), **{name: getattr(manifest, name) for name in counts}}
        context["ti"].xcom_push(key="run", value=run)
        self.log.info("Loaded %s", run)
        count = min(most, len(manifest.shards))
        return [{**manifest.ref.to_dict(), "lane": lane, "lanes": count} for lane in range(count)]

    def _partition_of(self, job: Job, context: Context) -> str:
        """Return the partition named by the author, or the default one."""
        from windrow.airflow.partitions import default_partition
        from windrow.sources import needs_partition

        if self.partition not in {None, "", "None"}:
            return str(self.partition)
        return default_partition(context["dag_run"], context["dag"], strict=needs_partition(job))


class InferOperator(_Step):
    """Score the texts of one lane that have no prediction yet; a retry goes on where it stopped.

    Returns the lane's counts.

    Args:
        lane: One of the lanes that `LoadOperator` returns; map over them with ``expand``.
    """

    template_fields: Collection[str] = ("job", "lane")

    def __init__(self, *, lane: Mapping[str, Any] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lane: Any = lane

    def execute(self, context: Context) -> dict[str, Any]:
        """Score the lane; return its counts."""
        with self._working(context) as job:
            from windrow.infer import infer

            lane = self.lane
            return asdict(infer(job, _ref(lane), lane=lane["lane"], lanes=lane["lanes"]))


class PublishOperator(_Step):
    """Replace the run's partition in the warehouse.

    Returns the receipt. Its counts are the ``extra`` of the events of all asset outlets
    (see `windrow.airflow.table_asset`).

    Args:
        run: XCom ``run`` of `LoadOperator`: ``load.output["run"]``.
    """

    template_fields: Collection[str] = ("job", "run")

    def __init__(self, *, run: Mapping[str, Any] | XComArg, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.run: Any = run

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish the run; return its receipt."""
        with self._working(context) as job:
            from windrow.publish import publish

            receipt = publish(job, _ref(self.run)).to_dict()
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                context["outlet_events"][outlet].extra.update({name: receipt[name] for name in _EVENT})
        return receipt


def _ref(fields: Any) -> RunRef:
    """Return the run's reference from an XCom."""
    from windrow.store import RunRef

    try:
        return RunRef(fields["job"], fields["partition"], fields["run_id"])
    except (KeyError, TypeError):
        raise JobError(
            "The task was given no reference of a run.",
            "pass what LoadOperator gives: its output to `lane`, output['run'] to `run`.",
        ) from None


def lane_count(given: int | str) -> int:
    """Return a rendered number of lanes.

    Raises:
        JobError: It is no whole number of at least 1.
    """
    try:
        count = int(given)
    except (TypeError, ValueError):
        count = 0
    if count < 1:
        raise JobError(f"lanes is {given!r}.", "give a whole number of at least 1.")
    return count
