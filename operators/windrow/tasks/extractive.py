"""Extractive summaries: the most central sentences that repeat each other least, in their order.

Centrality is the mean cosine of a sentence with all others (degree centrality of LexRank, Erkan and
Radev 2004); redundancy is controlled by maximal marginal relevance (Carbonell and Goldstein 1998).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.engines.base import Engine
from windrow.models.tokens import Tokens, Windows
from windrow.tasks.base import Scored
from windrow.tasks.sentences import count_words, first_words, sentences

__all__ = ["Extractive", "choose"]

Floats = npt.NDArray[np.float32]
_SAME = 0.95
_SHORT_WORDS = 4
_LEAST_SHARE = 0.5
_MOST_SENTENCES = 16384


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Sentences of a shard: those of text ``t`` are ``parts[starts[t]:starts[t + 1]]``."""

    parts: list[str]
    starts: list[int]
    windows: Windows


class Extractive:
    """Sentences of the text itself, at most `max_words` words of them."""

    name = "summarise"
    head = "embed"
    version = 1
    columns = pa.schema([("summary", pa.string())])
    labels: int | None = None

    def __init__(self, max_words: int, redundancy: float) -> None:
        self.max_words = max_words
        self.redundancy = redundancy

    def parameters(self) -> dict[str, Any]:
        """Return style, length and the weight of novelty."""
        return {"style": "extractive", "max_words": self.max_words, "redundancy": self.redundancy}

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> _Prepared:
        """Split the texts into sentences and tokenise those."""
        split = [_fewer(sentences(text)) or [text] for text in texts]
        starts = np.concatenate([[0], np.cumsum([len(parts) for parts in split])]).astype(int).tolist()
        parts = [part for own in split for part in own]
        return _Prepared(parts, starts, tokens.windows(parts))

    def score(self, prepared: _Prepared, engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Choose the sentences of each text by their vectors."""
        outputs = engine.embed(prepared.windows)
        vectors = _per_sentence(outputs.values, prepared.windows, len(prepared.parts))
        broken = {int(prepared.windows.rows[window]): why for window, why in outputs.failed.items()}
        texts = len(prepared.starts) - 1
        summaries, cut, failed = [""] * texts, np.zeros(texts, dtype=np.bool_), {}
        per_sentence = prepared.windows.tokens_per_row()
        read = np.add.reduceat(per_sentence, prepared.starts[:-1]).astype(np.int32) if texts else np.zeros(0, np.int32)
        for text, (start, stop) in enumerate(zip(prepared.starts, prepared.starts[1:], strict=False)):
            whole = next((broken[part] for part in range(start, stop) if part in broken), None)
            if whole:
                failed[text] = whole
                continue
            summaries[text], cut[text] = self._summary(prepared.parts[start:stop], vectors[start:stop])
        return Scored({"summary": pa.array(summaries, pa.string())}, read, cut, failed)

    def _summary(self, parts: list[str], vectors: Floats) -> tuple[str, bool]:
        """Return the summary, and whether its only sentence had to be cut."""
        words = [count_words(part) for part in parts]
        chosen = choose(vectors, words, self.max_words, self.redundancy)
        if chosen:
            return " ".join(parts[i] for i in chosen), False
        best = int(np.argmax(vectors @ vectors.sum(axis=0)))
        return f"{first_words(parts[best], self.max_words)}…", True


def choose(vectors: Floats, words: Sequence[int], max_words: int, redundancy: float) -> list[int]:
    """Return the indices of the sentences of a summary, ascending; none if no sentence fits.

    Sentences of less than four words, or less than half as central as the most central one, do not fill up
    what is left.

    Args:
        vectors: Unit-length sentence vectors, shape ``(sentences, size)``.
        words: Words of each sentence.
        max_words: Most words in all.
        redundancy: Weight of centrality against novelty, 0 to 1.

    >>> import numpy as np
    >>> choose(np.eye(3, dtype=np.float32), [4, 4, 4], max_words=8, redundancy=0.7)
    [0, 1]
    """
    size = np.asarray(words)
    centrality = (vectors @ vectors.sum(axis=0) - 1) / max(1, len(vectors) - 1)
    nearest_chosen = np.zeros(len(vectors), dtype=np.float32)
    chosen: list[int] = []
    left = max_words
    open_ = _worthy(size, centrality, size <= left)
    while open_.any():
        worth = np.where(open_, redundancy * centrality - (1 - redundancy) * nearest_chosen, -np.inf)
        best = int(worth.argmax())
        chosen.append(best)
        left -= int(size[best])
        nearest_chosen = np.maximum(nearest_chosen, vectors @ vectors[best])
        open_[best] = False
        open_ &= (size <= left) & (nearest_chosen < _SAME)
    return sorted(chosen)


def _worthy(size: npt.NDArray[np.int64], centrality: Floats, fits: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Leave out short and marginal sentences, as long as others fit."""
    long = fits & (size >= _SHORT_WORDS)
    fits = long if long.any() else fits
    top = float(centrality[fits].max(initial=0.0))
    return np.asarray(fits & (centrality >= _LEAST_SHARE * top)) if top > 0 else fits


def _fewer(parts: list[str]) -> list[str]:
    """Join neighbours of a text with a great many tiny sentences, so that memory stays bounded."""
    group = -(-len(parts) // _MOST_SENTENCES)
    return parts if group <= 1 else [" ".join(parts[i : i + group]) for i in range(0, len(parts), group)]


def _per_sentence(values: Floats, windows: Windows, count: int) -> Floats:
    """Average the vectors of sentences that needed several windows, weighted by tokens."""
    if len(values) == count:
        return values
    summed = np.zeros((count, values.shape[1] if values.size else 1), dtype=np.float32)
    if values.size:
        np.add.at(summed, windows.rows, values * windows.lengths[:, None].astype(np.float32))
    norms = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(norms, 1e-12), dtype=np.float32)
