"""What gates ask of the predictions, as one query over rows and predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from windrow.duck import execute, quoted
from windrow.errors import JobError
from windrow.quality.gates import Gates

if TYPE_CHECKING:
    from windrow.tasks import Task

__all__ = ["Measures", "check_gates", "measured", "written_column"]


@dataclass(frozen=True, slots=True)
class Measures:
    """Over published rows; None where there are none, or nobody asked.

    Attributes:
        mean_score: Mean of `score`.
        low_share: Rows whose score is low, as a share.
        mean_length: Mean characters written, or tokens read.
        empty: Rows for which nothing came out.
    """

    mean_score: float | None = None
    low_share: float | None = None
    mean_length: float | None = None
    empty: int = 0


def check_gates(gates: Gates, task: Task) -> None:
    """Refuse gates over columns that the task does not make, before anything is scored.

    Raises:
        JobError: A gate needs a label or a score, and the task gives none.
    """
    needs = {"label_drift": (gates.label_drift, "label"), "confidence": (gates.confidence, "score")}
    for name, (gate, column) in needs.items():
        if gate and column not in task.columns.names:
            raise JobError(
                f"quality.{name} needs a column {column!r}, but task {task.name!r} gives "
                f"{', '.join(task.columns.names)}.",
                f"remove quality.{name}; length and empty_outputs are for every task.",
            )


def written_column(columns: pa.Schema) -> str | None:
    """Return the task's column of text that it writes, if it writes any; a label is chosen, not written."""
    kinds = (pa.types.is_string, pa.types.is_large_string)
    texts = (f.name for f in columns if f.name != "label" and any(is_text(f.type) for is_text in kinds))
    return next(texts, None)


def measured(con: duckdb.DuckDBPyConnection, gates: Gates, columns: pa.Schema) -> Measures:
    """Measure what the gates ask for.

    Args:
        con: Has the view ``rows`` and the table ``found``.
        gates: Those of the job.
        columns: The task's columns.
    """
    if not (gates.confidence or gates.length or gates.empty_outputs):
        return Measures()
    written = written_column(columns)
    score, low = ("score", gates.confidence.low) if gates.confidence else ("NULL", 0.0)
    length = f"length({quoted(written)})" if written else "windrow_tokens"
    asked = (
        f"avg({score}::DOUBLE), avg(({score} < {low})::INT), avg({length}::DOUBLE), "
        f"count(*) FILTER (WHERE {_is_empty(columns, written)})"
    )
    query = f"SELECT {asked} FROM rows JOIN found USING (windrow_hash) WHERE windrow_reason IS NULL"
    return Measures(*execute(con, query).fetchall()[0])


def _is_empty(columns: pa.Schema, written: str | None) -> str:
    """Return the condition that nothing came out."""
    field = columns.field(written) if written else columns.field(0)
    name = quoted(field.name)
    return f"coalesce(len({name}), 0) = 0" if pa.types.is_nested(field.type) else f"coalesce(trim({name}), '') = ''"
