"""OpenVINO's format of an encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from windrow.engines.exports import Format

__all__ = ["openvino_format"]


def openvino_format() -> Format:
    """Return how OpenVINO keeps and runs a model."""
    import openvino

    return Format("OpenVINO", "openvino", openvino.__version__, "model.xml", _write, _opened)


def _write(encoder: Any, example: tuple[Any, Any], folder: Path) -> None:
    import openvino

    converted = openvino.convert_model(encoder, example_input=example)
    converted.reshape({0: [-1, -1], 1: [-1, -1]})
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)


def _opened(file: Path) -> Callable[[Any, Any], Any]:
    import openvino

    compiled = openvino.Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda ids, mask: compiled([ids, mask])[0]
