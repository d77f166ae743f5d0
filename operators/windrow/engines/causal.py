"""Decoders alone (Llama, Qwen, GPT-2 …): greedy writing, and the scores of the next token."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.base import Decoding

__all__ = ["DEFAULT_NEW_TOKENS", "answers", "greedy", "next_logits", "written"]

Ints = npt.NDArray[np.int32]
DEFAULT_NEW_TOKENS = 256
_UNSAMPLED = {"do_sample": False, "num_return_sequences": 1, "max_length": None, "return_dict_in_generate": False}
_UNSAMPLED |= dict.fromkeys(("temperature", "top_p", "top_k", "min_p", "typical_p", "top_h"))


def greedy(model: Any, decoding: Decoding, pad_id: int) -> Any:
    """Return the checkpoint's generation configuration, bounded, and with nothing sampled."""
    limit = decoding.max_new_tokens or DEFAULT_NEW_TOKENS
    config = copy.deepcopy(model.generation_config)
    config.update(**_UNSAMPLED | {"max_new_tokens": limit, "pad_token_id": pad_id} | decoding.options)
    return config


def written(model: Any, ids: torch.Tensor, mask: torch.Tensor, config: Any, watch: Any) -> list[Ints]:
    """Let a decoder write on; return the new tokens of each row, without the end token and what follows it.

    Args:
        model: A causal language model.
        ids: Prompts, padded on the left, shape ``(rows, longest)``.
        mask: Which tokens are no padding, same shape.
        config: From `greedy`.
        watch: A logits processor.
    """
    made = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=[watch])
    return answers(made[:, ids.shape[1] :].cpu().numpy(), config)


def answers(sequences: Any, config: Any) -> list[Ints]:
    """Cut each sequence before its first end token."""
    ends = np.atleast_1d(np.asarray([] if config.eos_token_id is None else config.eos_token_id, dtype=np.int64))
    rows = [np.asarray(sequence, dtype=np.int32) for sequence in sequences]
    stops = [np.flatnonzero(np.isin(row, ends)) for row in rows]
    return [row[: stop[0]] if len(stop) else row for row, stop in zip(rows, stops, strict=True)]


def next_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, candidates: tuple[int, ...]) -> torch.Tensor:
    """Return the candidates' logits after the last token, shape ``(rows, candidates)``.

    The vocabulary's scores are computed for that one position only, where the architecture allows it.

    Args:
        model: A causal language model.
        ids: Padded on the left, shape ``(rows, longest)``.
        mask: Which tokens are no padding, same shape; None if all are.
        candidates: Token ids.
    """
    known = inspect.signature(model.forward).parameters
    extra: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
    if mask is not None and "position_ids" in known:
        extra["position_ids"] = (mask.cumsum(dim=-1) - 1).clamp(min=0)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits[:, -1]
    chosen: torch.Tensor = logits[:, list(candidates)]
    return chosen
