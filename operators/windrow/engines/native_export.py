"""Engine ``native``'s format of an encoder: its arrays, rounded once, in a safetensors file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import save_file

from windrow.engines.exports import Format
from windrow.engines.native_library import SOURCES, variant

__all__ = ["native_format"]

_FILE = "encoder.safetensors"
_VERSION = 1
"""Of the arrays; another one makes files of its own, and so do other kernels."""


def native_format() -> Format:
    """Return how our kernels keep a model; being in int8, it is held against PyTorch when it is opened."""
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:16]
    version = f"{_VERSION}-{variant().name}-{digest}"
    return Format("Windrow's kernels", "native", version, _FILE, _write, None)


def _write(encoder: Any, example: tuple[Any, Any], folder: Path) -> None:  # noqa: ARG001 (made-up rows of its own)
    from windrow.engines.native_weights import rounded_model

    try:
        save_file(rounded_model(encoder.model, encoder.head, variant().largest), folder / _FILE)
    except SafetensorError as error:
        raise OSError(str(error)) from None  # nothing else is wrong with arrays of our own
    (folder / _FILE).chmod(folder.stat().st_mode & 0o666)  # safetensors writes files for their owner alone
