"""What Windrow's tasks tell those who watch: metrics, and lineage where OpenLineage is installed and switched on."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windrow.airflow.metrics import Metrics
from windrow.errors import WindrowError

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors.base import OperatorLineage
    from airflow.sdk import Context

    from windrow.airflow.lineage import Lineage
    from windrow.job import Job
    from windrow.manifest import Manifest
    from windrow.store import RunRef

__all__ = ["Observed"]

log = logging.getLogger("windrow")


class Observed:
    """A part of Windrow's operators; telling never fails a task."""

    _lineage: Lineage | None = None

    def tell_loaded(self, context: Context, job: Job, manifest: Manifest) -> None:
        """Tell what load found."""
        _told(lambda: Metrics(job.name, context).loaded(manifest))
        counts = ("rows_in", "rows_rejected", "texts_distinct", "texts_reused", "model", "revision", "fingerprint")
        facts = {name: getattr(manifest, name) for name in counts}
        self._remember(job, manifest.ref, facts | manifest.ref.to_dict(), publishes=False)

    def tell_scored(self, context: Context, job: Job, lane: dict[str, Any]) -> None:
        """Tell what a lane scored."""
        _told(lambda: Metrics(job.name, context).scored(lane))

    def tell_published(self, context: Context, job: Job, ref: RunRef, receipt: dict[str, Any]) -> None:
        """Tell what was published."""
        _told(lambda: Metrics(job.name, context).published(receipt))
        self._remember(job, ref, receipt, publishes=True)

    @contextmanager
    def telling_failures(self, context: Context, job: str | dict[str, Any]) -> Iterator[None]:
        """Tell of an error that ends the context; of a job file that cannot be read, only its stem is known."""
        try:
            yield
        except (WindrowError, KeyboardInterrupt) as error:
            kind = "Interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
            given = str(job.get("name", "")) if isinstance(job, dict) else Path(job).stem
            name = re.sub(r"[^a-z0-9_]", "_", given.lower())
            _told(lambda: Metrics(name, context).failed(kind))
            raise

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any] | None:  # noqa: ARG002
        """Return the task's lineage; called by Airflow's OpenLineage provider when the task has ended well."""
        return self._lineage.facets() if self._lineage else None

    def _remember(self, job: Job, ref: RunRef, counts: dict[str, Any], publishes: bool) -> None:
        """Keep what lineage needs, while connections can be asked for."""
        if not _is_wanted():
            return

        def remember() -> None:
            from windrow.airflow.lineage import lineage_of

            self._lineage = lineage_of(job, ref, counts, publishes)

        _told(remember)


def _told(tell: Callable[[], None]) -> None:
    """Tell; whatever goes wrong there, the rows are where they belong."""
    try:
        tell()
    except Exception:
        log.warning("Metrics or lineage of this task cannot be told.", exc_info=True)


def _is_wanted() -> bool:
    """Tell whether OpenLineage is installed and switched on."""
    try:
        from airflow.providers.openlineage.conf import is_disabled
    except ImportError:
        return False
    return not is_disabled()
