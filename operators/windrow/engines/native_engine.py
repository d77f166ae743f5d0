"""Encoders in int8 by kernels of our own, on processors with AVX-512 VNNI: packed rows, one call a core and batch."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.base import EnginePlan, Outputs
from windrow.engines.device import granted_cores
from windrow.engines.encoding import tagged
from windrow.engines.exporting import probes
from windrow.engines.families import FAMILIES
from windrow.engines.native_fit import unfit
from windrow.engines.native_library import library
from windrow.engines.native_weights import packed_encoder, release_layers
from windrow.engines.packed import Packed, PackedRows
from windrow.engines.packing import pack, pack_tokens, shared_budget
from windrow.engines.parity import probe_windows
from windrow.engines.pooling import pooled
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import ExportError, JobError
from windrow.models.pictures import Pixels
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["NativeEngine"]

_HEADS = {"classify", "pairs", "tag", "embed"}
_TOKENS = 1024
"""In one call; measured on two cores, 512 and 2048 are as fast within the noise."""
_NEAR = 0.5
"""As in `windrow.engines.exports`: what is off by half of the largest output is not a rounding."""


class NativeEngine(TorchEngine):
    """One encoder whose layers run in our kernels; its head, which takes no time, is the model's own, in fp32.

    Each granted core runs micro-batches of its own. Rows lie one after another, so nothing is padded, and a row's
    states are the same bit by bit whatever shares its micro-batch.

    Where a classifier chooses one label, a row whose label leads by less than rounding moved the probes' leads by (root
    mean square) is looked at again in fp32: of 6,000 pairs of sentences, many near a tie, 0.7 %, after which 99.85 %
    had the label of fp32, instead of 99.67 %.

    Attributes:
        doubt: A smaller lead, in logits, is looked up in fp32; 0 for none.

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
        self.name, self.doubt = model.name, 0.0
        library()
        super().__init__(plan, model)
        self.token_budget = plan.token_budget or _TOKENS

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``; those of labels nearly tied are fp32's own.

        Whether a row is looked at again depends on its own logits in int8 alone, not on its neighbours.
        """
        outputs = super().classify(windows)
        if self.doubt and isinstance(windows, Windows) and len(outputs.values):
            second, first = np.sort(outputs.values, axis=1)[:, -2:].T
            near = np.setdiff1d(np.flatnonzero(first - second < self.doubt), list(outputs.failed))
            if len(near):
                exact = self._encoded(windows, self._logits, partial(_of_these, near))
                looked_at = np.setdiff1d(near, list(exact.failed))
                outputs.values[looked_at] = exact.values[looked_at]
        return outputs

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
        return pack_tokens(lengths, budget, self.workers)

    def _open_packed(self, wanted: bool | None) -> Packed:  # noqa: ARG002 (rows are always packed here)
        """Round the encoder and hold it against the model in fp32, whose layers stay if labels are to be looked up."""
        self.layered = Layered(self.model, self.plan.head in {"classify", "pairs"})
        found, exact = self._probed()
        if not found.isfinite().all() or float((found - exact).abs().max()) > _NEAR * float(exact.abs().max()):
            raise ExportError(
                f"Model {self.name!r} gives other outputs in int8 than in fp32 with engine 'native'.",
                "set `precision: bf16` or `precision: fp32`, or leave precision out.",
            )
        if self.plan.head == "classify" and chooses_one(self.model.config):
            best = found.topk(2).indices
            self.doubt = float((found - exact).gather(1, best).diff().square().mean().sqrt())
        else:
            self.layered.let_go()
        return self.layered

    def _probed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the outputs of made-up rows in int8 and in fp32."""
        config = self.model.config
        windows = probe_windows(self.vocabulary, int(config.max_position_embeddings) - self.pad_id - 2)
        rows = list(range(len(windows.rows)))
        with torch.inference_mode():
            exact = [self._outputs(torch.from_numpy(windows.window(row))[None].long()) for row in rows]
            packed = self.layered.moved(windows, rows)
            if self.plan.head == "tag":
                found = self.model.classifier(self.layered.states(packed))
            elif self.plan.head == "embed":
                found = self.layered.embed(packed, unit=False)
            else:
                found = self.layered.classify(packed)
        return found, torch.cat(exact)

    def _outputs(self, ids: torch.Tensor) -> torch.Tensor:
        """Return what the model says of one row in fp32, shape ``(1, values)``, or ``(tokens, labels)`` of tags."""
        made = self.model(input_ids=ids)
        if self.plan.head == "embed":
            return pooled(made.last_hidden_state, None, "mean", unit=False)
        logits: torch.Tensor = made.logits
        return logits[0] if self.plan.head == "tag" else logits


def chooses_one(config: Any) -> bool:
    """Tell whether the label with the largest logit is the answer."""
    return config.num_labels > 1 and config.problem_type not in {"multi_label_classification", "regression"}


def _of_these(rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], budget: int) -> Iterator[list[int]]:
    """Make micro-batches of some rows alone, with turns for each core."""
    sizes = lengths[rows]
    yield from (rows[batch].tolist() for batch in pack(sizes, shared_budget(sizes, budget, granted_cores())))


class Layered(Packed):
    """A model of Transformers whose embeddings and layers run in our kernels.

    Args:
        model: In fp32, of one of `windrow.engines.native_fit.KINDS`.
        first_only: The last layer is run for first tokens alone, since the head reads no others.
    """

    def __init__(self, model: Any, first_only: bool) -> None:
        super().__init__(model, FAMILIES[str(model.config.model_type)], "cpu")
        self.first_only, self.kernels = first_only, library()
        self.encoder = packed_encoder(model, probes(self.vocabulary))
        self.size, self.places = self.encoder.size, self.encoder.positions
        self._idle: SimpleQueue[npt.NDArray[np.uint8]] = SimpleQueue()

    def moved(self, windows: Windows, rows: list[int], shift: int = 0) -> PackedRows:
        """Put the windows `rows` one after another; tokens of second sentences have places of their own.

        Raises:
            IndexError: A token is not in the vocabulary, or a row is longer than the model's positions reach.
        """
        made = super().moved(windows, rows, shift)
        if int(made.positions.max()) >= self.places:
            raise IndexError(f"a row of {made.longest} tokens is longer than the model's positions reach")
        if windows.types is not None:
            kinds = np.concatenate([windows.types[windows.offsets[row] : windows.offsets[row + 1]] for row in rows])
            made.positions.add_(torch.from_numpy(kinds.astype(np.int64)) * self.places)
        return made

    def states(self, rows: PackedRows) -> torch.Tensor:
        """Return the encoder's states, float32, shape ``(tokens, size)``; with `first_only` ``(rows, size)``."""
        tokens, count = rows.ids.shape[1], len(rows.bounds) - 1
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
        """Return memory for one call: what the last call on a core used, or some more than is needed.

        Fresh memory is slow at first touch, and the next micro-batch may need a little more.
        """
        with suppress(Empty):
            idle = self._idle.get_nowait()
            if idle.nbytes >= size_bytes:
                return idle
        return np.empty(size_bytes * 3 // 2, dtype=np.uint8)
