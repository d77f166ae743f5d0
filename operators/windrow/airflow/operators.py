"""load, infer and publish as Airflow tasks. They only translate: the work is in the core."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from airflow.sdk import XComArg

from windrow.airflow import telling
from windrow.airflow.step import Step, ref_of
from windrow.errors import JobError

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

__all__ = ["InferOperator", "LoadOperator", "PublishOperator", "lane_count"]


class LoadOperator(Step):
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
            manifest = load(job, self._partition_of(self.partition, job, context))
            self.tell_loaded(context, job, manifest)
        counts = ("rows_in", "rows_rejected", "texts_distinct", "texts_reused", "texts_to_score")
        count = min(most, len(manifest.shards))
        run = {**manifest.ref.to_dict(), **{name: getattr(manifest, name) for name in counts}, "lanes": count}
        context["ti"].xcom_push(key="run", value=run)
        context["ti"].xcom_push(key=telling.LOAD, value=telling.told_by_load(job, manifest, count))
        self.log.info("Loaded %s", run)
        return [{**manifest.ref.to_dict(), "lane": lane, "lanes": count} for lane in range(count)]


class InferOperator(Step):
    """Score the texts of one lane that have no prediction yet; a retry goes on where it stopped.

    Returns the lane's counts. Where the Dag has a deadline, the log tells every half minute when the lane
    will be done, by its measured texts per second, and at once if that will be too late.

    Args:
        lane: One of the lanes that `LoadOperator` returns; map over them with ``expand``.
        on_late: Called once with the context when the Dag's deadline will be missed; the context then has
            ``remaining`` (a `windrow.remaining.Remaining`) and ``due``. A notifier will do.
    """

    template_fields: Collection[str] = ("job", "lane")

    def __init__(
        self, *, lane: Mapping[str, Any] | XComArg, on_late: Callable[[Any], Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.lane: Any = lane
        self.on_late = on_late

    def execute(self, context: Context) -> dict[str, Any]:
        """Score the lane; return its counts."""
        with self._working(context) as job:
            from windrow.airflow.deadlines import LaneWatch
            from windrow.infer import infer

            lane, ref = self.lane, ref_of(self.lane)
            watch, pace = LaneWatch(context, lane["lane"] + 1, self.on_late), telling.LaneProgress(context)
            context["ti"].xcom_push(key=telling.LANE, value={**ref.to_dict(), "lane": lane["lane"]})
            report = infer(job, ref, lane=lane["lane"], lanes=lane["lanes"], progress=watch, pace=pace)
            pace.clear()
            self.tell_scored(context, job, asdict(report))
            return asdict(report)


class PublishOperator(Step):
    """Replace the run's partition in the warehouse.

    Returns the receipt. Its counts are the ``extra`` of the events of all asset outlets
    (see `windrow.airflow.table_asset`). Where a quality gate of the job asks, the task waits for a
    person (Required Actions), in no worker: approval publishes, rejection fails it at once, and the
    table stays as it was. The receipt tells who approved.

    Args:
        run: XCom ``run`` of `LoadOperator`: ``load.output["run"]``.
        partitioned: Give the events the partition as their key, for Dags with a `PartitionedAssetTimetable`.
            Airflow then triggers those alone, and no Dag that is scheduled on the asset without partitions.
        approvers: Ids of the users who may answer; all who may act on the Dag unless given.
        notifiers: Told when the task begins to wait.
    """

    template_fields: Collection[str] = ("job", "run", "approvers")

    def __init__(
        self,
        *,
        run: Mapping[str, Any] | XComArg,
        partitioned: bool = False,
        approvers: Sequence[str] = (),
        notifiers: Sequence[BaseNotifier] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.run: Any = run
        self.partitioned = partitioned
        self.approvers = approvers
        self.notifiers = notifiers

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish the run; return its receipt."""
        return self._publish(context)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on with a person's answer: publish the run, or fail."""
        with self._working(context) as job:
            from windrow.airflow.approval import keep_answer

            keep_answer(job, ref_of(self.run), event)
        return self._publish(context)

    def _publish(self, context: Context) -> dict[str, Any]:
        with self._working(context) as job:
            from windrow.airflow.approval import publish_or_ask

            receipt = publish_or_ask(self, job, ref_of(self.run), context)
            self._tell(context, job, receipt, self.partitioned, int(self.run.get("lanes", 1)))
        return receipt


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
