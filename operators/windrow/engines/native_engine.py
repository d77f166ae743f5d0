"""Encoders in int8 by kernels of our own, on x86 processors: packed rows, one call a core and micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from windrow.engines import open_engine
from windrow.engines.base import Decoding, Engine, EnginePlan, Outputs
from windrow.engines.device import granted_cores
from windrow.engines.encoding import encoded, tagged
from windrow.engines.exports import exported, far_off, near
from windrow.engines.native_encoder import NativeEncoder
from windrow.engines.native_export import native_format
from windrow.engines.native_fit import unfit
from windrow.engines.native_library import library, variant
from windrow.engines.packing import pack_tokens
from windrow.errors import ExportError, JobError
from windrow.models.pictures import Pixels
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["NativeEngine"]

_HEADS = {"classify", "pairs", "tag", "embed"}
_FIX = "set `engine: torch`, or leave engine out."
_TOKENS = 1024
"""In one call; measured on two cores, 512 and 2048 are as fast within the noise."""


class NativeEngine:
    """One encoder whose layers run in our kernels, and its head, which takes no time, in fp32.

    It is rounded once and kept as an export, so that opening it imports no PyTorch. Each granted core runs
    micro-batches of its own. Rows lie one after another, so nothing is padded, and a row's states are the same bit by
    bit whatever shares its micro-batch.

    Where a classifier chooses one label, a row whose label leads by less than rounding moved the probes' leads by (root
    mean square; twice that with weights of seven bits) is looked at again in fp32: with eight bits 0.7 % of 6,000 pairs
    of sentences, many near a tie, after which 99.85 % had the label of fp32, instead of 99.67 %; with seven 3.2 % of
    7,079 sentences of reviews, after which 99.99 % had it, instead of 99.55 %.

    Attributes:
        doubt: A smaller lead, in logits, is looked up in fp32; 0 for none.
        precise: The same model in fp32, which does that: in OpenVINO, else in PyTorch.

    Raises:
        JobError: The device, the head or the precision is not one that this engine runs.
        ExportError: The kernels cannot be made here, do not run this architecture, or give nonsense.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        if plan.device != "cpu" or plan.head not in _HEADS or plan.precision != "int8":
            raise JobError(
                f"Engine 'native' runs encoders on a CPU in int8, not {plan.head} in {plan.precision} "
                f"on {plan.device}.",
                _FIX,
            )
        if why := unfit(model.config):
            raise ExportError(f"Engine 'native' cannot run model {model.name!r}: {why}.", "leave engine out.")
        library()
        form = native_format()
        self.plan = plan
        arrays = _read(exported(plan, model, form).file)
        self.encoder = NativeEncoder(arrays, str(model.config["model_type"]), plan.head in {"classify", "pairs"})
        self.workers, self.token_budget = granted_cores(), plan.token_budget or _TOKENS
        found, told = self.encoder.probed(), arrays["answers"]
        if not near(found, told):
            raise far_off(model, form)
        self.doubt = variant().caution * _moved_leads(found, told) if arrays["chooses_one"] else 0.0
        self.precise = self._exact_engine(model) if self.doubt else None

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``; those of labels nearly tied are fp32's own.

        Whether a row is looked at again depends on its own logits in int8 alone, not on its neighbours.
        """
        if isinstance(windows, Pixels):
            raise JobError("Engine 'native' does not read images.", _FIX)

        def forward(rows: list[int]) -> npt.NDArray[np.float32]:
            return self.encoder.states(self.encoder.packed(windows, rows))

        outputs = self._gathered(windows, forward, self.encoder.logits)
        if self.precise and len(outputs.values):
            second, first = np.sort(outputs.values, axis=1)[:, -2:].T
            doubtful = np.setdiff1d(np.flatnonzero(first - second < self.doubt), list(outputs.failed))
            if len(doubtful):
                exact = self.precise.classify(windows.only(doubtful))
                looked_at = np.setdiff1d(np.arange(len(doubtful)), list(exact.failed))
                outputs.values[doubtful[looked_at]] = exact.values[looked_at]
        return outputs

    def tag(self, windows: Windows) -> Outputs:
        """Return logits of every token: a list of float32 arrays ``(tokens, labels)``, one a window."""

        def forward(rows: list[int]) -> list[npt.NDArray[np.float32]]:
            packed = self.encoder.packed(windows, rows)
            return np.split(self.encoder.logits(self.encoder.states(packed)), packed.bounds[1:-1].tolist())

        return self._gathered(windows, forward, list, tagged)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:
        """Return one vector a window, float32, shape ``(windows, size)``."""

        def forward(rows: list[int]) -> npt.NDArray[np.float32]:
            packed = self.encoder.packed(windows, rows)
            return self.encoder.vectors(self.encoder.states(packed), packed.bounds, pooling, unit)

        return self._gathered(windows, forward, np.asarray)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine does not write."""
        raise JobError("Engine 'native' does not generate text.", _FIX)

    def close(self) -> None:
        """Release the model."""
        if self.precise:
            self.precise.close()
        del self.encoder, self.precise

    def _exact_engine(self, model: ResolvedModel) -> Engine:
        """Open the model in fp32, in an engine that imports no PyTorch where that can be had."""
        plan = replace(self.plan, precision="fp32", token_budget=None)
        if find_spec("openvino"):
            try:
                return open_engine(replace(plan, engine="openvino"), model)
            except ExportError as error:
                self.plan.note("labels nearly tied in openvino", "these in torch", error.problem)
        return open_engine(replace(plan, engine="torch"), model)

    def _gathered(
        self,
        windows: Windows,
        forward: Callable[[list[int]], Any],
        fetch: Callable[[Any], Any],
        gather: Callable[..., Outputs] = encoded,
    ) -> Outputs:
        return gather(windows, self.token_budget, forward, fetch, self._relieve, self.workers, self._cut)

    def _cut(self, lengths: npt.NDArray[np.int64], budget: int) -> Iterator[list[int]]:
        """Fill micro-batches with tokens, fewer where so few are left that a core would wait for the others."""
        return pack_tokens(lengths, budget, self.workers)

    def _relieve(self) -> None:
        """After a lack of memory: send less at once from now on."""
        self.token_budget = max(256, self.token_budget // 2)


def _read(file: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ExportError(
            f"The weights in {str(file)!r} cannot be read: {error}", "remove the folder that they are in; it is remade."
        ) from None


def _moved_leads(found: npt.NDArray[np.float32], told: npt.NDArray[np.float32]) -> float:
    """Return by how much rounding moves the lead of the best label over the next, root mean square, in logits."""
    best = np.argsort(-found, axis=1, kind="stable")[:, :2]
    return float(np.sqrt(np.square(np.diff(np.take_along_axis(found - told, best, axis=1))).mean()))
