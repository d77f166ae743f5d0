"""OpenVINO on a CPU: encoders compiled once, their layers fused, one stream a core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.base import EnginePlan
from windrow.engines.device import choose_precision, has_tiles
from windrow.engines.exported_engine import ExportedEngine
from windrow.engines.exports import far_off, is_near
from windrow.engines.openvino_export import import_openvino, openvino_format
from windrow.engines.openvino_int8 import quantised
from windrow.models.resolve import ResolvedModel

__all__ = ["OpenVinoEngine"]

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_TILED_TOKENS = 2048
"""Measured on two cores with AMX: 1.15 times the speed of 512 on reviews in bf16, 1.07 to 1.13 in int8."""


class OpenVinoEngine(ExportedEngine):
    """One encoder, exported and compiled for this processor.

    What differs from the torch engine is that normalisation, activation and attention are fused into the matrix
    products around them. There is one request a core; more only crowd the caches.

    Raises:
        ExportError: The model cannot be exported, or gives nonsense in int8 on this processor.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        super().__init__(plan, model, openvino_format(), (*_HINTS, "int8"))
        openvino = import_openvino()
        hints = [_HINTS[plan.precision]] if plan.precision != "int8" else self._hints()
        for hint in hints:
            self._compile(openvino.Core(), hint)
            self.warm_up()
            if plan.precision != "int8" or is_near(self.export, self.run):
                break
        else:
            raise far_off(model, self.form)

    def own_budget(self) -> int:
        """Return more where products take so little time that what goes before and after them counts."""
        return _TILED_TOKENS if self.plan.precision != "fp32" and has_tiles() else super().own_budget()

    def _hints(self) -> list[str]:
        """Return in which numbers to compute what is not an eight-bit product, first choice first.

        OpenVINO (2026.4) gives nonsense for small eight-bit products beside bf16 on processors with AMX.
        """
        return list(dict.fromkeys([_HINTS[choose_precision("auto", "cpu")], "f32"]))

    def _compile(self, core: Any, hint: str) -> None:
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": self.workers,
            "INFERENCE_NUM_THREADS": self.workers,
        }
        if self.plan.precision == "int8":
            read, group = quantised(core, self.export.file, self.export.probes)
            options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = str(group)
        else:
            read = core.read_model(str(self.export.file))
        self.compiled: Any = core.compile_model(read, "CPU", options)
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.workers):
            self._idle.put(self.compiled.create_infer_request())

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Run one micro-batch on an idle stream."""
        with self._request() as request:
            request.infer([ids, mask], share_inputs=True)
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)

    def close(self) -> None:
        """Release the compiled model."""
        while not self._idle.empty():
            self._idle.get()
        del self.compiled

    @contextmanager
    def _request(self) -> Iterator[Any]:
        request = self._idle.get()
        try:
            yield request
        finally:
            self._idle.put(request)
