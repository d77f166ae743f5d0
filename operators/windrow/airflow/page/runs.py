"""One run: its jobs, the steps and lanes of each, what they told, and when it will be done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from windrow.airflow.page import metadata
from windrow.airflow.page.facts import Brief, Progress, mapping, number, text
from windrow.airflow.page.metadata import Place, Step
from windrow.airflow.page.questions import question
from windrow.airflow.telling import LANE, LOAD, PUBLISH

__all__ = ["Lane", "Part", "part_of", "parts", "read_part"]

_TOLD = {LOAD: "load", LANE: "infer", PUBLISH: "publish"}
_ENDED_BADLY = {"failed", "upstream_failed"}
_UNDER_WAY = {"running", "restarting", "up_for_retry", "up_for_reschedule"}
_PUBLISHED_ROWS_PER_S = 150_000
_RETURNED = "return_value"


@dataclass(slots=True)
class Lane:
    """One mapped task of infer."""

    step: Step
    progress: Progress | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``Lane 1``, counted from 1."""
        return f"Lane {max(0, self.step.map_index) + 1}"

    @property
    def texts(self) -> float | None:
        """Texts done."""
        done = number(self.report.get("texts"))
        return done if done is not None else self.progress.texts if self.progress else None

    @property
    def total(self) -> float | None:
        """Texts in all, as far as the lane has told."""
        done = number(self.report.get("texts"))
        return done if done is not None else self.progress.total if self.progress else None

    @property
    def share(self) -> float:
        """How much is done, 0 to 1."""
        if self.step.state == "success":
            return 1.0
        return min(1.0, (self.texts or 0) / self.total) if self.total else 0.0

    def rate(self, what: str) -> float | None:
        """Return ``texts`` or ``tokens`` a second."""
        seconds, done = number(self.report.get("seconds")), number(self.report.get(what))
        if seconds and done is not None:
            return done / seconds
        return getattr(self.progress, f"{what}_per_s") if self.progress else None

    @property
    def finish(self) -> datetime | None:
        """When it will be done, as it said last."""
        told = self.progress
        if told is None or told.at is None or told.left_s is None or self.step.state not in _UNDER_WAY:
            return None
        return told.at + timedelta(seconds=min(told.left_s, 10 * 365 * 86400))


@dataclass(slots=True)
class Part:
    """One job in a run: its three steps, and what a person is asked."""

    name: str
    load: Step | None = None
    lanes: list[Lane] = field(default_factory=list)
    publish: Step | None = None
    loaded: Mapping[str, Any] = field(default_factory=dict)
    brief: Brief | None = None
    receipt: Mapping[str, Any] = field(default_factory=dict)
    question: str = ""

    @property
    def task_id(self) -> str:
        """The task that stands for the job: publish, or what there is of it."""
        known = [self.publish, self.load, *(lane.step for lane in self.lanes)]
        return next((step.task_id for step in known if step), "")

    @property
    def steps(self) -> list[Step]:
        """All task instances, in their order."""
        lanes = [lane.step for lane in self.lanes if lane.step is not self.publish]
        return [step for step in (self.load, *lanes, self.publish) if step is not None]

    @property
    def is_whole(self) -> bool:
        """Whether one task does all three steps."""
        return self.publish is not None and not any(step is not self.publish for step in self.steps)

    @property
    def failed(self) -> Step | None:
        """The task instance that failed by itself, if one did."""
        return next((step for step in self.steps if step.state == "failed"), None)

    @property
    def phase(self) -> str:
        """What it is doing: loading, scoring, publishing, published, failed, waiting for a person, or waiting."""
        if any(step.state in _ENDED_BADLY for step in self.steps):
            return "failed"
        if self.publish and self.publish.state == "success":
            return "published"
        if self.publish and self.publish.state in {"awaiting_input", "deferred"}:
            return "awaiting approval"
        if self.publish and self.publish.state in _UNDER_WAY:
            return "scoring" if self.is_whole else "publishing"
        if any(lane.step.state in _UNDER_WAY for lane in self.lanes):
            return "scoring"
        if self.load and self.load.state in _UNDER_WAY:
            return "loading"
        if self.steps and all(step.state in {"skipped", "removed"} for step in self.steps):
            return "skipped"
        return "waiting"

    @property
    def is_live(self) -> bool:
        """Whether it may still change by itself."""
        return self.phase not in {"failed", "published", "skipped"}

    def fact(self, name: str) -> Any:
        """Return a fact from the receipt, or from what load told."""
        return self.receipt.get(name, self.loaded.get(name))

    @property
    def finish(self) -> datetime | None:
        """When it will be published; None unless every lane that is not done says when it will be."""
        if self.phase != "scoring":
            return None
        open_lanes = [lane for lane in self.lanes if lane.step.state not in {"success", "skipped", "removed"}]
        ends = [lane.finish for lane in open_lanes]
        if not ends or any(end is None for end in ends):
            return None
        rows = number(self.loaded.get("rows_in")) or 0.0
        latest = max(end for end in ends if end is not None)
        return max(latest, datetime.now(UTC)) + timedelta(seconds=min(rows, 1e12) / _PUBLISHED_ROWS_PER_S)

    @property
    def texts_per_s(self) -> float:
        """Texts a second of the lanes that are running."""
        return sum(lane.rate("texts") or 0.0 for lane in self.lanes if lane.step.state in _UNDER_WAY)

    @property
    def scored(self) -> tuple[float, float]:
        """Texts scored, and texts to score."""
        done = sum(lane.texts or 0 for lane in self.lanes)
        return done, number(self.loaded.get("texts_to_score")) or sum(lane.total or 0 for lane in self.lanes)


def parts(session: Session, run: Place) -> list[Part]:
    """Return the jobs of a run, by name."""
    steps = metadata.steps(session, run)
    told = metadata.told(session, run)
    kinds = {step.task_id: kind for step in steps if (kind := _kind(step, told.get(step.task_id, {})))}
    jobs = {task_id: _job(told.get(task_id, {})) for task_id in kinds}
    found: dict[tuple[str, str], Part] = {}
    for step in steps:
        if kind := kinds.get(step.task_id):
            group = step.task_id if kind == "whole" else step.task_id.rpartition(".")[0]
            job = "" if kind == "whole" else jobs[step.task_id] or _only_job(group, jobs)
            part = found.setdefault((group, job), Part(group or job or step.task_id))
            _add(part, kind, step, told.get(step.task_id, {}))
    return sorted(found.values(), key=lambda part: part.name)


def part_of(found: Sequence[Part], task_id: str | None) -> Part | None:
    """Return the part that a task belongs to; the first one if no task is asked for."""
    if task_id is None:
        return found[0] if found else None
    return next((part for part in found if any(step.task_id == task_id for step in part.steps)), None)


def read_part(session: Session, run: Place, part: Part) -> None:
    """Read the receipt, the lanes' reports and their progress, and the question that is open."""
    infer = part.lanes[0].step.task_id if part.lanes else None
    wanted = [(task, _RETURNED) for task in (infer, part.publish.task_id if part.publish else None) if task]
    values = metadata.values(session, run, wanted)
    if part.publish:
        part.question = question(session, run, part.publish) if part.phase == "awaiting approval" else ""
        part.receipt = mapping(values.get((part.publish.task_id, _RETURNED), {}).get(part.publish.map_index))
    if part.is_whole and part.publish:
        states = metadata.lane_states(session, run, part.publish.task_id)
        progress = Progress.read(states.get(part.publish.map_index))
        part.lanes = [Lane(part.publish, progress)] if progress else []
    elif infer:
        reports = values.get((infer, _RETURNED), {})
        states = metadata.lane_states(session, run, infer)
        for lane in part.lanes:
            lane.report = mapping(reports.get(lane.step.map_index))
            lane.progress = Progress.read(states.get(lane.step.map_index))


def _kind(step: Step, told: Mapping[str, Any]) -> str | None:
    """Return which step a task is: by what it told, else by its operator's name; ``whole`` is all three in one."""
    by_name = next((kind for name, kind in metadata.OPERATORS.items() if step.operator.endswith(name)), None)
    return by_name if by_name == "whole" else next((kind for key, kind in _TOLD.items() if key in told), by_name)


def _job(told: Mapping[str, Any]) -> str:
    """Return the job that a task told of."""
    values = [value for by_index in told.values() for value in by_index.values()]
    return next((text(mapping(value).get("job")) for value in values if mapping(value).get("job")), "")


def _only_job(group: str, jobs: Mapping[str, str]) -> str:
    """Return the job of a group of tasks that has told of one job alone."""
    named = {job for task_id, job in jobs.items() if job and task_id.rpartition(".")[0] == group}
    return next(iter(named)) if len(named) == 1 else ""


def _add(part: Part, kind: str, step: Step, told: Mapping[str, Any]) -> None:
    if kind == "load":
        part.load = step
        part.loaded = mapping(told.get(LOAD, {}).get(step.map_index))
    elif kind == "infer":
        part.lanes.append(Lane(step))
    else:
        part.publish = step
        part.brief = Brief.read(told.get(PUBLISH, {}).get(step.map_index))
