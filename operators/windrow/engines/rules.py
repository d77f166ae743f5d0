"""What greedy decoding has to obey, as `model.generate` itself works it out; and the best token under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation import logits_process as processing
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from windrow.engines.base import Decoding

__all__ = ["Rules", "chosen", "limits_of", "rules_of"]

_AT_LENGTHS: dict[type, Callable[[Any, int], bool]] = {
    processing.MinLengthLogitsProcessor: lambda one, length: length < one.min_length,
    processing.MinNewTokensLengthLogitsProcessor: (
        lambda one, length: length - one.prompt_length_to_skip < one.min_new_tokens
    ),
    processing.ForcedBOSTokenLogitsProcessor: lambda _, length: length == 1,
    processing.ForcedEOSTokenLogitsProcessor: lambda one, length: length == one.max_length - 1,
    processing.SuppressTokensAtBeginLogitsProcessor: lambda one, length: length == one.begin_index,
    processing.NoRepeatNGramLogitsProcessor: lambda one, length: length + 1 >= one.ngram_size,
    processing.RepetitionPenaltyLogitsProcessor: lambda *_: True,
    processing.NoBadWordsLogitsProcessor: lambda *_: True,
    processing.SequenceBiasLogitsProcessor: lambda *_: True,
    processing.SuppressTokensLogitsProcessor: lambda *_: True,
    processing.InfNanRemoveLogitsProcessor: lambda *_: True,
}
"""At which lengths of a row, its first token included, a processor of scores does anything."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a row begins, ends, and what it may hold.

    Attributes:
        start: The decoder's first token.
        ends: Tokens that end a row.
        max_length: Most tokens of a row, the first included.
        processors: Change the scores before the best is taken, in their order.
    """

    start: int
    ends: frozenset[int]
    max_length: int
    processors: tuple[Any, ...] = ()


def limits_of(decoding: Decoding) -> dict[str, Any]:
    """Return the limits of a decoding as `model.generate` takes them."""
    return {"max_new_tokens": decoding.max_new_tokens, "max_length": None} if decoding.max_new_tokens else {}


def rules_of(model: Any, decoding: Decoding) -> Rules | None:
    """Return the rules of a decoding; None where they are not greedy ones, or need what is not known here.

    `model.generate` prepares all of it for a made-up row and hands it over instead of decoding, so that the
    checkpoint's configuration, the job's options and the defaults are weighed as ever.
    """
    found: list[Rules] = []

    def look(_: Any, input_ids: torch.Tensor, **told: Any) -> torch.Tensor:
        processors, stops, config = told["logits_processor"], told["stopping_criteria"], told["generation_config"]
        known = all(type(one) in _AT_LENGTHS for one in processors)
        known &= all(isinstance(one, (EosTokenCriteria, MaxLengthCriteria)) for one in stops)
        single = max(config.num_beams or 1, config.num_return_sequences or 1) == 1 and not config.do_sample
        if known and single and config.use_cache and input_ids.shape == (1, 1):
            ends = {int(i) for one in stops if isinstance(one, EosTokenCriteria) for i in one.eos_token_id}
            found.append(Rules(int(input_ids[0, 0]), frozenset(ends), int(config.max_length), tuple(processors)))
        return input_ids

    ids = torch.ones((1, 1), dtype=torch.long, device=model.device)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "custom_generate": look}
    model.generate(**given, **limits_of(decoding), **decoding.options)
    return found[0] if found else None


def chosen(rules: Rules, logits: torch.Tensor, written: Sequence[Sequence[int]]) -> list[int]:
    """Return the best next token of each row, -1 where its scores are no numbers.

    Args:
        logits: Of the last token of each row, shape ``(rows, 1, vocabulary)``.
        written: Tokens of each row so far, the first included; rows differ in length.
    """
    scores = logits[:, -1].to(torch.float32)
    for processor in rules.processors:
        scores = _processed(processor, scores, written)
    tokens = scores.argmax(dim=-1)
    wrong = torch.isnan(scores.gather(1, tokens[:, None])[:, 0])
    found: list[int] = torch.where(wrong, -1, tokens).tolist()
    return found


def _processed(processor: Any, scores: torch.Tensor, written: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return the scores of all rows, changed by a processor that expects rows of one length."""
    if _is_blind(processor):
        changed: torch.Tensor = processor(
            torch.zeros((len(written), 1), dtype=torch.long, device=scores.device), scores
        )
        return changed
    by_length: dict[int, list[int]] = {}
    for row, tokens in enumerate(written):
        by_length.setdefault(len(tokens), []).append(row)
    for length, rows in by_length.items():
        if _AT_LENGTHS[type(processor)](processor, length):
            ids = torch.tensor([written[row] for row in rows], device=scores.device)
            scores[rows] = processor(ids, scores[rows])
    return scores


def _is_blind(processor: Any) -> bool:
    """Tell whether a processor never looks at what was written."""
    if isinstance(processor, processing.SequenceBiasLogitsProcessor):
        return all(len(tokens) == 1 for tokens in processor.sequence_bias)
    return isinstance(processor, (processing.SuppressTokensLogitsProcessor, processing.InfNanRemoveLogitsProcessor))
