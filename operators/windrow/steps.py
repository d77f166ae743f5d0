"""load → infer → publish in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from windrow.infer import infer
from windrow.job import Job
from windrow.load import load
from windrow.manifest import Manifest
from windrow.pace import Pace
from windrow.publish import publish
from windrow.quality.approval import approve
from windrow.receipt import Receipt

__all__ = ["Watcher", "run"]


class Watcher(Protocol):
    """Is told how a run gets on; see `windrow.console` for one that draws it."""

    def loading(self) -> None:
        """The source is being read."""

    def loaded(self, manifest: Manifest) -> None:
        """The source has been read; `manifest` has the counts."""

    def scored(self, done: int, total: int) -> None:
        """So many texts of all have a prediction."""

    def publishing(self) -> None:
        """The partition is being replaced."""


class _Nobody:
    """A watcher that looks away."""

    def loading(self) -> None: ...

    def loaded(self, manifest: Manifest) -> None: ...

    def scored(self, done: int, total: int) -> None: ...

    def publishing(self) -> None: ...


def run(
    job: Job,
    partition: str | None = None,
    *,
    limit: int | None = None,
    full: bool = False,
    approved_by: str | None = None,
    watcher: Watcher | None = None,
    pace: Callable[[Pace], None] | None = None,
) -> Receipt:
    """Score one partition of a job and publish it.

    Args:
        partition: Slice of the target table that this run owns; ``all`` unless given.
        limit: Read at most so many rows; the partition then holds no more than those.
        full: Read the whole source, whatever `source.since` says.
        approved_by: Who says that the run may be published where quality gates ask for that.
        watcher: Is told how the run gets on.
        pace: Is told every few seconds how fast it scores; see `windrow.pace`.

    Returns:
        The receipt, as written to the ledger.

    Raises:
        WindrowError: See `windrow.errors`; nothing is half published.
    """
    eyes = watcher or _Nobody()
    eyes.loading()
    manifest = load(job, partition, limit=limit, full=full)
    eyes.loaded(manifest)
    infer(job, manifest.ref, progress=eyes.scored, pace=pace)
    if approved_by:
        approve(job, manifest.ref, approved_by)
    eyes.publishing()
    return publish(job, manifest.ref)
