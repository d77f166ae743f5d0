"""Tagged tokens into entities, column-wise over all texts of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Aggregation", "Found", "Tagged", "aggregated", "scheme"]

Aggregation = Literal["simple", "first", "average", "max", "none"]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
_BEGIN, _END, _ALONE = {"B"}, {"L", "E"}, {"U", "S"}


@dataclass(frozen=True, slots=True)
class Tagged:
    """Tokens with their probabilities: text, place, word and ``(tokens, labels)``; texts in ascending order."""

    rows: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """Entities, or words, or tokens: text, place, number of the label and its probability, shape ``(entities,)``."""

    rows: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    labels: Ints
    scores: npt.NDArray[np.float64]

    def where(self, kept: Flags) -> Found:
        """Return those that are marked."""
        return Found(self.rows[kept], self.starts[kept], self.ends[kept], self.labels[kept], self.scores[kept])


def scheme(names: Sequence[str]) -> tuple[tuple[str, ...], Flags, Flags]:
    """Return what each label names, and whether an entity starts with it or ends with it.

    ``B-`` and ``I-`` are prefixes always, as in Transformers; ``L-``, ``E-``, ``U-`` and ``S-`` (BILOU, BIOES)
    where the rest of the label also occurs after ``B-``.

    >>> scheme(["O", "B-PER", "L-PER", "E-mail"])[0]
    ('O', 'PER', 'PER', 'E-mail')
    """
    begun = {name[2:] for name in names if name.startswith("B-")}
    kinds, starts, ends = [], [], []
    for name in names:
        prefix, dash, rest = name[:1], name[1:2], name[2:]
        more = _END | _ALONE if rest in begun else set()
        has_prefix = dash == "-" and prefix in {"B", "I", *more}
        kinds.append(rest if has_prefix else name)
        starts.append(has_prefix and prefix in _BEGIN | _ALONE)
        ends.append(has_prefix and prefix in _END | _ALONE)
    return tuple(kinds), np.asarray(starts, dtype=np.bool_), np.asarray(ends, dtype=np.bool_)


def aggregated(tagged: Tagged, how: Aggregation, kinds: Sequence[str], starts: Flags, ends: Flags) -> Found:
    """Join tokens to words where that is asked, and neighbours of one kind to entities.

    Args:
        tagged: The tokens.
        how: As ``aggregation_strategy`` of the token-classification pipeline of Transformers.
        kinds: What each label names; labels of the same name join.
        starts: Whether an entity starts with this label.
        ends: Whether it ends with it.

    Returns:
        All entities, with `labels` as numbers in `kinds`; those outside too.
    """
    found = _tokens(tagged) if how in {"simple", "none"} else _words(tagged, how)
    if how == "none" or not len(found.rows):
        return found
    numbers = {kind: kinds.index(kind) for kind in kinds}
    same = np.asarray([numbers[kind] for kind in kinds], dtype=np.int64)[found.labels]
    begins = (same != np.roll(same, 1)) | starts[found.labels] | np.roll(ends[found.labels], 1) | _begins(found.rows)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(begins)) - 1
    means = np.add.reduceat(found.scores, first) / (last - first + 1)
    return Found(found.rows[first], found.starts[first], found.ends[last], same[first], means)


def _tokens(tagged: Tagged) -> Found:
    if not len(tagged.rows):
        nothing = np.zeros(0)
        return Found(tagged.rows, tagged.starts, tagged.ends, nothing.astype(np.int64), nothing)
    best = tagged.shares.argmax(axis=1)
    return Found(tagged.rows, tagged.starts, tagged.ends, best, tagged.shares[np.arange(len(best)), best])


def _words(tagged: Tagged, how: Aggregation) -> Found:
    """Give all tokens of a word the label of its first token, of their mean, or of the surest."""
    if not len(tagged.rows):
        return _tokens(tagged)
    begins = _begins(tagged.rows) | (tagged.words != np.roll(tagged.words, 1))
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(begins)) - 1
    if how == "average":
        shares = np.add.reduceat(tagged.shares, first, axis=0) / (last - first + 1)[:, None]
    else:
        shares = tagged.shares[first if how == "first" else _surest(tagged.shares, first)]
    return _tokens(Tagged(tagged.rows[first], tagged.starts[first], tagged.ends[last], tagged.words[first], shares))


def _surest(shares: npt.NDArray[np.float64], first: Ints) -> Ints:
    """Return the token of each word that is surest of its label; of equals, the first."""
    tops = shares.max(axis=1)
    word = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(tops))))
    order = np.lexsort((np.arange(len(tops)), -tops, word))
    return np.asarray(order[first])


def _begins(rows: npt.NDArray[np.int32]) -> Flags:
    """Mark the first token of each text."""
    marked = rows != np.roll(rows, 1)
    marked[:1] = True
    return np.asarray(marked)
