"""What XComs say. Whoever may write an XCom can write anything, so every value is checked, and long texts are cut."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

__all__ = ["Brief", "Progress", "counts", "mapping", "moment", "number", "text"]

LONGEST_TEXT = 300
_MOST_ENTRIES = 50


def text(value: Any, longest: int = LONGEST_TEXT) -> str:
    """Return a value as a text of bounded length; nothing for None.

    >>> text("abcdef", longest=4)
    'abc…'
    """
    if value is None:
        return ""
    words = value if isinstance(value, str) else str(value)[: longest + 1]
    return words if len(words) <= longest else words[: longest - 1] + "…"


def number(value: Any) -> float | None:
    """Return a finite number, or None.

    >>> number(3), number("3"), number(float("nan")), number(True)
    (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def counts(value: Any) -> dict[str, int]:
    """Return counts by name, the largest first; names are cut, and no more than some dozens are kept.

    >>> counts({"b": 1, "a": 2, "c": "x"})
    {'a': 2, 'b': 1}
    """
    found = [(text(name), int(count)) for name, given in mapping(value).items() if (count := number(given)) is not None]
    return dict(sorted(found, key=lambda entry: (-entry[1], entry[0]))[:_MOST_ENTRIES])


def moment(value: Any) -> datetime | None:
    """Return a moment with its zone (UTC unless it says another), or None."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value[:40])
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return value if value.tzinfo else value.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Brief:
    """A published run in brief, as publish told it; see `windrow.airflow.telling.brief`."""

    job: str = ""
    task: str = ""
    partition: str = ""
    run_id: str = ""
    model: str = ""
    engine: str = ""
    precision: str = ""
    device: str = ""
    table: str = ""
    rows_in: float = 0
    rows_published: float = 0
    rows_rejected: float = 0
    texts_distinct: float = 0
    texts_reused: float = 0
    texts_scored: float = 0
    tokens: float = 0
    rows_per_s: float = 0
    tokens_per_s: float = 0
    seconds: float = 0
    cost: float | None = None
    finished_at: datetime | None = None
    labels: dict[str, int] = field(default_factory=dict)
    labels_rest: float = 0
    samples: float = 0
    rejects: dict[str, int] = field(default_factory=dict)
    checks: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """Read an XCom; None if it is nothing of the kind."""
        told = mapping(value)
        if "job" not in told or "rows_in" not in told:
            return None
        fields: dict[str, Any] = {name: text(told.get(name)) for name in _TEXTS}
        fields |= {name: number(told.get(name)) or 0.0 for name in _NUMBERS}
        given = told.get("checks")
        return cls(
            **fields,
            cost=number(told.get("cost")),
            finished_at=moment(told.get("finished_at")),
            labels=counts(told.get("labels")),
            rejects=counts(told.get("rejects")),
            checks=tuple(text(check, 20) for check in given[:_MOST_ENTRIES]) if isinstance(given, list) else (),
        )

    @property
    def reject_share(self) -> float:
        """Rejected rows as a share of all."""
        return self.rows_rejected / self.rows_in if self.rows_in else 0.0

    @property
    def reused_share(self) -> float:
        """Texts that had a prediction already, as a share of all."""
        return self.texts_reused / self.texts_distinct if self.texts_distinct else 0.0

    @property
    def verdict(self) -> str:
        """The worst of the quality checks: ``fail``, ``ask``, ``warn``, ``approved``, ``pass``, or nothing."""
        return next((status for status in ("fail", "ask", "warn", "approved", "pass") if status in self.checks), "")


_TEXTS = ("job", "task", "partition", "run_id", "model", "engine", "precision", "device", "table")
_NUMBERS = ("rows_in", "rows_published", "rows_rejected", "texts_distinct", "texts_reused", "texts_scored",
            "tokens", "rows_per_s", "tokens_per_s", "seconds", "labels_rest", "samples")  # fmt: skip


_PACE = ("texts", "total", "tokens", "texts_per_s", "tokens_per_s")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a lane says it is: a hint."""

    texts: float
    total: float
    tokens: float
    texts_per_s: float
    tokens_per_s: float
    left_s: float | None
    at: datetime | None

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """Read what a lane keeps in the task state store; None if it is nothing of the kind."""
        told = mapping(value)
        if number(told.get("total")) is None:
            return None
        numbers = {name: number(told.get(name)) or 0.0 for name in _PACE}
        return cls(**numbers, left_s=number(told.get("left_s")), at=moment(told.get("at")))
