"""Abstractive summaries: written by a seq2seq checkpoint; long texts over parts, then over the parts' summaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.engines.base import Decoding, Engine
from windrow.errors import ModelError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens
from windrow.tasks.base import Scored
from windrow.tasks.parts import (
    Tally,
    Written,
    cut_into_parts,
    read_generation_config,
    room_for,
    write_parts,
    written_by,
)
from windrow.tasks.sentences import count_words, first_words, sentences

__all__ = ["Abstractive"]

_TOKENS_PER_WORD = 1.5
_DEFAULT_TOKENS = 128
_LEAST_SHRINKING = 0.8
_OPTIONS = ("num_beams", "length_penalty", "min_length", "no_repeat_ngram_size", "early_stopping")
_LIMITS = ("max_length", "max_new_tokens")


class Abstractive:
    """A summary in the model's own words.

    Decoding is the checkpoint's own (its generation configuration, and ``task_specific_params.summarization``
    of its configuration), save that nothing is sampled: equal texts have equal summaries. A text for which the
    model writes nothing is a reject, ``empty_output``.
    """

    name = "summarise"
    head = "generate"
    version = 1
    columns = pa.schema([("summary", pa.string())])
    labels: int | None = None

    def __init__(self, model: ResolvedModel, max_words: int | None, prefix: str | None, num_beams: int | None) -> None:
        if model.architectures and model.has_head("ForSequenceClassification"):
            raise ModelError(
                f"Model {model.name!r} is a classifier.", "use a checkpoint that was trained to summarise."
            )
        specific = model.config.get("task_specific_params")
        own = (specific.get("summarization") if isinstance(specific, dict) else None) or {}
        self.prefix = str(own.get("prefix") or "") if prefix is None else prefix
        self.max_words = max_words
        self.decoding = _decoding(model, own, max_words, num_beams)

    def parameters(self) -> dict[str, Any]:
        """Return prefix, lengths and decoding options."""
        return {
            "style": "abstractive",
            "prefix": self.prefix,
            "max_words": self.max_words,
            "max_new_tokens": self.decoding.max_new_tokens,
            **self.decoding.options,
        }

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> list[list[str]]:
        """Cut each text into parts that the model can read, at sentence ends.

        Raises:
            JobError: The prefix leaves no room for a text.
        """
        return cut_into_parts(texts, tokens, self._room(tokens))

    def score(self, prepared: list[list[str]], engine: Engine, tokens: Tokens) -> Scored:
        """Summarise the parts, join them, and go on until each text is one part.

        A text whose parts' summaries take nearly as many parts as before keeps them joined, and counts as truncated.
        """
        tally = Tally.of(len(prepared))
        done: dict[int, str] = {}
        open_ = dict(enumerate(prepared))
        while open_:
            joined = write_parts(open_, lambda parts: self._written(parts, engine, tokens), tally)
            again = [text for text in joined if len(open_[text]) > 1]
            done.update({text: summary for text, summary in joined.items() if text not in again})
            parts = dict(zip(again, self.prepare([joined[text] for text in again], tokens), strict=True))
            stuck = [text for text in again if len(parts[text]) > _LEAST_SHRINKING * len(open_[text])]
            done.update({text: joined[text] for text in stuck})
            tally.cut[stuck] = True
            open_ = {text: part for text, part in parts.items() if text not in done}
        summaries = [self._shortened(done.get(text, ""), text, tally.cut) for text in range(len(prepared))]
        return Scored({"summary": pa.array(summaries, pa.string())}, tally.read, tally.cut, tally.failed)

    def _room(self, tokens: Tokens) -> int:
        """Return the most tokens of a part."""
        return room_for(self.prefix, tokens)

    def _written(self, parts: list[str], engine: Engine, tokens: Tokens) -> Written:
        """Have the model write about each part."""
        return written_by(engine, tokens, parts, self.prefix, self.decoding)

    def _shortened(self, summary: str, text: int, cut: npt.NDArray[np.bool_]) -> str:
        """Keep to `max_words`, at a sentence end where there is one; a cut inside a sentence is marked."""
        if not self.max_words or count_words(summary) <= self.max_words:
            return summary
        kept = ""
        for sentence in sentences(summary):
            longer = f"{kept} {sentence}".strip()
            if count_words(longer) > self.max_words:
                break
            kept = longer
        if not kept:
            cut[text] = True
        return kept or f"{first_words(summary, self.max_words)}…"


def _decoding(model: ResolvedModel, own: dict[str, Any], max_words: int | None, num_beams: int | None) -> Decoding:
    """Return limits and options; the engine adds what the checkpoint's generation configuration says."""
    options: dict[str, Any] = {"do_sample": False} | {name: own[name] for name in _OPTIONS if name in own}
    if num_beams:
        options["num_beams"] = num_beams
    told = {**model.config, **read_generation_config(model), **own}
    limit = math.ceil(max_words * _TOKENS_PER_WORD) if max_words else own.get("max_length")
    if not limit and not any(told.get(name) for name in _LIMITS):
        limit = _DEFAULT_TOKENS
    if limit and int(told.get("min_length") or 0) >= limit:
        options["min_length"] = limit // 2
    return Decoding(limit, options)
