"""Numbers, spans of time and moments as a person reads them, and bars in SVG. All text is escaped by the templates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from windrow.airflow.page.facts import Brief, moment, number

__all__ = ["FILTERS", "Slice", "mix", "mix_words", "slices"]

_NONE = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Slice:
    """A piece of a bar: where it starts and how wide it is, in percent."""

    name: str
    count: float
    colour: int
    start: float
    width: float


def slices(counts: dict[str, float], colours: dict[str, int], rest: float = 0.0) -> list[Slice]:
    """Cut a bar into pieces, in the order of the colours' names.

    >>> [(piece.name, piece.start, piece.width) for piece in slices({"a": 1, "b": 3}, {"a": 0, "b": 1})]
    [('a', 0.0, 25.0), ('b', 25.0, 75.0)]
    """
    ordered = {name: counts[name] for name in sorted(counts)} | ({"other labels": rest} if rest else {})
    total = sum(ordered.values())
    found, start = [], 0.0
    for name, count in ordered.items():
        width = 100 * count / total if total else 0.0
        found.append(Slice(name, count, colours.get(name, 8), round(start, 3), round(width, 3)))
        start += width
    return found


def mix(brief: Brief, named: dict[str, int]) -> list[Slice]:
    """Return the bar of a run's labels."""
    return slices(dict(brief.labels), named, brief.labels_rest)


def mix_words(brief: Brief) -> str:
    """Say what the bar of a run's labels shows."""
    total = sum(brief.labels.values()) + brief.labels_rest
    return ", ".join(
        f"{name} {percent(count / total if total else 0)}" for name, count in list(brief.labels.items())[:6]
    )


def whole(value: Any) -> str:
    """Return a whole number with its thousands apart.

    >>> whole(1234567)
    '1,234,567'
    """
    found = number(value)
    return _NONE if found is None else f"{round(found):,}"


def rate(value: Any) -> str:
    """Return a number with as many places as it deserves.

    >>> rate(0.1234), rate(12.34), rate(1234.6)
    ('0.123', '12.3', '1,235')
    """
    found = number(value)
    if found is None:
        return _NONE
    return (
        f"{found:,.0f}"
        if abs(found) >= 100
        else f"{found:.1f}"
        if abs(found) >= 1
        else f"{found:.3f}".rstrip("0").rstrip(".")
    )


def percent(value: Any, places: int = 1) -> str:
    """Return a share as a percentage.

    >>> [percent(share).replace(chr(160), " ") for share in (0.123, 0, 1, 0.00001)]
    ['12.3 %', '0 %', '100 %', '< 0.1 %']
    """
    found = number(value)
    if found is None:
        return _NONE
    least = 10.0**-places
    if 0 < 100 * found < least:
        return f"< {least:g}\N{NO-BREAK SPACE}%"
    words = f"{100 * found:.{places}f}"
    words = words.partition(".")[0] if float(words) in {0.0, 100.0} else words
    return f"{words}\N{NO-BREAK SPACE}%"


def span(value: Any) -> str:
    """Return a span of time, from seconds.

    >>> span(0.25), span(59.4), span(61), span(7300), span(200000)
    ('0.25 s', '59.4 s', '1 min 1 s', '2 h 1 min', '2 d 7 h')
    """
    found = number(value)
    if found is None or found < 0:
        return _NONE
    if found < 60:
        return f"{found:.3g} s"
    whole_s = round(found)
    for size, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole_s >= size:
            rest = whole_s % size // smaller
            return f"{whole_s // size} {name}" + (f" {rest} {smaller_name}" if rest else "")
    return _NONE


def money(value: Any) -> str:
    """Return a cost, in whatever currency the job's price is.

    >>> money(12.345), money(0.001234), money(0)
    ('12.35', '0.0012', '0')
    """
    found = number(value)
    if found is None:
        return _NONE
    if found == 0:
        return "0"
    return f"{found:,.2f}" if abs(found) >= 0.1 else f"{found:.2g}" if abs(found) >= 1e-4 else f"{found:.1e}"


def when(value: Any) -> Markup:
    """Return a moment as an element that the browser shows in the reader's own time zone."""
    found = moment(value)
    if found is None:
        return escape(_NONE)
    shown = f"{found:%Y-%m-%d %H:%M:%S %Z}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(found.isoformat(), shown, shown)


def lasted(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took; a dash if it has not ended."""
    begun, ended = moment(start), moment(end)
    return span((ended - begun).total_seconds()) if begun and ended else _NONE


def as_json(value: Any) -> str:
    """Return JSON for an attribute; the template escapes it."""
    return json.dumps(value, separators=(",", ":"), default=str)


def pretty(value: Any, longest: int = 60_000) -> str:
    """Return JSON to be read, cut where it is longer than a person would read."""
    words = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    return words if len(words) <= longest else f"{words[:longest]}\n… cut here; the download has all of it"


FILTERS: dict[str, Any] = {
    "whole": whole, "rate": rate, "percent": percent, "span": span, "money": money, "when": when, "as_json": as_json,
    "pretty": pretty,
}  # fmt: skip
