"""Small real parts for tests of jobs, and a fake of each seam.

A job needs no fake to be tested: a tiny model, a Parquet file and a DuckDB file under ``tmp_path`` are the
real parts. The fakes are for tests of one part alone.
"""

from __future__ import annotations

from windrow.testing.chat import make_tiny_causal
from windrow.testing.fakes import FakeEngine, FakeSource, FakeTask
from windrow.testing.models import (
    make_tiny_adapter,
    make_tiny_classifier,
    make_tiny_encoder,
    make_tiny_family,
    make_tiny_model,
    make_tiny_seq2seq,
    make_tiny_tagger,
    make_tiny_vit,
)
from windrow.testing.vocabularies import make_word_tokenizer

__all__ = [
    "FakeEngine",
    "FakeSource",
    "FakeTask",
    "make_tiny_adapter",
    "make_tiny_causal",
    "make_tiny_classifier",
    "make_tiny_encoder",
    "make_tiny_family",
    "make_tiny_model",
    "make_tiny_seq2seq",
    "make_tiny_tagger",
    "make_tiny_vit",
    "make_word_tokenizer",
]
