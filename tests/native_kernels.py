"""The kernels of engine ``native`` that this machine can run, and models of sizes that they take."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import WORDS
from windrow.engines import EnginePlan, native_library
from windrow.engines.device import cpu_flags

__all__ = ["DISTILBERT", "FIELDS", "HERE", "LACK", "SIZES", "TEXTS", "forget", "plan_for", "runs_here", "using"]

SIZES = {"hidden_size": 192, "num_attention_heads": 6, "intermediate_size": 512, "initializer_range": 0.1}
DISTILBERT = {"dim": 192, "n_heads": 6, "hidden_dim": 512, "initializer_range": 0.1}
TEXTS = [
    "good film",
    "the battery was awful and the plot is not lovely " * 9,
    "bad",
    "it was not great, it was awful",
    "the plot " * 130,
    " ".join(WORDS),
] * 3
FIELDS = {
    "name": "native", "source": {"text": "body", "key": "id", "path": "x.csv"}, "task": "sentiment",
    "warehouse": {"url": "duckdb:///w", "table": "t"},
}  # fmt: skip
LACK = native_library.lacking()
runs_here = pytest.mark.skipif(LACK is not None, reason=LACK.reason if LACK else "")

EMULATED = Path(__file__).with_name("emulated")
_HEADER = zlib.crc32(EMULATED.joinpath("immintrin.h").read_bytes())
_EMULATING = ("-O1", "-mavx2", "-mfma", "-I", str(EMULATED), "-Wno-psabi", f"-DEMULATED_BY={_HEADER}")


def _here() -> Iterator[native_library.Variant]:
    can_emulate = {"avx2", "fma"} <= cpu_flags() and Path("/usr/include/simde").is_dir()
    for kind in native_library.VARIANTS:
        if {*kind.needed} <= cpu_flags():
            yield replace(kind, unneeded="")
        elif can_emulate:
            bits = [option for option in kind.options if option.startswith("-D")]
            yield replace(kind, needed=("avx2", "fma"), unneeded="", options=(*_EMULATING, *bits))


HERE = {kind.name: kind for kind in _here()}
"""By name. What the processor lacks of them is carried out instruction by instruction: see `emulated/immintrin.h`."""


@contextmanager
def using(name: str, cache: Path) -> Iterator[None]:
    """Let these kernels be the ones of this machine, and keep them under `cache`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_library, "VARIANTS", (HERE[name],))
        patch.setenv("XDG_CACHE_HOME", str(cache))
        forget()
        yield
    forget()


def forget() -> None:
    """Let what is known of processor, compiler and kernels be found anew."""
    for known in (native_library.library, native_library.lacking, native_library.variant):
        known.cache_clear()


def plan_for(name: str = "native", head: str = "classify", precision: str = "int8", **more) -> EnginePlan:
    """Return how a model of two labels is to be run."""
    return EnginePlan(name, head, "cpu", precision, 2, **more)
