"""Two distributions of labels: how far apart they are, and how likely that is by accident."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ChiSquare", "Drift", "chi_square", "compared", "psi"]

_LEAST_EXPECTED = 5.0
Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ChiSquare:
    """A chi-square test of homogeneity.

    Attributes:
        statistic: Sum of (observed - expected)² / expected.
        degrees_of_freedom: Classes less one; 0 where there is nothing to compare.
        p_value: How often two samples of one distribution differ at least so much.
        cramers_v: Size of the difference, from 0 (none) to 1.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float
    cramers_v: float


@dataclass(frozen=True, slots=True)
class Drift:
    """Labels of a partition against those before it.

    Attributes:
        psi: Population stability index.
        chi_square: Statistic of the test of homogeneity.
        degrees_of_freedom: Of that test.
        p_value: Of that test.
        cramers_v: Size of the difference, from 0 to 1.
        previous_run_id: The newest of the runs compared with.
        previous: Their rows by label, added up.
        previous_partitions: Their partitions, oldest first.
        same_fingerprint: Whether they have this run's model, task and numerics.
    """

    psi: float
    chi_square: float
    degrees_of_freedom: int
    p_value: float
    cramers_v: float
    previous_run_id: str
    previous: dict[str, int]
    previous_partitions: tuple[str, ...]
    same_fingerprint: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the drift as JSON-ready values."""
        return {**asdict(self), "previous_partitions": list(self.previous_partitions)}


def psi(now: Counts, before: Counts) -> float:
    """Return the population stability index, the sum of (p - q) · ln(p / q) over the labels' shares p and q.

    It is 0 for equal shares and the same both ways. Below 0.1 it is read as no change, above 0.25 as a shift
    (Siddiqi, *Credit Risk Scorecards*, 2006). By accident alone it is about (labels - 1) · (1/n + 1/m) (Yurdakul,
    *Statistical Properties of Population Stability Index*, 2018), so that small samples need a test beside it. A
    label that one side lacks counts half a row there, since ln 0 has no value.

    >>> round(psi({"negative": 30, "positive": 70}, {"negative": 500, "positive": 500}), 4)
    0.1695
    """
    rows_now, rows_before = sum(now.values()), sum(before.values())
    if not rows_now or not rows_before:
        return 0.0
    total = 0.0
    for label in _labels(now, before):
        p = max(now.get(label, 0), 0.5) / rows_now
        q = max(before.get(label, 0), 0.5) / rows_before
        total += (p - q) * math.log(p / q)
    return total


def chi_square(now: Counts, before: Counts) -> ChiSquare:
    """Test whether two samples of labels are of one distribution (Pearson's chi-square test of homogeneity).

    Labels too rare for the test (fewer than 5 rows expected on one side; Cochran, *Some Methods for Strengthening the
    Common χ² Tests*, Biometrics 1954) are taken together until there are enough; what is left over is a class of its
    own, or a new label of few rows would hide in a frequent one. No continuity correction.

    >>> test = chi_square({"negative": 30, "positive": 70}, {"negative": 50, "positive": 50})
    >>> round(test.statistic, 3), test.degrees_of_freedom, round(test.p_value, 4), round(test.cramers_v, 3)
    (8.333, 1, 0.0039, 0.204)
    """
    from scipy.special import chdtrc

    classes = _classes(now, before)
    degrees = len(classes) - 1
    if degrees < 1:
        return ChiSquare(0.0, 0, 1.0, 0.0)
    sides = [sum(pair[side] for pair in classes) for side in (0, 1)]
    rows = sum(sides)
    statistic = 0.0
    for pair in classes:
        for observed, side in zip(pair, sides, strict=True):
            expected = sum(pair) * side / rows
            statistic += (observed - expected) ** 2 / expected
    return ChiSquare(statistic, degrees, float(chdtrc(degrees, statistic)), math.sqrt(statistic / rows))


def compared(now: Counts, before: Counts, run_id: str, partitions: tuple[str, ...], same_fingerprint: bool) -> Drift:
    """Compare the labels of a partition with those of the runs before it."""
    test = chi_square(now, before)
    return Drift(
        psi(now, before), test.statistic, test.degrees_of_freedom, test.p_value, test.cramers_v,
        run_id, dict(before), partitions, same_fingerprint,
    )  # fmt: skip


def _labels(now: Counts, before: Counts) -> list[str]:
    """Return the labels that either side has rows of, the rarest first."""
    total = {label: now.get(label, 0) + before.get(label, 0) for label in {*now, *before}}
    return sorted((label for label, rows in total.items() if rows), key=lambda label: (total[label], label))


def _classes(now: Counts, before: Counts) -> list[tuple[int, int]]:
    """Return pairs of counts, rare labels taken together; none if a side has no rows."""
    rows_now, rows_before = sum(now.values()), sum(before.values())
    if not rows_now or not rows_before:
        return []
    least = _LEAST_EXPECTED * (rows_now + rows_before) / min(rows_now, rows_before)
    classes: list[tuple[int, int]] = []
    rare = (0, 0)
    for label in _labels(now, before):
        pair = (now.get(label, 0), before.get(label, 0))
        if sum(pair) >= least:
            classes.append(pair)
            continue
        rare = (rare[0] + pair[0], rare[1] + pair[1])
        if sum(rare) >= least:
            classes.append(rare)
            rare = (0, 0)
    return [*classes, rare] if sum(rare) else classes
