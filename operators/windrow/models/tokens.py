"""Fast tokenisation of whole shards, cut into windows that the model can read; never silently."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.models.kept_tokenizer import kept_tokenizer, load_tokenizer
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Ints, Spans, Windows, ragged

__all__ = ["Spans", "Tokens", "Windows", "ragged"]

_OPEN_ENDED = 1_000_000
_DEFAULT_MAX_TOKENS = 512
_POSITIONS: tuple[str, ...] = ("max_encoder_position_embeddings", "max_position_embeddings", "n_positions")
_POSITIONS += ("max_seq_len", "seq_length", "n_ctx")
_ROBERTA_LIKE = {"camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet"}
_ROBERTA_LIKE |= {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
"""Model types whose first token has position ``padding_idx + 1`` (fairseq's numbering)."""


class Tokens:
    """The fast tokenizer of a model; once made it is never changed, so threads may share it.

    Texts go through `backend` alone, which is kept from the first time on: Transformers is imported by whoever asks
    for `tokenizer`.

    Args:
        model: The resolved model; only its tokenizer and configuration are read.
        source_lang: Language of the texts, as a multilingual tokenizer names it; it marks each window with it.

    Attributes:
        backend: Of the library ``tokenizers``, cutting at `max_tokens`.
        max_tokens: Most tokens that the model reads, special ones included.

    Raises:
        ModelError: The tokenizer is broken or has no fast version.
    """

    def __init__(self, model: ResolvedModel, source_lang: str | None = None) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        self._model, self._source_lang = model, source_lang
        self.backend, declared = kept_tokenizer(model, source_lang)
        self.max_tokens = _max_tokens(model.config, declared)
        self.backend.no_padding()
        self.backend.enable_truncation(self.max_tokens)
        self._cutters: dict[tuple[int, int], Any] = {(self.max_tokens, 0): self.backend}

    @cached_property
    def tokenizer(self) -> Any:
        """Transformers' tokenizer, for what `backend` does not know: chat templates, names of special tokens."""
        return load_tokenizer(self._model, self._source_lang)

    def windows(
        self, texts: Sequence[str], truncate: bool = False, prefix: str = "", most: int | None = None
    ) -> Windows:
        """Tokenise texts and cut each into windows of at most `max_tokens`, special tokens included.

        Args:
            texts: The texts, in the order of the result's rows.
            truncate: Keep the first window only, and mark the texts that lost tokens.
            prefix: Put before each text, as T5 asks for.
            most: Most tokens of a window, where that is fewer than `max_tokens`.
        """
        backend = self._cutter(min(most or self.max_tokens, self.max_tokens), 0)
        asked = [prefix + text for text in texts] if prefix else list(texts)
        rows: list[int] = []
        pieces: list[list[int]] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for row, encoding in enumerate(backend.encode_batch_fast(asked)):
            parts = [encoding] if truncate else [encoding, *encoding.overflowing]
            truncated[row] = truncate and bool(encoding.overflowing)
            pieces.extend(part.ids for part in parts)
            rows.extend([row] * len(parts))
        return ragged(pieces, rows, truncated)

    def whole(self, prompts: Sequence[str], special: bool) -> list[list[int]]:
        """Return the token ids of each prompt, uncut.

        Args:
            prompts: The texts.
            special: Put the tokenizer's special tokens around each; a rendered chat has its own.
        """
        encodings = self.backend.encode_batch_fast(list(prompts), add_special_tokens=special)
        return [
            first.ids if not first.overflowing else self._joined(prompt, special)
            for prompt, first in zip(prompts, encodings, strict=True)
        ]

    def _joined(self, prompt: str, special: bool) -> list[int]:
        first = self.backend.encode(prompt, add_special_tokens=False)
        around = self.backend.encode("", add_special_tokens=special).ids
        return [*around, *first.ids, *(i for more in first.overflowing for i in more.ids)]

    def pairs(self, texts: Sequence[str], others: Sequence[str], types: bool) -> Windows:
        """Tokenise each text with each of the others: the windows of a text are one for each of the others.

        Args:
            texts: First sentences; one that does not fit beside another is marked as truncated.
            others: Second sentences.
            types: Tell which sentence each token is of.
        """
        made = self.backend.encode_batch_fast([(text, other) for text in texts for other in others])
        rows = [row for row in range(len(texts)) for _ in others]
        cut = np.asarray([bool(encoding.overflowing) for encoding in made], dtype=np.bool_)
        kinds = np.asarray([kind for part in made for kind in part.type_ids], dtype=np.int8) if types else None
        truncated = np.asarray(cut.reshape(len(texts), len(others)).any(axis=1))
        return ragged([part.ids for part in made], rows, truncated, kinds)

    def pair_room(self, others: Sequence[str]) -> int:
        """Return the tokens that are left for a text beside the longest of the others."""
        longest = int(self.count(others).max(initial=0))
        return self.max_tokens - longest - int(self.backend.num_special_tokens_to_add(True))

    def spans(self, texts: Sequence[str], overlap: int, truncate: bool = False) -> Spans:
        """Tokenise texts as `windows` does, with the place of each token; neighbouring windows share tokens.

        Args:
            texts: The texts, in the order of the result's rows.
            overlap: Tokens that two neighbouring windows of a text share.
            truncate: Keep the first window only, and mark the texts that lost tokens.
        """
        rows: list[int] = []
        parts: list[Any] = []
        counted: list[npt.NDArray[np.bool_]] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for row, encoding in enumerate(self._cutter(self.max_tokens, overlap).encode_batch(list(texts))):
            own = [encoding] if truncate else [encoding, *encoding.overflowing]
            truncated[row] = truncate and bool(encoding.overflowing)
            parts.extend(own)
            rows.extend([row] * len(own))
            counted.extend(_counted(part, place, len(own), overlap) for place, part in enumerate(own))
        places = _concatenated([np.asarray(part.offsets, dtype=np.int32) for part in parts], np.zeros((0, 2), np.int32))
        words = [-1 if word is None else word for part in parts for word in part.word_ids]
        return Spans(
            ragged([part.ids for part in parts], rows, truncated),
            places[:, 0],
            places[:, 1],
            np.asarray(words, dtype=np.int32),
            _concatenated(counted, np.zeros(0, np.bool_)),
        )

    def _cutter(self, most: int, overlap: int) -> Any:
        """Return a tokenizer that cuts so; a copy of its own for each way, since threads share them."""
        if (most, overlap) not in self._cutters:
            from tokenizers import Tokenizer

            made = Tokenizer.from_str(self.backend.to_str())
            made.enable_truncation(most, stride=overlap)
            self._cutters[most, overlap] = made
        return self._cutters[most, overlap]

    def count(self, texts: Sequence[str]) -> Ints:
        """Return the tokens of each text, uncut, special tokens left out."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        counts = (len(first.ids) + sum(len(more.ids) for more in first.overflowing) for first in encodings)
        return np.fromiter(counts, dtype=np.int32, count=len(texts))

    def decode(self, sequences: Sequence[Ints]) -> list[str]:
        """Return the texts of token id sequences, special tokens left out."""
        if not len(sequences):
            return []  # the tokenizer would make one empty text of no sequence
        texts = self.tokenizer.batch_decode([list(map(int, s)) for s in sequences], skip_special_tokens=True)
        return [text.strip() for text in texts]


def _counted(part: Any, place: int, parts: int, overlap: int) -> npt.NDArray[np.bool_]:
    """Return which tokens of a window count: of those that it shares with a neighbour, the half away from the edge."""
    counted: npt.NDArray[np.bool_] = np.asarray(part.special_tokens_mask, dtype=np.int8) == 0
    own = np.flatnonzero(counted)
    if place:
        counted[own[: overlap // 2]] = False
    if place < parts - 1:
        counted[own[len(own) - (overlap - overlap // 2) :]] = False
    return counted


def _concatenated(parts: list[Any], empty: Any) -> Any:
    return np.concatenate(parts) if parts else empty


def _max_tokens(config: dict[str, Any], declared: float) -> int:
    """Return how many tokens a window may hold, from the tokenizer and the position embeddings."""
    limits = [int(declared)] if 0 < declared < _OPEN_ENDED else []
    for part in (config, config.get("encoder"), config.get("text_config")):
        positions = _positions(part) if isinstance(part, dict) else None
        if positions:
            limits.append(positions - _first_position(config))
            break
    return max(1, min(limits)) if limits else _DEFAULT_MAX_TOKENS


def _positions(config: dict[str, Any]) -> int | None:
    """Return the size of the encoder's position embeddings, if the configuration tells."""
    found = (config.get(name) for name in _POSITIONS)
    return next((value for value in found if isinstance(value, int) and value > 1), None)


def _first_position(config: dict[str, Any]) -> int:
    """Return the position of the first token: after the padding's in RoBERTa and its kin, else 0."""
    if config.get("model_type") not in _ROBERTA_LIKE:
        return 0
    padding = config.get("pad_token_id")
    return (1 if padding is None else int(padding)) + 1
