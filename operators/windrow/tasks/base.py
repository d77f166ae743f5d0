"""The seam of tasks: texts in, columns out. A task knows nothing of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.engines.base import Engine
from windrow.models.tokens import Tokens

__all__ = ["Scored", "Task"]


@dataclass(slots=True)
class Scored:
    """Predictions of one shard, in the order of its texts.

    Attributes:
        columns: The task's columns, each of shape ``(texts,)``; values of failed texts are ignored.
        tokens: Tokens that the model read of each text, int32, shape ``(texts,)``.
        truncated: Whether a text lost tokens on the way, shape ``(texts,)``.
        failed: Reason code and detail by index of the texts without a prediction.
    """

    columns: Mapping[str, pa.Array]
    tokens: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)


class Task(Protocol):
    """What is asked of a text.

    Attributes:
        name: As in the job.
        head: What the checkpoint must have: ``classify``, ``embed`` or ``generate``.
        version: Counts changes of the code that turns outputs into columns; part of the fingerprint.
        columns: The columns that it adds, of shape ``(rows,)`` each.
        labels: Number of classes, where there are any.
    """

    name: str
    head: str
    version: int
    columns: pa.Schema
    labels: int | None

    def parameters(self) -> dict[str, Any]:
        """Return all that changes the predictions, as JSON-ready values; part of the fingerprint."""
        ...

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> Any:
        """Turn texts into what `score` needs; runs beside the device, one shard ahead."""
        ...

    def score(self, prepared: Any, engine: Engine, tokens: Tokens) -> Scored:
        """Run the engine and turn its outputs into columns."""
        ...
