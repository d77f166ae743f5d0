"""Whether greedy decoding by `windrow.engines.decoding` says what the model itself says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from windrow.engines.decoding import Greedy, Loop, Work
from windrow.engines.rules import Rules
from windrow.engines.slots import positions_apart
from windrow.models.windows import Windows

__all__ = ["is_right", "made_up", "scores_of"]

_PROBE_LENGTHS = (11, 3, 6, 2, 8)
_PROBE_TOKENS = 9
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-1, torch.float16: 1e-2}
"""By how much of their spread scores may differ."""
_UNFIT = (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError)


def is_right(greedy: Greedy, vocabulary: int, start: int) -> bool:
    """Tell whether the loop says of made-up rows what the model says without a cache; some enter late.

    Architectures keep positions and caches in ways of their own; their own outputs decide.
    """
    in_hand = replace(greedy.in_hand, slots=2, encoder_tokens=2 * max(_PROBE_LENGTHS))
    work = Work(greedy, Rules(start, frozenset(), _PROBE_TOKENS), in_hand, made_up(vocabulary))
    try:
        with positions_apart(greedy.model.get_decoder()):
            loop = _ProbeLoop(work)
            loop.run()
        return not work.outputs.failed and all(
            _agrees(greedy, work.windows, row, tokens, loop.scores[row])
            for row, tokens in enumerate(work.outputs.values)
        )
    except _UNFIT:
        return False


def _agrees(greedy: Greedy, windows: Windows, row: int, tokens: Any, scores: list[torch.Tensor]) -> bool:
    expected = scores_of(greedy.model, *greedy.padded(windows, [row]), tokens.tolist())
    spread = expected.max(dim=-1).values - expected.mean(dim=-1)
    gap = (torch.stack(scores) - expected).abs().max(dim=-1).values
    return bool((gap <= _TOLERANCE.get(greedy.model.dtype, 1e-3) * spread).all())


class _ProbeLoop(Loop):
    """Ends its rows at different lengths, so that others enter beside rows that are half written; keeps all scores."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.scores: dict[int, list[torch.Tensor]] = {}

    def _chosen(self, logits: torch.Tensor, rows: list[int], written: list[list[int]]) -> list[int]:
        for place, row in enumerate(rows):
            self.scores.setdefault(row, []).append(logits[place, -1].float())
        return super()._chosen(logits, rows, written)

    def _is_done(self, row: int, tokens: list[int]) -> bool:
        return len(tokens) >= self.rules.max_length - 2 * (row % 3)


def made_up(vocabulary: int) -> Windows:
    """Return windows of several lengths, seeded."""
    sizes = np.asarray(_PROBE_LENGTHS, dtype=np.int64)
    made = np.random.default_rng(0).integers(min(5, vocabulary - 1), vocabulary, int(sizes.sum()))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
    rows = np.arange(len(sizes), dtype=np.int32)
    return Windows(made.astype(np.int32), offsets, rows, np.zeros(len(sizes), dtype=np.bool_))


def scores_of(model: Any, ids: torch.Tensor, mask: torch.Tensor | None, tokens: list[int]) -> torch.Tensor:
    """Return the scores of a row's next tokens, made at once and without a cache, float32.

    Args:
        ids: Of the source, shape ``(1, source tokens)``.
        mask: Of the source, if anything is padded.
        tokens: What was written, the decoder's first token included.

    Returns:
        Shape ``(tokens - 1, vocabulary)``.
    """
    written = torch.tensor(tokens[:-1], device=ids.device)
    with torch.inference_mode():
        made = model(input_ids=ids, attention_mask=mask, decoder_input_ids=written[None], use_cache=False)
    scores: torch.Tensor = made.logits[0].float().clone()
    return scores
