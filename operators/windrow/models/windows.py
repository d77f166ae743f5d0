"""Windows: what a model reads at a time of a text, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

__all__ = ["Ints", "Spans", "Windows", "ragged"]

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Windows:
    """Token ids of many windows, ragged, and the text that each belongs to.

    Attributes:
        ids: Token ids of all windows, one after another, shape ``(tokens,)``.
        offsets: Window ``w`` is ``ids[offsets[w]:offsets[w + 1]]``, shape ``(windows + 1,)``.
        rows: Index of the text of each window, ascending, shape ``(windows,)``.
        truncated: Whether a text lost tokens, shape ``(texts,)``.
        types: Where a window holds two sentences and the model tells them apart: which sentence each token is of,
            shape ``(tokens,)``.
    """

    ids: Ints
    offsets: npt.NDArray[np.int64]
    rows: Ints
    truncated: npt.NDArray[np.bool_]
    types: npt.NDArray[np.int8] | None = None

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

    def only(self, windows: Sequence[int] | npt.NDArray[np.int64]) -> Windows:
        """Return some of the windows, in this order; they stay those of their texts.

        >>> ragged([[5, 6], [7], [8, 9]], [0, 0, 1], np.zeros(2, dtype=np.bool_)).only([2, 1]).ids.tolist()
        [8, 9, 7]
        """
        lengths = self.lengths[windows]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        tokens = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][windows] - offsets[:-1], lengths)
        types = None if self.types is None else self.types[tokens]
        return Windows(self.ids[tokens], offsets, self.rows[windows], self.truncated, types)


@dataclass(frozen=True, slots=True)
class Spans:
    """Windows that overlap, and where each of their tokens stands in its text.

    Attributes:
        windows: What the model reads.
        starts: First character of each token, as a Unicode code point of its text, shape ``(tokens,)``.
        ends: The character after its last, shape ``(tokens,)``.
        words: Number of the word in its text, as the tokenizer splits words, shape ``(tokens,)``.
        counted: Whether a token speaks for its place: no special token, and of two windows that both hold it
            in the one where it stands further from the edge, shape ``(tokens,)``.
    """

    windows: Windows
    starts: Ints
    ends: Ints
    words: Ints
    counted: npt.NDArray[np.bool_]


def ragged(
    pieces: Sequence[Sequence[int]],
    rows: Sequence[int],
    truncated: npt.NDArray[np.bool_],
    types: npt.NDArray[np.int8] | None = None,
) -> Windows:
    """Return windows of these token ids; the other arguments are as in `Windows`."""
    lengths = np.fromiter(map(len, pieces), dtype=np.int64, count=len(pieces))
    ids = np.fromiter(chain.from_iterable(pieces), dtype=np.int32, count=int(lengths.sum()))
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return Windows(ids, offsets, np.asarray(rows, dtype=np.int32), truncated, types)
