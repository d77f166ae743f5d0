"""The gates of a job held against one run; what they say goes into its receipt."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa

from windrow.quality.approval import Approval
from windrow.quality.drift import Drift, compared
from windrow.quality.gates import Gate, LabelDriftGate
from windrow.quality.measure import Measures, measured, written_column
from windrow.quality.previous import reference
from windrow.receipt import Receipt

if TYPE_CHECKING:
    from windrow.job import Job

__all__ = ["Check", "Judge", "judged"]

_EMPTY = "empty_output"
Status = Literal["pass", "warn", "fail", "ask", "approved"]


@dataclass(frozen=True, slots=True)
class Check:
    """What one bound of a gate says of a run.

    Attributes:
        name: Gate and bound, as in the job: ``label_drift.max_psi``.
        status: ``pass``; or, of a breach, what the job wants, ``ask`` being ``approved`` once a person said yes.
        value: What was found; None if there was nothing to look at.
        limit: The bound.
        detail: The same in words.
    """

    name: str
    status: Status
    value: float | None
    limit: float
    detail: str


def judged(
    con: duckdb.DuckDBPyConnection, job: Job, columns: pa.Schema, receipt: Receipt, approval: Approval | None
) -> Receipt:
    """Return the receipt with what the gates say in its field `quality`; nothing is refused here.

    Args:
        con: Has the view ``rows`` and the table ``found``.
        job: Its gates are in `quality`.
        columns: The task's columns.
        receipt: Counts of the run.
        approval: A person's yes, if there is one.
    """
    drift = _drift(job, receipt) if "label" in columns.names else None
    judge = Judge(job, receipt, measured(con, job.quality, columns), drift, written_column(columns) is not None)
    checks = [_approved(check) if approval else check for check in judge.checks()]
    quality: dict[str, Any] = {"checks": [asdict(check) for check in checks]}
    quality["drift"] = drift.to_dict() if drift else None
    if approval and any(check.status == "approved" for check in checks):
        quality |= {"decided_by": approval.by, "decided_at": approval.at}
    return dataclasses.replace(receipt, quality=quality)


def _drift(job: Job, receipt: Receipt) -> Drift | None:
    partitions = (job.quality.label_drift or LabelDriftGate()).partitions
    before = reference(job, receipt, partitions) if receipt.labels else None
    if not before:
        return None
    return compared(receipt.labels, before.labels, before.run_id, before.partitions, before.same_fingerprint)


def _approved(check: Check) -> Check:
    return dataclasses.replace(check, status="approved") if check.status == "ask" else check


@dataclass(frozen=True, slots=True)
class Judge:
    """Holds the gates of a job against what was counted and measured.

    Attributes:
        job: Its gates are in `quality`.
        receipt: Counts of the run.
        measures: What was measured of its predictions.
        drift: Its labels against those before; None if there is nothing to compare with.
        writes: Whether the task writes text.
    """

    job: Job
    receipt: Receipt
    measures: Measures
    drift: Drift | None = None
    writes: bool = False

    def checks(self) -> Iterator[Check]:
        """Yield a check for each bound that the job gives."""
        yield from self._rejects()
        yield from self._labels()
        yield from self._scores()
        yield from self._lengths()
        yield from self._empty()

    def _rejects(self) -> Iterator[Check]:
        rejected, rows = self.receipt.rows_rejected, self.receipt.rows_in
        share = rejected / rows if rows else 0.0
        told = f"{rejected:,} of {rows:,} rows are rejects ({share:.1%})"
        limit = self.job.limits.max_reject_share
        if limit < 1:
            detail = f"{told}; at most {limit:.1%} may be"
            yield Check("limits.max_reject_share", "fail" if share > limit else "pass", share, limit, detail)
        if gate := self.job.quality.reject_share:
            detail = f"{told}; at most {gate.max_share:.1%} may be"
            yield self._check(gate, "reject_share.max_share", share, gate.max_share, detail, rows)

    def _labels(self) -> Iterator[Check]:
        gate, drift = self.job.quality.label_drift, self.drift
        if not gate:
            return
        if not drift:
            detail = "there is no earlier partition to compare with"
            yield Check("label_drift.max_psi", "pass", None, gate.max_psi, detail)
            return
        is_chance = drift.p_value > gate.max_p_value
        detail = f"labels against {_span(drift)}: PSI {drift.psi:.3f}, at most {gate.max_psi:g}; chi-square "
        detail += f"{drift.chi_square:.1f}, {drift.degrees_of_freedom} df, p = {drift.p_value:.2g}"
        detail += f", above {gate.max_p_value:g}, so it may be chance" if is_chance else ""
        rows = min(sum(self.receipt.labels.values()), sum(drift.previous.values()))
        limit = float("inf") if is_chance else gate.max_psi
        check = self._check(gate, "label_drift.max_psi", drift.psi, limit, detail, rows)
        yield dataclasses.replace(check, limit=gate.max_psi)

    def _scores(self) -> Iterator[Check]:
        gate, rows, found = self.job.quality.confidence, self.receipt.rows_published, self.measures
        if gate and gate.min_mean is not None:
            detail = f"the mean score is {_shown(found.mean_score)}, at least {gate.min_mean:g} is wanted"
            name = "confidence.min_mean"
            yield self._check(gate, name, found.mean_score, gate.min_mean, detail, rows, least=True)
        if gate and gate.max_low_share is not None:
            share = "none" if found.low_share is None else f"{found.low_share:.1%}"
            detail = f"of the rows {share} have a score below {gate.low:g}; at most {gate.max_low_share:.1%} may have"
            yield self._check(gate, "confidence.max_low_share", found.low_share, gate.max_low_share, detail, rows)

    def _lengths(self) -> Iterator[Check]:
        gate, rows, found = self.job.quality.length, self.receipt.rows_published, self.measures.mean_length
        if not gate:
            return
        told = f"the mean length is {_shown(found)} {'characters written' if self.writes else 'tokens read'}"
        if gate.min_mean is not None:
            detail = f"{told}, at least {gate.min_mean:g} is wanted"
            yield self._check(gate, "length.min_mean", found, gate.min_mean, detail, rows, least=True)
        if gate.max_mean is not None:
            detail = f"{told}, at most {gate.max_mean:g} is wanted"
            yield self._check(gate, "length.max_mean", found, gate.max_mean, detail, rows)

    def _empty(self) -> Iterator[Check]:
        if not (gate := self.job.quality.empty_outputs):
            return
        rejected = self.receipt.rejects.get(_EMPTY, 0)
        empty, rows = self.measures.empty + rejected, self.receipt.rows_published + rejected
        share = empty / rows if rows else 0.0
        detail = f"nothing came out for {empty:,} of {rows:,} rows ({share:.1%}); at most {gate.max_share:.1%} may be"
        yield self._check(gate, "empty_outputs.max_share", share, gate.max_share, detail, rows)

    def _check(
        self, gate: Gate, name: str, value: float | None, limit: float, detail: str, rows: int, least: bool = False
    ) -> Check:
        """Compare a value with its bound, the greatest or the least; few rows breach nothing."""
        if value is None or (value >= limit if least else value <= limit):
            return Check(name, "pass", value, limit, detail)
        least_rows = self.job.quality.min_rows
        if rows < least_rows:
            few = f"{detail} (not held against {rows:,} rows; quality.min_rows is {least_rows:,})"
            return Check(name, "pass", value, limit, few)
        return Check(name, gate.on_breach, value, limit, detail)


def _span(drift: Drift) -> str:
    """Name the partitions that are compared with."""
    names = sorted(set(drift.previous_partitions))
    told = names[0] if len(names) == 1 else f"{len(names)} partitions, {names[0]} to {names[-1]}"
    return told if drift.same_fingerprint else f"{told} (scored by another model or with other settings)"


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
