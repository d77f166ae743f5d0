"""The seam of tasks: texts in, columns out. A task knows nothing of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.engines.base import Engine, EnginePlan
from windrow.models.tokens import Tokens

__all__ = ["Scored", "Task", "engine_plan"]


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
        head: What the checkpoint must have, as in `windrow.engines.EnginePlan`.
        version: Counts changes of the code that turns outputs into columns; part of the fingerprint.
        columns: The columns that it adds, of shape ``(rows,)`` each.
        labels: Number of classes, where there are any.

    A task with head ``next`` also has ``candidates(tokens)``, which returns the token ids that stand for its classes.
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


def engine_plan(task: Task, tokens: Tokens, engine: str, device: str, precision: str) -> EnginePlan:
    """Return how a task's model is to be run.

    Args:
        task: Says the head, the number of labels and, with head ``next``, the candidates.
        tokens: The model's tokenizer.
        engine: Name in `windrow.engines.ENGINES`.
        device: For example ``cpu``.
        precision: Numerics class.
    """
    candidates = task.candidates(tokens) if isinstance(task, _Choosing) else ()
    decoding = getattr(task, "decoding", None)
    return EnginePlan(engine, task.head, device, precision, task.labels, candidates=candidates, decoding=decoding)


@runtime_checkable
class _Choosing(Protocol):
    """A task whose classes are next tokens."""

    def candidates(self, tokens: Tokens) -> tuple[int, ...]: ...
