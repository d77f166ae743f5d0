"""Token vectors into one vector a window, as Sentence Transformers does."""

from __future__ import annotations

from collections.abc import Callable

import torch

from windrow.models.sentence_settings import POOLINGS

__all__ = ["POOLINGS", "pooled", "pooled_in_all_ways"]


def _mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    inside = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * inside).sum(dim=1) / inside.sum(dim=1)


def _first(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:  # noqa: ARG001 (padding stands at the end)
    return hidden[:, 0]


def _highest(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(mask.unsqueeze(-1) == 0, torch.finfo(hidden.dtype).min).amax(dim=1)


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    ends = (mask.sum(dim=1) - 1).view(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, ends).squeeze(1)


_WAYS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": _mean,
    "cls": _first,
    "max": _highest,
    "lasttoken": _last,
}
"""By the names in `POOLINGS`; each takes states ``(rows, tokens, size)`` and a mask ``(rows, tokens)``."""


def pooled(hidden: torch.Tensor, mask: torch.Tensor | None, pooling: str, unit: bool) -> torch.Tensor:
    """Return one vector a row, float32, shape ``(rows, size)``.

    Args:
        hidden: Last hidden states, shape ``(rows, tokens, size)``.
        mask: Whether a token is inside its window, shape ``(rows, tokens)``; None where all are.
        pooling: Name in `POOLINGS`.
        unit: Scale each vector to length one.
    """
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.int64, device=hidden.device)
    vectors = _WAYS[pooling](hidden.float(), mask)
    return torch.nn.functional.normalize(vectors, dim=-1) if unit else vectors


def pooled_in_all_ways(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the vectors of all poolings side by side, in the order of `POOLINGS`, shape ``(rows, ways * size)``."""
    return torch.cat([_WAYS[name](hidden, mask) for name in POOLINGS], dim=-1)
