"""A classification head reads only the first token, so the last layer need compute no other.

The last layer's keys and values are still made for all tokens; its query, attention output and feed-forward
part are made for the first token alone: 10 of 12 parts of that layer's products are saved, exactly.
"""

from __future__ import annotations

from typing import Any

import torch

from windrow.engines.varlen import attend_rows

__all__ = ["FirstTokenLayer", "shorten_last_layer"]

_PROBE_TOKENS = 24
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class FirstTokenLayer(torch.nn.Module):
    """A BERT-like encoder layer that returns the first token's state only, shape ``(rows, 1, size)``."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **packed: Any
    ) -> torch.Tensor:
        """Run the layer for the first token.

        Args:
            hidden: States of all tokens, shape ``(rows, tokens, size)``.
            attention_mask: As `scaled_dot_product_attention` takes it, shape ``(rows, 1, tokens, tokens)``.
            packed: The bounds of packed rows (``cu_seq_lens_k``, ``max_length_k``), if they are; `hidden` has then
                shape ``(1, tokens, size)``, and what is returned ``(1, rows, size)``.
        """
        if packed.get("cu_seq_lens_k") is not None:
            return self._packed(hidden[0], packed["cu_seq_lens_k"], packed["max_length_k"])[None]
        attention = self.layer.attention
        own = attention.self
        first = hidden[:, :1]
        shape = (hidden.shape[0], -1, own.num_attention_heads, own.attention_head_size)
        query, key, value = (
            project(states).view(shape).transpose(1, 2)
            for project, states in ((own.query, first), (own.key, hidden), (own.value, hidden))
        )
        mask = attention_mask[..., :1, :] if attention_mask is not None else None
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=own.scaling)
        attended = attention.output(mixed.transpose(1, 2).reshape(first.shape[0], 1, -1), first)
        made: torch.Tensor = self.layer.output(self.layer.intermediate(attended), attended)
        return made

    def _packed(self, hidden: torch.Tensor, bounds: torch.Tensor, longest: int) -> torch.Tensor:
        """Run the layer for the first token of rows that lie one after another, shape ``(tokens, size)``."""
        attention = self.layer.attention
        own = attention.self
        first = hidden.index_select(0, bounds[:-1])
        query, key, value = (
            project(states).view(len(states), own.num_attention_heads, own.attention_head_size)
            for project, states in ((own.query, first), (own.key, hidden), (own.value, hidden))
        )
        each = torch.arange(len(bounds), dtype=bounds.dtype, device=bounds.device)
        mixed = attend_rows(query, key, value, each, bounds, (1, longest), own.scaling)
        attended = attention.output(mixed.reshape(len(first), -1), first)
        made: torch.Tensor = self.layer.output(self.layer.intermediate(attended), attended)
        return made


def shorten_last_layer(model: Any) -> bool:
    """Replace the last layer of a BERT-like classifier by a `FirstTokenLayer`, where that changes nothing.

    The model's own outputs on a probe decide; where they differ, or the architecture is another, the
    model stays as it was.

    Returns:
        Whether it was replaced.
    """
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    if not layers or not _is_bert_like(layers[-1]) or model.config._attn_implementation != "sdpa":
        return False
    last = layers[-1]
    with torch.inference_mode():
        expected = _probed(model)
        layers[-1] = FirstTokenLayer(last)
        try:
            same = torch.allclose(_probed(model), expected, atol=_TOLERANCE.get(expected.dtype, 1e-4), rtol=1e-3)
        except (RuntimeError, TypeError, AttributeError, IndexError):
            same = False
    if not same:
        layers[-1] = last
    return same


def _is_bert_like(layer: Any) -> bool:
    own = getattr(getattr(layer, "attention", None), "self", None)
    parts = all(
        hasattr(own, name)
        for name in ("query", "key", "value", "num_attention_heads", "attention_head_size", "scaling")
    )
    is_decoder = getattr(layer, "is_decoder", False)
    return (
        parts
        and not is_decoder
        and hasattr(layer, "intermediate")
        and hasattr(layer, "output")
        and hasattr(layer.attention, "output")
    )


def _probed(model: Any) -> torch.Tensor:
    """Return the logits of two made-up rows, one of them padded."""
    device = next(model.parameters()).device
    made = torch.Generator().manual_seed(0)
    tokens = min(_PROBE_TOKENS, max(2, model.config.max_position_embeddings - 2))
    ids = torch.randint(5, max(6, model.config.vocab_size), (2, tokens), generator=made)
    mask = torch.ones_like(ids)
    mask[1, tokens // 2 :] = 0
    logits: torch.Tensor = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits
    return logits
