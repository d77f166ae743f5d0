"""Names of partitions that are slices of time, the same from a schedule and from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, tzinfo
from typing import Literal, get_args

from windrow.errors import JobError

__all__ = ["Every", "partition_at", "partitions_between"]

Every = Literal["hour", "day", "week", "month"]
_STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


def partition_at(start: datetime, zone: tzinfo = UTC) -> str:
    """Name a slice by its start: the day if it starts at midnight in `zone`, else the minute in UTC.

    There is no colon in it, so that it may be part of a file's name.

    >>> partition_at(datetime(2026, 11, 23, tzinfo=UTC)), partition_at(datetime(2026, 11, 23, 14, 5, tzinfo=UTC))
    ('2026-11-23', '2026-11-23T1405Z')
    """
    local = start.astimezone(zone)
    if local.time() == time():
        return f"{local:%Y-%m-%d}"
    exact = start.astimezone(UTC)
    return f"{exact:%Y-%m-%dT%H%M%SZ}" if exact.second else f"{exact:%Y-%m-%dT%H%MZ}"


def partitions_between(first: str, last: str, every: str = "day") -> Iterator[str]:
    """Yield the partitions from one moment to another, both included, in UTC.

    Args:
        first: Day or moment in ISO 8601; without a zone it is in UTC.
        last: The same.
        every: Length of a slice.

    Raises:
        JobError: A moment or a length cannot be understood, or the last comes before the first.

    >>> list(partitions_between("2026-11-30", "2026-12-01"))
    ['2026-11-30', '2026-12-01']
    >>> list(partitions_between("2026-11-01", "2027-01-31", "month"))
    ['2026-11-01', '2026-12-01', '2027-01-01']
    """
    if every not in get_args(Every):
        raise JobError(f"{every!r} is no length of a slice.", f"use one of: {', '.join(get_args(Every))}.")
    moment, end = _moment(first), _moment(last)
    if end < moment:
        raise JobError(f"The last partition, {last}, comes before the first, {first}.", "exchange --from and --to.")
    while moment <= end:
        yield partition_at(moment)
        if every == "month":
            moment = _next_month(moment, first)
        else:
            moment += _STEPS[every]


def _next_month(moment: datetime, first: str) -> datetime:
    if moment.day > 28:
        raise JobError(f"Not every month has a day {moment.day}, with which {first} begins.", "begin with day 1.")
    return (moment.replace(day=1) + timedelta(days=32)).replace(day=moment.day)


def _moment(text: str) -> datetime:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise JobError(f"{text!r} is no day or moment.", "write it as 2026-11-23 or 2026-11-23T06:00.") from None
    return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
