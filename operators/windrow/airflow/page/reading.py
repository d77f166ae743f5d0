"""What a run's page shows, made of its receipt: counts, the run before, and the choice of the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from windrow.airflow.page.drawing import Slice, slices
from windrow.airflow.page.facts import Brief, counts, mapping, number, text
from windrow.airflow.page.jobs import colours
from windrow.airflow.page.queries import statements
from windrow.airflow.page.runs import Part

__all__ = ["Check", "LabelShare", "run_facts"]

_LONGEST_DETAIL = 2000
_STATUSES = ("pass", "approved", "warn", "ask", "fail")


@dataclass(frozen=True, slots=True)
class Check:
    """A quality check, as the gates wrote it."""

    name: str
    status: str
    value: Any
    limit: Any
    detail: str


@dataclass(frozen=True, slots=True)
class LabelShare:
    """A label's rows and share, now and in the run before."""

    name: str
    colour: int
    rows: float
    share: float
    before: float | None

    @property
    def change(self) -> float | None:
        """Points more than before."""
        return None if self.before is None else 100 * (self.share - self.before)


def run_facts(part: Part, earlier: Sequence[Brief]) -> dict[str, Any]:
    """Return the facts that the template of a run asks for."""
    receipt = part.receipt
    quality = mapping(receipt.get("quality"))
    previous, drift = _previous(receipt, mapping(quality.get("drift")), earlier)
    labels = _labels(counts(receipt.get("labels")), counts(previous.get("labels")))
    choice = mapping(part.fact("choice"))
    trials, fallbacks = choice.get("trials"), choice.get("fallbacks")
    return {
        "brief": part.brief,
        "labels": labels,
        "previous": previous,
        "drift": drift,
        "checks": _checks(quality.get("checks")),
        "decided_by": text(quality.get("decided_by"), 80),
        "rejects": counts(receipt.get("rejects") or (part.brief.rejects if part.brief else {})),
        "reuse": _reuse(part),
        "choice_of": {name: choice.get(name) for name in ("engine", "precision", "token_budget")},
        "reason": text(choice.get("reason"), _LONGEST_DETAIL),
        "fallbacks": [text(told, _LONGEST_DETAIL) for told in fallbacks[:8]] if isinstance(fallbacks, list) else [],
        "trials": [mapping(trial) for trial in trials[:40]] if isinstance(trials, list | tuple) else [],
        "sql": _sql(receipt) if receipt.get("table") else [],
    }


def _sql(receipt: Mapping[str, Any]) -> list[tuple[str, str]]:
    table, partition, run_id = (text(receipt.get(name)) for name in ("table", "partition", "run_id"))
    return statements(table, partition, run_id, has_labels=bool(mapping(receipt.get("labels"))))


def _previous(
    receipt: Mapping[str, Any], drift: Mapping[str, Any], earlier: Sequence[Brief]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return the run that this one is compared with: the gates', else the last one of another partition."""
    if drift.get("previous"):
        return {"labels": drift["previous"], "run_id": text(drift.get("previous_run_id")), "partition": ""}, drift
    mine = text(receipt.get("partition"))
    for brief in earlier:
        if brief.partition != mine and brief.labels:
            return {"labels": brief.labels, "run_id": brief.run_id, "partition": brief.partition}, drift
    return {}, drift


def _labels(now: dict[str, int], before: dict[str, int]) -> list[LabelShare]:
    """Return all labels of both runs, by name, with colours that do not depend on their numbers."""
    named = colours([now, before])
    total, total_before = max(1, sum(now.values())), sum(before.values())
    return [
        LabelShare(
            name,
            colour,
            now.get(name, 0),
            now.get(name, 0) / total,
            before.get(name, 0) / total_before if total_before else None,
        )
        for name, colour in named.items()
    ]


def _checks(given: Any) -> list[Check]:
    checks = [mapping(check) for check in given[:50]] if isinstance(given, list) else []
    return [
        Check(
            text(check.get("name")),
            status if (status := text(check.get("status"), 10)) in _STATUSES else "warn",
            _value(check.get("value")),
            _value(check.get("limit")),
            text(check.get("detail"), _LONGEST_DETAIL),
        )
        for check in checks
    ]


def _value(value: Any) -> Any:
    found = number(value)
    return text(value, 80) if found is None else f"{found:.4g}"


def _reuse(part: Part) -> list[Slice]:
    """Return texts that were known, and texts that were scored or are to be."""
    reused = number(part.fact("texts_reused")) or 0.0
    distinct = number(part.fact("texts_distinct")) or 0.0
    if not distinct:
        return []
    return slices({"reused": reused, "scored": max(0.0, distinct - reused)}, {"reused": 2, "scored": 0})
