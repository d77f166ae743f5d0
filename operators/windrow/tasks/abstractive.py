"""Abstractive summaries: written by a seq2seq checkpoint; long texts over parts, then over the parts' summaries."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.engines.base import Decoding, Engine
from windrow.errors import JobError, ModelError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens
from windrow.tasks.base import Scored
from windrow.tasks.sentences import count_words, first_words, sentences

__all__ = ["Abstractive", "parts_of"]

_TOKENS_PER_WORD = 1.5
_DEFAULT_TOKENS = 128
_SPECIAL_TOKENS = 4
_LEAST_ROOM = 8
_LEAST_SHRINKING = 0.8
_OPTIONS = ("num_beams", "length_penalty", "min_length", "no_repeat_ngram_size", "early_stopping")
_LIMITS = ("max_length", "max_new_tokens")
_EMPTY = ("empty_output", "the model wrote nothing")


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
        room = tokens.max_tokens - _SPECIAL_TOKENS - int(tokens.count([self.prefix])[0])
        if room < _LEAST_ROOM:
            raise JobError(f"task.prefix leaves no room in the model's {tokens.max_tokens} tokens.", "shorten it.")
        sizes = tokens.count(texts).tolist()
        return [
            [text] if size <= room else parts_of(text, room, tokens) for text, size in zip(texts, sizes, strict=True)
        ]

    def score(self, prepared: list[list[str]], engine: Engine, tokens: Tokens) -> Scored:
        """Summarise the parts, join them, and go on until each text is one part.

        A text whose parts' summaries take nearly as many parts as before keeps them joined, and counts as truncated.
        """
        texts = len(prepared)
        read = np.zeros(texts, dtype=np.int32)
        cut = np.zeros(texts, dtype=np.bool_)
        failed: dict[int, tuple[str, str]] = {}
        done: dict[int, str] = {}
        open_ = dict(enumerate(prepared))
        while open_:
            joined = self._round(open_, engine, tokens, read, cut, failed)
            again = [text for text in joined if len(open_[text]) > 1]
            done.update({text: summary for text, summary in joined.items() if text not in again})
            parts = dict(zip(again, self.prepare([joined[text] for text in again], tokens), strict=True))
            stuck = [text for text in again if len(parts[text]) > _LEAST_SHRINKING * len(open_[text])]
            done.update({text: joined[text] for text in stuck})
            cut[stuck] = True
            open_ = {text: part for text, part in parts.items() if text not in done}
        summaries = [self._shortened(done.get(text, ""), text, cut) for text in range(texts)]
        return Scored({"summary": pa.array(summaries, pa.string())}, read, cut, failed)

    def _round(
        self,
        open_: dict[int, list[str]],
        engine: Engine,
        tokens: Tokens,
        read: npt.NDArray[np.int32],
        cut: npt.NDArray[np.bool_],
        failed: dict[int, tuple[str, str]],
    ) -> dict[int, str]:
        """Summarise all parts of the open texts once; return the joined summaries of those that did not fail."""
        owners = np.asarray([text for text, parts in open_.items() for _ in parts], dtype=np.intp)
        windows = tokens.windows(
            [part for parts in open_.values() for part in parts], truncate=True, prefix=self.prefix
        )
        if not read[owners].any():  # of later rounds, only the model's own words are read
            np.add.at(read, owners, windows.tokens_per_row())
        cut[owners[windows.truncated]] = True
        outputs = engine.generate(windows, self.decoding)
        failed.update({int(owners[part]): why for part, why in outputs.failed.items()})
        written: dict[int, list[str]] = {text: [] for text in open_ if text not in failed}
        for owner, summary in zip(owners.tolist(), tokens.decode(outputs.values), strict=True):
            if owner in written:
                written[owner].extend(summary.replace("<n>", " ").split())
        failed.update({text: _EMPTY for text, words in written.items() if not words})
        return {text: " ".join(words) for text, words in written.items() if words}

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
    told = {**model.config, **_generation_config(model), **own}
    limit = math.ceil(max_words * _TOKENS_PER_WORD) if max_words else own.get("max_length")
    if not limit and not any(told.get(name) for name in _LIMITS):
        limit = _DEFAULT_TOKENS
    if limit and int(told.get("min_length") or 0) >= limit:
        options["min_length"] = limit // 2
    return Decoding(limit, options)


def _generation_config(model: ResolvedModel) -> dict[str, Any]:
    try:
        found = json.loads((model.folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def parts_of(text: str, room: int, tokens: Tokens) -> list[str]:
    """Cut a text at sentence ends into parts of at most `room` tokens, as even as they come.

    A sentence that does not fit is halved until its pieces do.
    """
    pieces = list(_fitting(sentences(text), room, tokens))
    sizes = tokens.count(pieces).tolist()
    even = math.ceil(sum(sizes) / max(1, math.ceil(sum(sizes) / room)))
    parts: list[list[str]] = [[]]
    filled = 0
    for piece, size in zip(pieces, sizes, strict=True):
        if parts[-1] and (filled + size > room or filled >= even):
            parts.append([])
            filled = 0
        parts[-1].append(piece)
        filled += size
    return [" ".join(part) for part in parts]


def _fitting(pieces: list[str], room: int, tokens: Tokens) -> Iterable[str]:
    """Yield pieces of text, halved until each fits."""
    for piece, size in zip(pieces, tokens.count(pieces).tolist(), strict=True):
        if size <= room or len(piece) < 2:
            yield piece
            continue
        middle = piece.rfind(" ", 1, len(piece) // 2 + 1)
        middle = middle if middle > 0 else len(piece) // 2
        yield from _fitting([piece[:middle].strip(), piece[middle:].strip()], room, tokens)
