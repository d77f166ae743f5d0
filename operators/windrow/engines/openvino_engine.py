"""OpenVINO on a CPU: encoders compiled once, their layers fused, one stream a core."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.base import Decoding, EnginePlan, Outputs
from windrow.engines.device import granted_cores
from windrow.engines.encoding import encoded, padded
from windrow.engines.openvino_export import exported
from windrow.errors import JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Windows

__all__ = ["OpenVinoEngine"]

_TOKEN_BUDGET = 512
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_REQUESTS_A_STREAM = 1
"""Measured: more only crowd the caches."""


class OpenVinoEngine:
    """One encoder, exported and compiled for this processor.

    Each granted core runs micro-batches of its own, as in the torch engine; what differs is that
    normalisation, activation and attention are fused into the matrix products around them.

    Raises:
        JobError: The device, the head or the precision is not one that this engine runs.
        ExportError: The model cannot be exported, or says something else once it is.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        if plan.device != "cpu" or plan.head == "generate" or plan.precision not in _HINTS:
            raise JobError(
                f"Engine 'openvino' runs encoders on a CPU in {' or '.join(_HINTS)}, "
                f"not {plan.head} in {plan.precision} on {plan.device}.",
                "set `engine: torch`, or leave engine out.",
            )
        import openvino

        self.plan = plan
        export = exported(plan, model)
        cores = granted_cores()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[plan.precision],
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
        }
        self.compiled: Any = openvino.Core().compile_model(str(export.file), "CPU", options)
        self.workers = _REQUESTS_A_STREAM * cores
        self.token_budget = _TOKEN_BUDGET
        self.pad_id, self.vocabulary = export.pad_id, export.vocabulary
        self._idle: SimpleQueue[Any] = SimpleQueue()
        for _ in range(self.workers):
            self._idle.put(self.compiled.create_infer_request())

    def classify(self, windows: Windows) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``."""
        return encoded(windows, self.token_budget, self._forward(windows), np.asarray, self._relieve, self.workers)

    def embed(self, windows: Windows) -> Outputs:
        """Return mean-pooled, unit-length vectors, float32, shape ``(windows, size)``."""
        return self.classify(windows)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine does not write."""
        raise JobError("Engine 'openvino' does not generate text.", "set `engine: torch`, or leave engine out.")

    def close(self) -> None:
        """Release the compiled model."""
        while not self._idle.empty():
            self._idle.get()
        del self.compiled

    def _forward(self, windows: Windows) -> Any:
        def forward(rows: list[int]) -> npt.NDArray[np.float32]:
            ids, inside = padded(windows, rows, self.pad_id, self.vocabulary)
            with self._request() as request:
                request.infer([ids, inside.astype(np.int64)], share_inputs=True)
                return np.array(request.get_output_tensor(0).data, dtype=np.float32)

        return forward

    @contextmanager
    def _request(self) -> Iterator[Any]:
        request = self._idle.get()
        try:
            yield request
        finally:
            self._idle.put(request)

    def _relieve(self) -> None:
        """After a lack of memory: send less at once from now on."""
        self.token_budget = max(256, self.token_budget // 2)
