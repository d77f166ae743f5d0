"""Made-up rows, to hold two ways of running a model against each other."""

from __future__ import annotations

import numpy as np

from windrow.models.windows import Windows

__all__ = ["PROBE_TOKENS", "probe_windows"]

PROBE_TOKENS = 300
"""Tokens of the longest: more than twice what ModernBERT's local attention sees to a side."""
_LENGTHS = (7, PROBE_TOKENS, 2, 31, 64, 3, 19)


def probe_windows(vocabulary: int, most_tokens: int) -> Windows:
    """Return made-up windows of different lengths, in no order; the same ones every time.

    Args:
        vocabulary: Token ids are below this.
        most_tokens: No window is longer.
    """
    lengths = np.minimum(_LENGTHS, max(1, most_tokens))
    made = np.random.default_rng(0).integers(min(5, vocabulary - 1), vocabulary, int(lengths.sum()), dtype=np.int32)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    return Windows(made, offsets, np.arange(len(lengths), dtype=np.int32), np.zeros(len(lengths), dtype=np.bool_))
