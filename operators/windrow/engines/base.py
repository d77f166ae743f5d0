"""The seam of engines: token ids in, numbers out. An engine knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from windrow.models.pictures import Pixels
from windrow.models.windows import Windows

__all__ = ["Decoding", "Engine", "EnginePlan", "Note", "Outputs"]

Floats = npt.NDArray[np.float32]
Note = Callable[[str, str, str], None]
"""Called with what was planned, what runs in its place, and why."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How text is generated; `options` go to the checkpoint's generation configuration."""

    max_new_tokens: int | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnginePlan:
    """How a model is to be run.

    Attributes:
        engine: Name in `windrow.engines.ENGINES`.
        head: ``classify``, ``tag``, ``embed``, ``generate`` or ``image``; ``pairs`` is ``classify`` over two sentences,
            told apart by `Windows.types`; ``next`` is the scores of a decoder's next token.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: Numerics class: ``fp32``, ``bf16``, ``fp16``, ``int8``.
        labels: Number of classes, where the head is ``classify`` or ``tag`` and an adapter adds it.
        token_budget: Most padded tokens in one forward pass; the engine's own unless given.
        candidates: Where the head is ``next``: the token ids whose next-token logits are the classes.
        decoding: How text is to be generated, where that is known: an engine may have no such way.
        notes: What was planned and did not run, for the receipt; all copies of a plan share the list.
    """

    engine: str
    head: str
    device: str
    precision: str
    labels: int | None = None
    token_budget: int | None = None
    candidates: tuple[int, ...] = ()
    decoding: Decoding | None = None
    notes: list[str] = field(default_factory=list, compare=False, repr=False)

    def note(self, planned: str, ran: str, why: str) -> None:
        """Write down a fall-back, once.

        >>> plan = EnginePlan("openvino", "classify", "cpu", "fp32")
        >>> plan.note("openvino", "torch", "The export failed.")
        >>> plan.notes
        ['planned: openvino; ran: torch; why: The export failed']
        """
        told = f"planned: {planned}; ran: {ran}; why: {why.strip().rstrip('.')}"
        if told not in self.notes:
            self.notes.append(told)


@dataclass(slots=True)
class Outputs:
    """What came out, by window.

    Attributes:
        values: Logits ``(windows, labels)`` or vectors ``(windows, size)``; for tags a list of logits
            ``(tokens, labels)``, for generation one of token id arrays. Rows of failed windows are meaningless.
        failed: Reason code and detail of the windows that the model could not take.
    """

    values: Any
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)


class Engine(Protocol):
    """One resident model on one device."""

    plan: EnginePlan

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``; with head ``next`` ``(windows, candidates)``.

        Where the head is ``image``, the windows are images.
        """
        ...

    def tag(self, windows: Windows) -> Outputs:
        """Return logits of every token: a list of float32 arrays ``(tokens, labels)``, one a window."""
        ...

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:
        """Return one vector a window, float32, shape ``(windows, size)``.

        Args:
            windows: What to read.
            pooling: How token vectors become one; see `windrow.engines.pooling`.
            unit: Scale each vector to length one.
        """
        ...

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return generated token ids, one int32 array a window; a decoder's without prompt and end token."""
        ...

    def close(self) -> None:
        """Release the device."""
        ...
