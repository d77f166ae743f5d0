"""The seam of engines: token ids in, numbers out. An engine knows nothing of what they mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from windrow.models.tokens import Windows

__all__ = ["Decoding", "Engine", "EnginePlan", "Outputs"]

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How a model is to be run.

    Attributes:
        engine: Name in `windrow.engines.ENGINES`.
        head: ``classify``, ``embed`` or ``generate``.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: Numerics class: ``fp32``, ``bf16``, ``fp16``.
        labels: Number of classes, where the head is ``classify`` and an adapter adds it.
    """

    engine: str
    head: str
    device: str
    precision: str
    labels: int | None = None


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is generated; `options` go to the checkpoint's generation configuration."""

    max_new_tokens: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Outputs:
    """What came out, by window.

    Attributes:
        values: Logits ``(windows, labels)`` or vectors ``(windows, size)``; for generation a list
            of token id arrays. Rows of failed windows are meaningless.
        failed: Reason code and detail of the windows that the model could not take.
    """

    values: Any
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)


class Engine(Protocol):
    """One resident model on one device."""

    plan: EnginePlan

    def classify(self, windows: Windows) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``."""
        ...

    def embed(self, windows: Windows) -> Outputs:
        """Return mean-pooled, unit-length vectors, float32, shape ``(windows, size)``."""
        ...

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return generated token ids, one int32 array a window."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...
