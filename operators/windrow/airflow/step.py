"""What every task of a job has in common: its connections, how it ends, what it tells."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator

from windrow.airflow import telling
from windrow.airflow.compat import AirflowFailException
from windrow.airflow.events import describe
from windrow.airflow.jobs import JobLike, read_job, templated
from windrow.airflow.links import RunLink, TableLink
from windrow.airflow.observed import Observed
from windrow.airflow.retry import with_retry_policy
from windrow.errors import Interrupted, JobError, WindrowError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from windrow.job import Job
    from windrow.store import RunRef

__all__ = ["Step", "ref_of"]


class Step(Observed, BaseOperator):
    """One or more steps of a job. Unless told otherwise, its retries follow `windrow.airflow.retry_policy`.

    Args:
        job: Path of a job file (relative to the Dag file), a `windrow.Job`, or its fields as a mapping;
            every text in it may be a template. Relative paths in the fields start at the Dag file.
    """

    template_fields: Collection[str] = ("job",)
    ui_color = "#f4e8c8"
    operator_extra_links = (RunLink(), TableLink())

    def __init__(self, *, job: JobLike, **kwargs: Any) -> None:
        super().__init__(**with_retry_policy(kwargs))
        self.job = templated(job)

    def on_kill(self) -> None:
        """Stop where the step is; what has been scored is kept, and a retry goes on from there.

        No handler of errors on the way takes this for a failure of its own; `_working` says what it was.
        """
        raise KeyboardInterrupt

    @contextmanager
    def _working(self, context: Context) -> Iterator[Job]:
        """Give the job, with Airflow's connections; an error that trying again cannot mend fails the task at once."""
        from windrow.airflow.connections import airflow_hub, airflow_url
        from windrow.connections import resolving_with
        from windrow.hub import reaching_hub_with
        from windrow.pooling import close_idle

        with (
            self._stopping(),
            self.telling_failures(context, self.job),
            resolving_with(airflow_url),
            reaching_hub_with(airflow_hub),
        ):
            try:
                yield read_job(self.job, Path(context["dag"].fileloc).absolute().parent)
            finally:
                close_idle()

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Say of an end what it means for the task's retries."""
        try:
            yield
        except KeyboardInterrupt:
            problem = "The task was asked to stop; nothing was half published."
            raise Interrupted(problem, "run it again: it resumes.") from None
        except WindrowError as error:
            if error.retryable or getattr(self, "retry_policy", None):
                raise
            raise AirflowFailException(str(error)) from error

    def _partition_of(self, partition: str | None, job: Job, context: Context) -> str:
        """Return the partition named by the author, or the default one."""
        from windrow.airflow.partitions import default_partition
        from windrow.sources import needs_partition

        if partition not in {None, "", "None"}:
            return str(partition)
        return default_partition(context["dag_run"], context["dag"], strict=needs_partition(job))

    def _tell(self, context: Context, job: Job, receipt: dict[str, Any], partitioned: bool, lanes: int = 1) -> None:
        """Put the receipt's counts into the events of all asset outlets, and tell the page in brief."""
        context["ti"].xcom_push(key=telling.PUBLISH, value=telling.brief(job, receipt, lanes))
        self.tell_published(context, job, ref_of(receipt), receipt)
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                event = context["outlet_events"][outlet]
                event.extra.update(describe(receipt, job.price_per_hour, lanes))
                if partitioned:
                    event.add_partitions(receipt["partition"])

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render, then hide the secrets of urls before the fields are shown or logged."""
        from windrow.airflow.connections import mask_secrets

        super()._do_render_template_fields(*args, **kwargs)
        mask_secrets(self.job)


def ref_of(fields: Any) -> RunRef:
    """Return the run's reference from an XCom.

    Raises:
        JobError: It is none.
    """
    from windrow.store import RunRef

    try:
        return RunRef(fields["job"], fields["partition"], fields["run_id"])
    except (KeyError, TypeError):
        raise JobError(
            "The task was given no reference of a run.",
            "pass what LoadOperator gives: its output to `lane`, output['run'] to `run`.",
        ) from None
