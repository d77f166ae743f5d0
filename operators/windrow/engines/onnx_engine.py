"""ONNX Runtime on a CPU: for processors and systems that OpenVINO does not serve."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.base import EnginePlan
from windrow.engines.exported_engine import ExportedEngine
from windrow.engines.exports import Format, far_off, is_near
from windrow.models.resolve import ResolvedModel

__all__ = ["OnnxEngine"]

_FILE = "model.onnx"


class OnnxEngine(ExportedEngine):
    """One encoder as an ONNX graph, optimised when it is opened; one thread a micro-batch, one micro-batch a core.

    int8 is ONNX Runtime's dynamic quantisation: weights by output channel, states by tensor as they come.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        super().__init__(plan, model, _format(), ("fp32", "int8"))
        file = self.export.file
        self.session: Any = _session(file if plan.precision == "fp32" else _quantised(file))
        self.warm_up()
        if plan.precision == "int8" and not is_near(self.export, self.run):
            raise far_off(model, self.form)

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Run one micro-batch."""
        return _answered(self.session, ids, mask)

    def close(self) -> None:
        """Release the session."""
        del self.session


def _format() -> Format:
    import onnxruntime

    return Format("ONNX", "onnxruntime", onnxruntime.__version__, _FILE, _write, _opened)


def _write(encoder: Any, example: tuple[Any, Any], folder: Path) -> None:
    """Write the graph with free numbers of rows and tokens."""
    import torch

    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.onnx.export(
        encoder, example, str(folder / _FILE), dynamo=True, verbose=False, external_data=False,
        input_names=["input_ids", "attention_mask"], output_names=["values"], dynamic_shapes=(free, free),
    )  # fmt: skip


def _opened(file: Path) -> Callable[[Any, Any], Any]:
    session = _session(file)
    return lambda ids, mask: _answered(session, ids, mask)


def _session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _answered(session: Any, ids: Any, mask: Any) -> npt.NDArray[np.float32]:
    return np.asarray(session.run(None, {"input_ids": ids, "attention_mask": mask})[0], dtype=np.float32)


def _quantised(file: Path) -> Path:
    """Return the graph in int8, made beside the export if it is not there yet."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = file.with_name("int8.onnx")
    if not made.exists():
        logging.getLogger().debug("Quantising %s", file)
        partial = file.with_name(f"making-{id(file):x}.onnx")
        quantize_dynamic(
            file, partial, per_channel=True, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"]
        )
        partial.replace(made)
    return made
