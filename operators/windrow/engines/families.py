"""What differs between encoder families when rows are packed: numbering of positions, masks, and the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from windrow.engines.native_fit import FAIRSEQ

__all__ = ["FAMILIES", "Family", "first_tokens", "row_sums"]


def first_tokens(states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Return the state of each row's first token, shape ``(rows, size)``.

    Args:
        states: Of all tokens, shape ``(tokens, size)``, or of the first tokens alone.
        bounds: Where rows start, and where the last ends, shape ``(rows + 1,)``.
    """
    return states if len(states) == len(bounds) - 1 else states.index_select(0, bounds[:-1])


def row_sums(states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Return the sum of each row's states, float32, shape ``(rows, size)``; always added in the same order."""
    return torch.segment_reduce(states.float(), "sum", offsets=bounds, axis=0, unsafe=True)


Head = Callable[[Any, torch.Tensor, torch.Tensor], torch.Tensor]
"""Makes logits ``(rows, labels)`` of a classifier, its encoder's states ``(tokens, size)`` and the rows' bounds."""


def _bert(model: Any, states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    pooled: torch.Tensor = model.base_model.pooler(first_tokens(states, bounds)[:, None])
    made: torch.Tensor = model.classifier(pooled)
    return made


def _roberta(model: Any, states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = model.classifier(first_tokens(states, bounds)[:, None])
    return made


def _distilbert(model: Any, states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    pooled = torch.relu(model.pre_classifier(first_tokens(states, bounds)))
    made: torch.Tensor = model.classifier(pooled)
    return made


def _modernbert(model: Any, states: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    if model.config.classifier_pooling == "mean":
        pooled = (row_sums(states, bounds) / bounds.diff()[:, None]).to(states.dtype)
    else:
        pooled = first_tokens(states, bounds)
    made: torch.Tensor = model.classifier(model.head(pooled))
    return made


@dataclass(frozen=True, slots=True)
class Family:
    """How one family of encoders is called on packed rows.

    Attributes:
        head: Makes logits of the encoder's states.
        skips_padding: Positions count the tokens that are no padding, from ``padding_idx + 1`` (fairseq's numbering).
        looks_up_positions: Position embeddings are a table, so that a shift changes the outputs.
        mask: What stands for "no mask"; a family with local attention would build one itself.
    """

    head: Head
    skips_padding: bool = False
    looks_up_positions: bool = True
    mask: dict[str, None] | None = field(default=None)


_FAIRSEQ = Family(_roberta, skips_padding=True)
_ROTARY = {"full_attention": None, "sliding_attention": None}

FAMILIES = {
    "bert": Family(_bert),
    "distilbert": Family(_distilbert),
    "electra": Family(_roberta),
    "modernbert": Family(_modernbert, looks_up_positions=False, mask=_ROTARY),
    **dict.fromkeys(FAIRSEQ, _FAIRSEQ),
}
"""By ``model_type``; a family that is not here is padded."""
