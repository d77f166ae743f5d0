"""Quality gates as a job asks for them: what must hold of a partition, and what happens where it does not."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "ConfidenceGate",
    "EmptyOutputsGate",
    "Gate",
    "Gates",
    "LabelDriftGate",
    "LengthGate",
    "OnBreach",
    "RejectShareGate",
]

OnBreach = Literal["fail", "warn", "ask"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gate(_Strict):
    """One gate."""

    on_breach: OnBreach = Field(
        "fail", description="fail: publish nothing; warn: publish and say so; ask: let a person decide"
    )


class RejectShareGate(Gate):
    """Rejected rows, as a share of all."""

    max_share: float = Field(ge=0, le=1, description="Most rejected rows, as a share of all")


class LabelDriftGate(Gate):
    """Labels against those of earlier partitions: a breach is large (`max_psi`) and no accident (`max_p_value`)."""

    max_psi: float = Field(0.25, ge=0, description="Greatest population stability index; above 0.25 it is a shift")
    max_p_value: float = Field(
        0.01, gt=0, le=1, description="Chi-square's p-value at or below which a difference is no accident"
    )
    partitions: int = Field(7, ge=1, le=366, description="Earlier partitions to compare with, taken together")


class ConfidenceGate(Gate):
    """Scores of the labels, over published rows."""

    min_mean: float | None = Field(None, ge=0, le=1, description="Least mean score")
    low: float = Field(0.5, ge=0, le=1, description="Scores below this count as low")
    max_low_share: float | None = Field(None, ge=0, le=1, description="Most rows with a low score, as a share")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min_mean is None and self.max_low_share is None:
            raise ValueError("give min_mean, max_low_share or both")
        return self


class LengthGate(Gate):
    """Length of what was written, in characters; of tasks that write nothing, tokens read a row."""

    min_mean: float | None = Field(None, ge=0, description="Least mean length")
    max_mean: float | None = Field(None, gt=0, description="Greatest mean length")

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min_mean is None and self.max_mean is None:
            raise ValueError("give min_mean, max_mean or both")
        if self.min_mean is not None and self.max_mean is not None and self.min_mean > self.max_mean:
            raise ValueError("min_mean is greater than max_mean")
        return self


class EmptyOutputsGate(Gate):
    """Rows for which nothing came out: blank text, an empty list, or the reject ``empty_output``."""

    max_share: float = Field(ge=0, le=1, description="Most empty outputs, as a share of scored rows")


class Gates(_Strict):
    """Field ``quality`` of a job; a gate that is not named is not kept."""

    reject_share: RejectShareGate | None = Field(None, description="Rejected rows")
    label_drift: LabelDriftGate | None = Field(None, description="Labels against those of earlier partitions")
    confidence: ConfidenceGate | None = Field(None, description="Scores of the labels")
    length: LengthGate | None = Field(None, description="Length of what was written, or tokens read")
    empty_outputs: EmptyOutputsGate | None = Field(None, description="Rows for which nothing came out")
    min_rows: int = Field(100, ge=1, description="Partitions of fewer rows breach no gate")
    samples: int = Field(5, ge=0, le=20, description="Rows to show to the person who is asked")
    redact: bool = Field(False, description="Show no text to the person who is asked")
    answer_hours: float | None = Field(
        None, gt=0, description="In Airflow: how long a person may take; then nothing is published"
    )
