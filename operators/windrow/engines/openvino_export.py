"""OpenVINO's format of an encoder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from windrow.engines.exports import Format

__all__ = ["import_openvino", "openvino_format"]


def import_openvino() -> ModuleType:
    """Return OpenVINO without its telemetry.

    Each conversion would send some forty events to Google Analytics, each from a fork of this process; where no
    network answers, such a fork outlives the run, holds its pipes, and keeps a worker from ending.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino  # noqa: F401
    from openvino.tools.ovc import telemetry_stub

    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.") and hasattr(module, "tm"):
            vars(module)["tm"] = telemetry_stub
    return sys.modules["openvino"]


def openvino_format() -> Format:
    """Return how OpenVINO keeps and runs a model."""
    openvino = import_openvino()
    return Format("OpenVINO", "openvino", openvino.__version__, "model.xml", _write, _opened)


def _write(encoder: Any, example: tuple[Any, Any], folder: Path) -> None:
    openvino = import_openvino()
    converted = openvino.convert_model(encoder, example_input=example)
    converted.reshape({0: [-1, -1], 1: [-1, -1]})
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)


def _opened(file: Path) -> Callable[[Any, Any], Any]:
    compiled = import_openvino().Core().compile_model(str(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda ids, mask: compiled([ids, mask])[0]
