"""Fast tokenisation of whole shards, cut into windows that the model can read; never silently."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.errors import ModelError
from windrow.models.resolve import ResolvedModel

__all__ = ["Tokens", "Windows"]

Ints = npt.NDArray[np.int32]
_OPEN_ENDED = 1_000_000
_DEFAULT_MAX_TOKENS = 512
_POSITIONS = ("max_encoder_position_embeddings", "max_position_embeddings", "n_positions")
_ROBERTA_LIKE = {"camembert", "data2vec-text", "esm", "ibert", "lilt", "longformer", "luke", "markuplm", "mpnet"}
_ROBERTA_LIKE |= {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
"""Model types whose first token has position ``padding_idx + 1`` (fairseq's numbering)."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Token ids of many windows, ragged, and the text that each belongs to.

    Attributes:
        ids: Token ids of all windows, one after another, shape ``(tokens,)``.
        offsets: Window ``w`` is ``ids[offsets[w]:offsets[w + 1]]``, shape ``(windows + 1,)``.
        rows: Index of the text of each window, ascending, shape ``(windows,)``.
        truncated: Whether a text lost tokens, shape ``(texts,)``.
    """

    ids: Ints
    offsets: npt.NDArray[np.int64]
    rows: Ints
    truncated: npt.NDArray[np.bool_]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each window, shape ``(windows,)``."""
        return np.diff(self.offsets)

    def tokens_per_row(self) -> Ints:
        """Tokens that the model reads of each text, shape ``(texts,)``."""
        counts = np.bincount(self.rows, weights=self.lengths, minlength=len(self.truncated))
        return counts.astype(np.int32)

    def window(self, index: int) -> Ints:
        """Return the token ids of one window."""
        return self.ids[self.offsets[index] : self.offsets[index + 1]]


class Tokens:
    """The fast tokenizer of a model; once made it is never changed, so threads may share it.

    Calling `tokenizer` itself would set its truncation anew; use the methods.

    Args:
        model: The resolved model; only its tokenizer and configuration are read.

    Raises:
        ModelError: The tokenizer is broken or has no fast version.
    """

    def __init__(self, model: ResolvedModel) -> None:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
        from transformers import AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(str(model.folder), trust_remote_code=False)
            self.backend: Any = self.tokenizer.backend_tokenizer
        except Exception as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise ModelError(
                f"The tokenizer of model {model.name!r} cannot be loaded: {reason}.",
                "save it with a fast tokenizer (tokenizer.json).",
            ) from None
        self.max_tokens = _max_tokens(model.config, self.tokenizer.model_max_length)
        self.backend.no_padding()
        self.backend.enable_truncation(self.max_tokens)

    def windows(self, texts: Sequence[str], truncate: bool = False, prefix: str = "") -> Windows:
        """Tokenise texts and cut each into windows of at most `max_tokens`, special tokens included.

        Args:
            texts: The texts, in the order of the result's rows.
            truncate: Keep the first window only, and mark the texts that lost tokens.
            prefix: Put before each text, as T5 asks for.
        """
        asked = [prefix + text for text in texts] if prefix else list(texts)
        rows: list[int] = []
        pieces: list[list[int]] = []
        truncated = np.zeros(len(texts), dtype=np.bool_)
        for row, encoding in enumerate(self.backend.encode_batch_fast(asked)):
            parts = [encoding] if truncate else [encoding, *encoding.overflowing]
            truncated[row] = truncate and bool(encoding.overflowing)
            pieces.extend(part.ids for part in parts)
            rows.extend([row] * len(parts))
        lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
        ids = np.fromiter((i for piece in pieces for i in piece), dtype=np.int32, count=int(lengths.sum()))
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        return Windows(ids, offsets, np.asarray(rows, dtype=np.int32), truncated)

    def count(self, texts: Sequence[str]) -> Ints:
        """Return the tokens of each text, uncut, special tokens left out."""
        encodings = self.backend.encode_batch_fast(list(texts), add_special_tokens=False)
        counts = (len(first.ids) + sum(len(more.ids) for more in first.overflowing) for first in encodings)
        return np.fromiter(counts, dtype=np.int32, count=len(texts))

    def decode(self, sequences: Sequence[Ints]) -> list[str]:
        """Return the texts of token id sequences, special tokens left out."""
        texts = self.tokenizer.batch_decode([list(map(int, s)) for s in sequences], skip_special_tokens=True)
        return [text.strip() for text in texts]


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
