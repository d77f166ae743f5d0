"""A job over its runs: the last ones, speed, cost and labels, ready to be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from windrow.airflow.page.facts import Brief
from windrow.airflow.page.metadata import Attempt, TaskKey

__all__ = ["Job", "Run", "colours", "jobs_of"]

COLOURS = 8


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a job: Airflow's word on it, and the receipt in brief if it was published."""

    attempt: Attempt
    brief: Brief | None

    @property
    def state(self) -> str:
        """Published, failed, running, waiting …, as Airflow has it."""
        state = self.attempt.state
        if state in {"success", "failed", "upstream_failed", "skipped", "removed"}:
            return {"upstream_failed": "failed", "removed": "skipped"}.get(state, state)
        return "running" if self.attempt.run_state in {"running", "queued"} else state or "none"


@dataclass(slots=True)
class Job:
    """A publish task and its last runs, the newest first."""

    dag_id: str
    task_id: str
    table: str
    runs: list[Run] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The job's name, or its group's while it has not run."""
        return (self.newest.job if self.newest else "") or self.task_id.rpartition(".")[0] or self.task_id

    @property
    def briefs(self) -> list[Brief]:
        """Published runs, the newest first."""
        return [run.brief for run in self.runs if run.brief]

    @property
    def newest(self) -> Brief | None:
        """The last published run."""
        return next(iter(self.briefs), None)

    @property
    def rows_per_s(self) -> float | None:
        """Median over the runs that are shown."""
        rates = [brief.rows_per_s for brief in self.briefs if brief.rows_per_s]
        return median(rates) if rates else None

    @property
    def cost(self) -> float | None:
        """Sum over the runs that are shown; None if the job tells no price."""
        costs = [brief.cost for brief in self.briefs if brief.cost is not None]
        return sum(costs) if costs else None

    @property
    def labels(self) -> dict[str, int]:
        """Colours of the labels, the same on every drawing of the job."""
        return colours(brief.labels for brief in self.briefs)

    @property
    def by_partition(self) -> list[Brief]:
        """The last published run of each partition, by partition."""
        latest: dict[str, Brief] = {}
        for brief in self.briefs:
            latest.setdefault(brief.partition, brief)
        return [latest[name] for name in sorted(latest)]

    def charts(self) -> list[dict[str, Any]]:
        """Return what is drawn: rows a second, cost if known, and the label mix of each partition."""
        past = sorted((brief for brief in self.briefs if brief.finished_at), key=lambda brief: str(brief.finished_at))
        drawn = [_line("Throughput", "rows/s", past, [brief.rows_per_s for brief in past], 0)]
        if any(brief.cost is not None for brief in past):
            drawn.append(_line("Cost of a run", "", past, [brief.cost for brief in past], 1))
        if self.labels:
            drawn.append(self._mix(self.by_partition))
        return drawn

    def _mix(self, past: Sequence[Brief]) -> dict[str, Any]:
        """Return shares of labels, stacked, by partition."""
        names = list(self.labels)
        rest = any(brief.labels_rest for brief in past)
        series = [
            {
                "label": name,
                "colour": self.labels[name],
                "values": [100 * brief.labels.get(name, 0) / _total(brief) for brief in past],
            }
            for name in names
        ]
        if rest:
            shares = [100 * brief.labels_rest / _total(brief) for brief in past]
            series.append({"label": "other labels", "colour": COLOURS, "values": shares})
        ticks = [brief.partition for brief in past]
        return {"title": "Label mix by partition", "unit": "%", "kind": "stack", "ticks": ticks, "series": series}


def colours(named: Iterable[dict[str, int]]) -> dict[str, int]:
    """Return a colour for each label, by name, so that it does not depend on what is most frequent today.

    >>> colours([{"positive": 3}, {"negative": 5}])
    {'negative': 0, 'positive': 1}
    """
    names = sorted({name for labels in named for name in labels})
    return {name: place % COLOURS for place, name in enumerate(names)}


def jobs_of(places: dict[TaskKey, str], attempts: Iterable[Attempt]) -> list[Job]:
    """Return the jobs of some publish tasks, with their runs; those that ran last come first."""
    jobs = {key: Job(*key, table) for key, table in places.items()}
    for attempt in attempts:
        jobs[attempt.dag_id, attempt.task_id].runs.append(Run(attempt, Brief.read(attempt.told)))
    return sorted(jobs.values(), key=_last, reverse=True)


def _last(job: Job) -> tuple[str, str]:
    return (max((str(run.attempt.started or "") for run in job.runs), default=""), job.name)


def _total(brief: Brief) -> float:
    return max(1.0, sum(brief.labels.values()) + brief.labels_rest)


def _line(title: str, unit: str, past: Sequence[Brief], values: list[Any], colour: int) -> dict[str, Any]:
    ticks = [brief.partition for brief in past]
    series = [{"label": title, "colour": colour, "values": values}]
    return {"title": title, "unit": unit, "kind": "line", "ticks": ticks, "series": series}
