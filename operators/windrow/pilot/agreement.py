"""How far predictions may differ from those in fp32: each kind of column has its measure and its bound."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

__all__ = ["Agreement", "agreement"]

LEAST_LABELS, MOST_SHIFT = 0.995, 0.01
LEAST_WORDS, LEAST_COSINE, LEAST_LISTS = 0.98, 0.999, 0.99
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Han: scripts that put no blanks between words."""
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a candidate's predictions compare with those in fp32.

    Attributes:
        share: Equal labels, as a share of all; for text the mean similarity word by word, for vectors the mean cosine.
        shift: Mean absolute difference of the probability of the reference's label; 0 where there is none.
        refused: Why it is not good enough; empty if it is.
    """

    share: float
    shift: float = 0.0
    refused: str = ""


def agreement(reference: pa.Table, other: pa.Table) -> Agreement:
    """Compare two sets of predictions of the same texts, in the same order.

    Args:
        reference: The task's columns as fp32 gives them; null where a text failed.
        other: The same from a candidate.

    >>> fp32 = pa.table({"label": ["a", "b"], "score": [0.9, 0.6]})
    >>> agreement(fp32, pa.table({"label": ["a", "a"], "score": [0.9, 0.5]})).refused
    'labels agree on 50.00 %, less than 99.5 %'
    """
    if not reference.num_rows:
        return Agreement(1.0)
    column = reference.schema.field(0)
    if "label" in reference.schema.names and "score" in reference.schema.names:
        return _labels(reference, other)
    if pa.types.is_string(column.type):
        return _bounded(_mean(reference, other, _alike), LEAST_WORDS, "words agree on")
    if pa.types.is_list(column.type) and pa.types.is_floating(column.type.value_type):
        return _bounded(_mean(reference, other, _cosine), LEAST_COSINE, "vectors agree to")
    return _bounded(_mean(reference, other, _same_spans), LEAST_LISTS, "lists agree on")


def _labels(reference: pa.Table, other: pa.Table) -> Agreement:
    same = np.asarray([one == two for one, two in zip(*(_values(t, "label") for t in (reference, other)), strict=True)])
    before, after = (np.asarray([v or 0.0 for v in _values(t, "score")], dtype=float) for t in (reference, other))
    shift = float(np.abs(before - np.where(same, after, 1 - after)).mean())
    share = float(same.mean())
    if share < LEAST_LABELS:
        return Agreement(share, shift, f"labels agree on {share:.2%}, less than {LEAST_LABELS:.1%}".replace("%", " %"))
    if shift > MOST_SHIFT:
        return Agreement(share, shift, f"probabilities shift by {shift:.4f}, more than {MOST_SHIFT}")
    return Agreement(share, shift)


def _bounded(share: float, least: float, words: str) -> Agreement:
    refused = f"{words} {share:.2%}, less than {least:.1%}".replace("%", " %") if share < least else ""
    return Agreement(share, refused=refused)


def _mean(reference: pa.Table, other: pa.Table, alike: Callable[[Any, Any], float]) -> float:
    """Return the mean likeness of the first columns; a text that failed in one alone counts 0."""
    pairs = zip(*(t.column(0).to_pylist() for t in (reference, other)), strict=True)
    return float(np.mean([1.0 if one is two is None else 0.0 if one is None or two is None else alike(one, two)
                          for one, two in pairs]))  # fmt: skip


def _alike(one: str, two: str) -> float:
    """Return how alike two texts are word by word, 0 to 1; letter by letter in scripts without blanks.

    >>> _alike("not a good film", "not a bad film"), _alike("不是好电影", "不是坏电影"), _alike("", "")
    (0.75, 0.8, 1.0)
    """
    return difflib.SequenceMatcher(None, _WORD.findall(one), _WORD.findall(two), autojunk=False).ratio()


def _cosine(one: list[float], two: list[float]) -> float:
    product = float(np.dot(one, two))
    return product / max(1e-12, float(np.linalg.norm(one) * np.linalg.norm(two)))


def _same_spans(one: list[object], two: list[object]) -> float:
    """Tell whether two lists of found spans are the same, whatever their scores."""
    bare = [
        [{k: v for k, v in item.items() if k != "score"} if isinstance(item, dict) else item for item in found]
        for found in (one, two)
    ]
    return float(bare[0] == bare[1])


def _values(table: pa.Table, name: str) -> list[object]:
    values: list[object] = table.column(name).to_pylist()
    return values
