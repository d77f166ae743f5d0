"""Encoders in int8 by kernels of our own, on processors with AVX-512 VNNI: packed rows, one call a core and batch."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.base import EnginePlan, Outputs
from windrow.engines.encoding import tagged
from windrow.engines.exports import probes
from windrow.engines.families import FAMILIES
from windrow.engines.native_library import library
from windrow.engines.native_weights import packed_encoder, release_layers, unfit
from windrow.engines.packed import Packed, PackedRows
from windrow.engines.packing import pack_tokens, shared_budget
from windrow.engines.parity import probe_windows
from windrow.engines.pooling import pooled
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import ExportError, JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["NativeEngine"]

_HEADS = {"classify", "tag", "embed"}
_TOKENS = 1024
"""In one call; measured on two cores, 512 and 2048 are as fast within the noise."""
_NEAR = 0.5
"""As in `windrow.engines.exports`: what is off by half of the largest output is not a rounding."""


class NativeEngine(TorchEngine):
    """One encoder whose layers run in our kernels; its head, which takes no time, is the model's own, in fp32.

    Each granted core runs micro-batches of its own. Rows lie one after another, so nothing is padded, and a row's
    states are the same bit by bit whatever shares its micro-batch.

    Raises:
        JobError: The device, the head or the precision is not one that this engine runs.
        ExportError: The kernels cannot be made here, do not run this architecture, or give nonsense.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        if plan.device != "cpu" or plan.head not in _HEADS or plan.precision != "int8":
            raise JobError(
                f"Engine 'native' runs encoders on a CPU in int8, not {plan.head} in {plan.precision} "
                f"on {plan.device}.",
                "set `engine: torch`, or leave engine out.",
            )
        if why := unfit(model.config):
            raise ExportError(f"Engine 'native' cannot run model {model.name!r}: {why}.", "leave engine out.")
        self.name = model.name
        library()
        super().__init__(plan, model)
        self.token_budget = plan.token_budget or _TOKENS

    def tag(self, windows: Windows) -> Outputs:
        """Return logits of every token: a list of float32 arrays ``(tokens, labels)``, one a window."""

        def forward(rows: list[int]) -> list[npt.NDArray[np.float32]]:
            with torch.inference_mode():
                packed = self.layered.moved(windows, rows)
                logits = self.model.classifier(self.layered.states(packed))
            return np.split(logits.numpy(), packed.bounds[1:-1].tolist())

        return tagged(windows, self.token_budget, forward, list, self._relieve, self.workers, self._cut)

    def close(self) -> None:
        """Release the model."""
        del self.layered
        super().close()

    def _cut(self, lengths: npt.NDArray[np.int64], budget: int) -> Iterator[list[int]]:
        """Fill micro-batches with tokens, fewer where so few are left that a core would wait for the others."""
        return pack_tokens(lengths, budget if self.plan.token_budget else shared_budget(lengths, budget, self.workers))

    def _open_packed(self, wanted: bool | None) -> Packed:  # noqa: ARG002 (rows are always packed here)
        """Round the encoder, hold it against the model in fp32, and let go of its layers in fp32."""
        self.layered = Layered(self.model, self.plan.head == "classify")
        if not self._is_near():
            raise ExportError(
                f"Model {self.name!r} gives other outputs in int8 than in fp32 with engine 'native'.",
                "set `precision: bf16` or `precision: fp32`, or leave precision out.",
            )
        self.layered.let_go()
        return self.layered

    def _is_near(self) -> bool:
        """Tell whether the outputs of made-up rows are about those in fp32."""
        config = self.model.config
        windows = probe_windows(self.vocabulary, int(config.max_position_embeddings) - self.pad_id - 2)
        rows = list(range(len(windows.rows)))
        with torch.inference_mode():
            exact = [self._outputs(torch.from_numpy(windows.window(row))[None].long()) for row in rows]
            packed = self.layered.moved(windows, rows)
            if self.plan.head == "tag":
                found = self.model.classifier(self.layered.states(packed))
            elif self.plan.head == "classify":
                found = self.layered.classify(packed)
            else:
                found = self.layered.embed(packed, unit=False)
        wanted = torch.cat(exact)
        return bool(found.isfinite().all()) and float((found - wanted).abs().max()) <= _NEAR * float(wanted.abs().max())

    def _outputs(self, ids: torch.Tensor) -> torch.Tensor:
        """Return what the model says of one row in fp32, shape ``(1, values)``, or ``(tokens, labels)`` of tags."""
        made = self.model(input_ids=ids)
        if self.plan.head == "embed":
            return pooled(made.last_hidden_state, None, "mean", unit=False)
        logits: torch.Tensor = made.logits
        return logits[0] if self.plan.head == "tag" else logits


class Layered(Packed):
    """A model of Transformers whose embeddings and layers run in our kernels.

    Args:
        model: In fp32, of one of `windrow.engines.native_weights.KINDS`.
        first_only: The last layer is run for first tokens alone, since the head reads no others.
    """

    def __init__(self, model: Any, first_only: bool) -> None:
        super().__init__(model, FAMILIES[str(model.config.model_type)], "cpu")
        self.first_only, self.kernels = first_only, library()
        self.encoder = packed_encoder(model, probes(self.vocabulary))
        self.size, self.places = self.encoder.size, self.encoder.positions
        self._idle: SimpleQueue[npt.NDArray[np.uint8]] = SimpleQueue()

    def states(self, rows: PackedRows) -> torch.Tensor:
        """Return the encoder's states, float32, shape ``(tokens, size)``; with `first_only` ``(rows, size)``.

        Raises:
            IndexError: A row is longer than the model's positions reach.
        """
        tokens, count = rows.ids.shape[1], len(rows.bounds) - 1
        if int(rows.positions.max()) >= self.places:
            raise IndexError(f"a row of {rows.longest} tokens is longer than the model's positions reach")
        made = torch.empty(tokens, self.size)
        encoder = ctypes.byref(self.encoder)
        scratch = self._scratch(self.kernels.windrow_scratch(encoder, tokens, count, rows.longest))
        given = (ctypes.c_void_p(part.data_ptr()) for part in (rows.bounds, rows.ids, rows.positions))
        self.kernels.windrow_encode(
            encoder, count, *given, int(self.first_only), ctypes.c_void_p(made.data_ptr()),
            ctypes.c_void_p(scratch.ctypes.data),
        )  # fmt: skip
        self._idle.put(scratch)
        return made[:count] if self.first_only else made

    _states = states

    def let_go(self) -> None:
        """Release what the kernels have in their own form: the layers in fp32."""
        release_layers(self.model.base_model)

    def _scratch(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Return memory for one call; what the last call on a core used, if that is enough."""
        try:
            idle = self._idle.get_nowait()
        except Empty:
            return np.empty(size_bytes, dtype=np.uint8)
        return idle if idle.nbytes >= size_bytes else np.empty(size_bytes, dtype=np.uint8)
