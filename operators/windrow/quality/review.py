"""What a person is shown who decides about a run: gates, both histograms of labels, sample rows; as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import compute

from windrow.duck import execute, literal, quoted
from windrow.publish import Scored, scored
from windrow.quality.measure import written_column

if TYPE_CHECKING:
    from windrow.job import Job
    from windrow.store import RunRef

__all__ = ["Review", "review"]

_BAR = 20
_LABELS = 20
_DRIFTED = 3
_TEXT = 200


@dataclass(frozen=True, slots=True)
class Review:
    """A question to a person: one line, and Markdown below it."""

    subject: str
    body: str


def review(job: Job, ref: RunRef) -> Review:
    """Describe a run that waits for a decision: which gates ask, the labels here and before, some rows.

    Rows are those whose texts this run has scored, of the labels that have grown most; where no label has drifted,
    those with the lowest scores. `quality.samples` says how many, and `quality.redact` hides their texts.

    Raises:
        StoreError: A text has no prediction yet, or the run's files are gone.
        WarehouseError: The ledger cannot be read.
    """
    with scored(job, ref) as run:
        receipt, quality = run.receipt, run.receipt.quality
        table, partition = _cell(receipt.table), _cell(receipt.partition)
        told = f"{receipt.rows_published:,} rows are ready and {receipt.rows_rejected:,} are rejects."
        parts = [
            f"Partition **{partition}** of **{table}**: {told} Nothing is published yet; the table is as it was.",
            "\n".join(_gates(quality["checks"])),
            "\n".join(_histograms(receipt.labels, quality["drift"])),
            "\n".join(_samples(job, run)),
            f"Run {receipt.run_id}, model {_cell(receipt.model)} at {receipt.revision[:12]}.",
        ]
    subject = f"Publish partition {receipt.partition} of {receipt.table}?"
    return Review(subject, "\n\n".join(filter(None, parts)))


def _gates(checks: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a table of the checks, those that ask first."""
    yield from ("| gate | says | found |", "|---|---|---|")
    for check in sorted(checks, key=lambda check: check["status"] != "ask"):
        said = {"ask": "**asks**", "warn": "warns", "pass": "passes"}.get(check["status"], check["status"])
        yield f"| {check['name']} | {said} | {_cell(check['detail'])} |"


def _moves(labels: dict[str, int], before: dict[str, int]) -> list[tuple[str, float, float]]:
    """Return labels with their shares here and before, those that moved most first."""
    totals = max(sum(labels.values()), 1), max(sum(before.values()), 1)
    shares = [(name, labels.get(name, 0) / totals[0], before.get(name, 0) / totals[1]) for name in {**before, **labels}]
    return sorted(shares, key=lambda move: -abs(move[1] - move[2]))


def _histograms(labels: dict[str, int], drift: dict[str, Any] | None) -> Iterator[str]:
    """Yield a table of the labels: their shares here and before as bars, and by how much they moved."""
    if not labels:
        return
    before = drift["previous"] if drift else {}
    moves = _moves(labels, before)
    yield from ("| label | here | before | moved by |", "|---|---|---|---|")
    for name, now, then in moves[:_LABELS]:
        moved = f"{100 * (now - then):+.1f} points" if drift else ""
        sides = f"{_bar(now)} {labels.get(name, 0):,} | {f'{_bar(then)} {before.get(name, 0):,}' if drift else ''}"
        yield f"| {_cell(name)} | {sides} | {moved} |"
    if len(moves) > _LABELS:
        yield f"| {len(moves) - _LABELS} more labels, which moved less | | | |"
    if drift:
        names = sorted(set(drift["previous_partitions"]))
        span = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        other = "" if drift["same_fingerprint"] else ", scored by another model or with other settings"
        yield f"\nBefore: {_cell(span)}{other}; the last run is {drift['previous_run_id']}."


def _bar(share: float) -> str:
    full = round(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {share:.1%},"


def _samples(job: Job, run: Scored) -> Iterator[str]:
    """Yield a table of sample rows; none where the job wants none, or no text is new."""
    if not job.quality.samples:
        return
    rows = _chosen(job, run)
    texts = _texts(run, rows["windrow_hash"].combine_chunks())
    if not texts:
        yield "No sample rows: the run has scored no text of these itself."
        return
    yield from ("| text | output | score |", "|---|---|---|")
    for row in rows.to_pylist():
        text = texts.get(row["windrow_hash"])
        if text is None:
            continue
        shown = f"hidden, {len(text):,} characters" if job.quality.redact else _cell(text[:_TEXT], len(text) > _TEXT)
        output = str(row["output"] or "")
        is_hidden = job.quality.redact and "label" not in run.task.columns.names
        told = f"hidden, {len(output):,} characters" if is_hidden else _cell(output[:_TEXT], len(output) > _TEXT)
        yield f"| {shown} | {told} | {'' if row['score'] is None else format(row['score'], '.3f')} |"


def _chosen(job: Job, run: Scored) -> pa.Table:
    """Choose predictions that this run has made: ``windrow_hash, output, score``."""
    columns = run.task.columns
    output = "label" if "label" in columns.names else written_column(columns)
    score = "score" if "score" in columns.names else "NULL::FLOAT"
    where = f"windrow_reason IS NULL AND windrow_scored_by = {literal(run.receipt.run_id)}"
    order = f"{score}, windrow_hash"
    risen = _risen(run) if output == "label" else []
    if risen:
        where += f" AND label IN ({', '.join(map(literal, risen))})"
        order = "row_number() OVER (PARTITION BY label ORDER BY windrow_hash), label"
    told = f"CAST({quoted(output)} AS VARCHAR)" if output else "NULL::VARCHAR"
    query = f"SELECT windrow_hash, {told} AS output, {score} AS score FROM found WHERE {where} ORDER BY {order}"
    return execute(run.con, f"{query} LIMIT {job.quality.samples}").to_arrow_table()


def _risen(run: Scored) -> list[str]:
    """Return the labels whose shares have grown most, if the labels are what a gate asks about."""
    asks = any(c["status"] == "ask" and c["name"].startswith("label_drift") for c in run.receipt.quality["checks"])
    if not asks:
        return []
    moves = _moves(run.receipt.labels, run.receipt.quality["drift"]["previous"])
    return [name for name, now, then in moves if now > then][:_DRIFTED]


def _texts(run: Scored, hashes: pa.Array) -> dict[bytes, str]:
    """Return texts by hash, as far as the run's shards hold them; images are no texts."""
    found: dict[bytes, str] = {}
    for name, _, _ in run.store.listed(f"{run.manifest.ref.folder}/shards", ".arrow"):
        shard = run.store.read_arrow(name)
        if len(found) == len(hashes) or not pa.types.is_string(shard.schema.field("windrow_text").type):
            break
        ours = shard.filter(compute.is_in(shard["windrow_hash"], value_set=hashes.cast(shard["windrow_hash"].type)))
        found.update(zip(ours["windrow_hash"].to_pylist(), ours["windrow_text"].to_pylist(), strict=True))
    return found


def _cell(text: str, is_cut: bool = False) -> str:
    r"""Write a text as one cell of a table: nothing in it is markup, and it stays on its line.

    >>> _cell("a | b\n<b>*c*")
    'a \\| b \\<b\\>\\*c\\*'
    """
    line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>()#|~!" else letter for letter in line) + "…" * is_cut
