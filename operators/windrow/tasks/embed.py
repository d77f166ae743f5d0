"""Embeddings: one vector a text, as Sentence Transformers makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from windrow.engines.base import Engine
from windrow.errors import JobError, ModelError
from windrow.models.resolve import ResolvedModel
from windrow.models.sentence_settings import sentence_settings
from windrow.models.tokens import Tokens, Windows
from windrow.tasks.base import Scored

__all__ = ["Embed", "EmbedParameters"]

Floats = npt.NDArray[np.float32]
_LEAST_ROOM = 8
_NO_DIRECTION = ("no_direction", "the vector has length zero")
_SIZES = ("hidden_size", "d_model", "dim", "n_embd")


class EmbedParameters(BaseModel):
    """Parameters of ``task: embed``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooling: Literal["mean", "cls", "max", "lasttoken"] | None = Field(
        None, description="How token vectors become one; unless told, the model's own, else mean"
    )
    normalize: bool | None = Field(None, description="Scale to length one; unless told, as the model does, else yes")
    prefix: str | None = Field(None, description="Put before each text; unless told, the model's default prompt")
    dimensions: int | None = Field(None, ge=1, description="Keep the first so many numbers (Matryoshka models)")
    truncate: bool = Field(False, description="Read only the first window of a long text, and mark the row")


class Embed:
    """One vector a text from any encoder.

    Pooling, normalisation, window and default prompt are those that a Sentence Transformers folder tells. The
    vectors of a long text's windows are averaged, weighted by tokens, and scaled anew.
    """

    name = "embed"
    head = "embed"
    version = 1
    columns = pa.schema([("embedding", pa.list_(pa.float32()))])
    labels: int | None = None

    def __init__(self, model: ResolvedModel, **parameters: Any) -> None:
        asked = EmbedParameters(**parameters)
        if model.is_seq2seq:
            raise ModelError(f"Model {model.name!r} is a seq2seq model.", "use an encoder (BERT, MiniLM, E5 …).")
        own = sentence_settings(model)
        self.pooling = asked.pooling or own.pooling
        self.unit = own.normalize if asked.normalize is None else asked.normalize
        self.prefix = own.prefix if asked.prefix is None else asked.prefix
        self.dimensions, self.truncate = asked.dimensions, asked.truncate
        self.most, self.lower = own.max_tokens, own.lower
        if self.prefix and not own.pools_prompt:
            raise ModelError(
                f"Model {model.name!r} leaves its prompt out of the pooling, which is not done here.",
                "use another model, or set task.prefix to an empty text.",
            )
        size = next((model.config[name] for name in _SIZES if isinstance(model.config.get(name), int)), None)
        self._check_dimensions(size)

    def parameters(self) -> dict[str, Any]:
        """Return pooling, scaling, prefix, size and window."""
        return {
            "pooling": self.pooling,
            "normalize": self.unit,
            "prefix": self.prefix,
            "dimensions": self.dimensions,
            "truncate": self.truncate,
            "max_tokens": self.most,
            "lower": self.lower,
        }

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> Windows:
        """Cut the texts into windows of tokens; the prefix stands in the first.

        Raises:
            JobError: The prefix leaves no room for a text.
        """
        most = min(self.most or tokens.max_tokens, tokens.max_tokens)
        if self.prefix and int(tokens.count([self.prefix])[0]) > most - _LEAST_ROOM:
            raise JobError(f"task.prefix leaves no room in the model's {most} tokens.", "shorten it.")
        asked = [(self.prefix + text).lower() for text in texts] if self.lower else texts
        return tokens.windows(asked, self.truncate, "" if self.lower else self.prefix, most)

    def score(self, prepared: Windows, engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Average the windows' vectors, cut them to size and scale them."""
        outputs = engine.embed(prepared, self.pooling, self.unit)
        failed = {int(prepared.rows[window]): why for window, why in outputs.failed.items()}
        texts = len(prepared.truncated)
        vectors = _per_text(outputs.values, prepared, texts)
        if outputs.values.size:
            self._check_dimensions(vectors.shape[1])
        vectors = vectors[:, : self.dimensions]
        if self.unit:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            failed = dict.fromkeys(np.flatnonzero(lengths == 0).tolist(), _NO_DIRECTION) | failed
            vectors = np.asarray(vectors / np.where(lengths > 0, lengths, 1), dtype=np.float32)
        return Scored({"embedding": _lists(vectors)}, prepared.tokens_per_row(), prepared.truncated, failed)

    def _check_dimensions(self, size: int | None) -> None:
        if self.dimensions and size and self.dimensions > size:
            raise JobError(
                f"task.dimensions is {self.dimensions}, but the model's vectors have {size} numbers.",
                f"set at most {size}.",
            )


def _per_text(values: Floats, windows: Windows, texts: int) -> Floats:
    """Return the vector of each text: the mean of its windows', weighted by tokens, shape ``(texts, size)``."""
    if len(values) == texts or not values.size:
        return np.nan_to_num(values) if values.size else np.zeros((texts, 0), dtype=np.float32)
    weights = windows.lengths.astype(np.float32)
    summed = np.zeros((texts, values.shape[1]), dtype=np.float32)
    np.add.at(summed, windows.rows, np.nan_to_num(values) * weights[:, None])
    return np.asarray(summed / windows.tokens_per_row()[:, None], dtype=np.float32)


def _lists(vectors: Floats) -> pa.Array:
    """Return rows as lists of one size, without a copy in Python."""
    texts, size = vectors.shape
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).reshape(-1))
    return pa.ListArray.from_arrays(pa.array(np.arange(texts + 1, dtype=np.int32) * np.int32(size)), flat)
