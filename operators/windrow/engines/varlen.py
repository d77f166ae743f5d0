"""Attention over rows that lie one after another, none padded; known to Transformers by a name of its own.

Where a model is called without row bounds, it attends as under ``sdpa``, so one model serves both ways.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["NAME", "attend_rows", "register"]

NAME = "windrow_varlen"
NO_WINDOW = -1


def register() -> str:
    """Make the attention known to Transformers; return its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def attend_rows(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bounds_q: torch.Tensor,
    bounds_k: torch.Tensor,
    longest: tuple[int, int],
    scale: float,
    window: int = NO_WINDOW,
) -> torch.Tensor:
    """Attend within each row: by PyTorch's flash attention on CUDA, row after row elsewhere.

    Args:
        query: Shape ``(queries, heads, size)``, all rows one after another.
        key: Shape ``(tokens, heads, size)``; `value` too.
        bounds_q: Where each row's queries start, and where the last ends, int32, shape ``(rows + 1,)``.
        bounds_k: The same of keys and values.
        longest: Most queries and most keys of a row.
        scale: Of the products of query and key.
        window: Tokens to either side that a token attends to; -1 for all.

    Returns:
        Shape ``(queries, heads, size)``.

    Raises:
        RuntimeError: The GPU or the dtype has no such kernel: it needs compute capability 8.0, fp16 or bf16.
    """
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        sides = (window, window)
        made = varlen_attn(query, key, value, bounds_q, bounds_k, *longest, scale=scale, window_size=sides)
        return made if isinstance(made, torch.Tensor) else made[0]
    return torch.cat(
        [
            _one_row(query[a:b], key[c:d], value[c:d], scale, window)
            for (a, b), (c, d) in zip(_ranges(bounds_q), _ranges(bounds_k), strict=True)
        ]
    )


def _ranges(bounds: torch.Tensor) -> list[tuple[int, int]]:
    places = bounds.tolist()
    return list(pairwise(places))


def _one_row(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, window: int) -> torch.Tensor:
    """Attend within one row, exactly."""
    mask = None
    if window != NO_WINDOW:
        places = torch.arange(len(key), device=key.device)
        mask = (places[: len(query), None] - places).abs() <= window
    asked, keys, values = (part.transpose(0, 1)[None] for part in (query, key, value))
    return scaled_dot_product_attention(asked, keys, values, attn_mask=mask, scale=scale)[0].transpose(0, 1)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as Transformers asks for it: states ``(1, heads, tokens, size)`` in, ``(1, tokens, heads, size)`` out."""
    if kwargs.get("cu_seq_lens_q") is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        made, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        return made, None
    asked, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    mixed = attend_rows(
        asked,
        keys,
        values,
        kwargs["cu_seq_lens_q"],
        kwargs["cu_seq_lens_k"],
        (kwargs["max_length_q"], kwargs["max_length_k"]),
        query.shape[-1] ** -0.5 if scaling is None else scaling,
        NO_WINDOW if sliding_window is None else sliding_window - 1,
    )
    return mixed[None], None
