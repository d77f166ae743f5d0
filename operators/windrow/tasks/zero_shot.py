"""What both ways to choose among given labels share: long texts in parts, and probabilities into columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.models.tokens import Tokens, Windows
from windrow.tasks.base import Scored
from windrow.tasks.parts import parts_of

__all__ = ["COLUMNS", "Parts", "labelled", "parts_within", "softmax"]

COLUMNS = pa.schema([("label", pa.string()), ("score", pa.float32())])
_MARGIN = 4
"""Sentences that are joined can take some tokens more than each alone."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """Texts in parts that the model can read beside what is asked.

    Attributes:
        texts: Number of texts.
        owners: Text of each part, shape ``(parts,)``.
        weights: Tokens of each part, shape ``(parts,)``.
        windows: What the engine reads; `rows` is the part of each window.
        failed: Reason and detail of parts that do not fit.
    """

    texts: int
    owners: npt.NDArray[np.intp]
    weights: Floats
    windows: Windows
    failed: dict[int, tuple[str, str]]


def parts_within(texts: Sequence[str], room: int, tokens: Tokens) -> tuple[list[str], npt.NDArray[np.intp], Floats]:
    """Cut each text at sentence ends into parts of at most `room` tokens; return parts, their texts, their tokens."""
    sizes = tokens.count(texts).tolist()
    split = [
        [text] if size <= room else parts_of(text, room - _MARGIN, tokens)
        for text, size in zip(texts, sizes, strict=True)
    ]
    parts = [part for own in split for part in own]
    owners = np.repeat(np.arange(len(texts)), [len(own) for own in split])
    return parts, owners, np.maximum(tokens.count(parts), 1).astype(np.float64)


def softmax(logits: Floats) -> Floats:
    """Return probabilities over the last axis."""
    with np.errstate(all="ignore"):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def labelled(labels: Sequence[str], probabilities: Floats, parts: Parts, failed: dict[int, tuple[str, str]]) -> Scored:
    """Average the parts' probabilities, weighted by tokens, and take the most probable label of each text.

    Args:
        labels: Names.
        probabilities: Of each part, shape ``(parts, labels)``.
        parts: The texts' parts.
        failed: Reason and detail by part; the text of one fails as a whole.
    """
    summed = np.zeros((parts.texts, len(labels)))
    np.add.at(summed, parts.owners, np.nan_to_num(probabilities) * parts.weights[:, None])
    total = np.bincount(parts.owners, weights=parts.weights, minlength=parts.texts)
    mean = summed / np.maximum(total, 1)[:, None]
    best = mean.argmax(axis=1)
    read = np.bincount(parts.owners[parts.windows.rows], weights=parts.windows.lengths, minlength=parts.texts)
    cut = np.zeros(parts.texts, dtype=np.bool_)
    cut[parts.owners[parts.windows.truncated]] = True
    columns = {
        "label": pa.array(labels, pa.string()).take(pa.array(best)),
        "score": pa.array(mean[np.arange(len(best)), best], pa.float32()),
    }
    return Scored(columns, read.astype(np.int32), cut, {int(parts.owners[part]): why for part, why in failed.items()})
