"""Which checkpoints engine ``native``'s kernels run, told by the configuration alone."""

from __future__ import annotations

from typing import Any

__all__ = ["FAIRSEQ", "KINDS", "PANEL", "heads_of", "unfit"]

KINDS = frozenset({"bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta"})
FAIRSEQ = frozenset({"camembert", "roberta", "xlm-roberta"})
"""Of these, positions count the tokens that are no padding, from the one after padding's own."""
PANEL = 64
"""Outputs that the kernels compute together."""
_HALF_PANEL, _LARGEST_HEAD = 32, 256
_SIZES = {"hidden": ("hidden_size", "dim"), "inner": ("intermediate_size", "hidden_dim")}
_HEADS = ("num_attention_heads", "n_heads")


def unfit(config: dict[str, Any]) -> str:
    """Return why a checkpoint's encoder is not one that the kernels run; empty if it is.

    >>> unfit({"model_type": "bert", "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536,
    ...        "hidden_act": "gelu"})
    ''
    >>> unfit({"model_type": "deberta-v2"})
    'models of type deberta-v2 are not among those that it runs'
    """
    kind = str(config.get("model_type"))
    if kind not in KINDS:
        return f"models of type {kind} are not among those that it runs"
    hidden, inner = (_first(config, names) for names in _SIZES.values())
    count = heads_of(config) or 1
    size = hidden // count
    if not hidden or not inner or hidden % count or hidden % PANEL or inner % PANEL:
        return f"sizes {hidden} and {inner} are no multiples of {PANEL}"
    if size % _HALF_PANEL or size > _LARGEST_HEAD:
        return f"heads of size {size} are no multiple of {_HALF_PANEL} up to {_LARGEST_HEAD}"
    if (activation := config.get("hidden_act", config.get("activation", "gelu"))) != "gelu":
        return f"its activation is {activation}, not gelu"
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("is_decoder"):
        return "its positions are not absolute, or it is a decoder"
    if (config.get("embedding_size") or hidden) != hidden:
        return "its embeddings have another size than its states"
    return ""


def heads_of(config: dict[str, Any]) -> int:
    """Return the attention heads of a checkpoint; 0 if it does not tell."""
    return _first(config, _HEADS)


def _first(config: dict[str, Any], names: tuple[str, ...]) -> int:
    return next((int(config[name]) for name in names if config.get(name)), 0)
