"""Encoders over micro-batches without padding: all rows one after another, as one row of ``total_tokens``."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.base import Note
from windrow.engines.families import FAMILIES, Family, row_sums
from windrow.engines.lost import is_device_lost
from windrow.engines.packing import places_in_rows
from windrow.engines.parity import disagreement
from windrow.engines.probing import PROBE_TOKENS, probe_windows
from windrow.engines.varlen import register
from windrow.models.windows import Windows

__all__ = ["Packed", "PackedRows", "open_packed"]

log = logging.getLogger("windrow")


@dataclass(frozen=True, slots=True)
class PackedRows:
    """One micro-batch on its device.

    Attributes:
        ids: Token ids of all rows, shape ``(1, tokens)``.
        positions: Of each token in its row, shape ``(1, tokens)``.
        bounds: Where rows start, and where the last ends, int32, shape ``(rows + 1,)``.
        longest: Tokens of the longest row.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    bounds: torch.Tensor
    longest: int


class Packed:
    """A model that reads packed rows.

    Args:
        model: A classifier or an encoder of Transformers, whose attention is `windrow.engines.varlen`'s.
        family: How its family is called.
        device: Where it is.
    """

    def __init__(self, model: Any, family: Family, device: str) -> None:
        self.model, self.family, self.device = model, family, device
        self.padding = int(getattr(model.config, "pad_token_id", None) or 0)
        self.vocabulary = int(model.get_input_embeddings().weight.shape[0])

    def classify(self, rows: PackedRows) -> torch.Tensor:
        """Return logits, shape ``(rows, labels)``."""
        return self.family.head(self.model, self._states(rows), rows.bounds)

    def embed(self, rows: PackedRows, pooling: str = "mean", unit: bool = True) -> torch.Tensor:
        """Return one vector a row, float32, shape ``(rows, size)``; the poolings are those of `engines.pooling`."""
        states, bounds = self._states(rows), rows.bounds.long()
        lengths = bounds.diff()
        if pooling == "mean":
            vectors = row_sums(states, rows.bounds) / lengths.unsqueeze(-1)
        elif pooling == "max":
            vectors = torch.segment_reduce(states.float(), "max", lengths=lengths)
        else:
            vectors = states[bounds[:-1] if pooling == "cls" else bounds[1:] - 1].float()
        return torch.nn.functional.normalize(vectors, dim=-1) if unit else vectors

    def moved(self, windows: Windows, rows: list[int], shift: int = 0) -> PackedRows:
        """Put the windows `rows` one after another and send them to the device in one copy.

        On CUDA the copy starts from pinned memory and is not waited for.

        Args:
            shift: Added to all positions; other than 0 it is wrong, which the parity check uses.

        Raises:
            IndexError: A token is not in the vocabulary.
        """
        pieces = [windows.window(row) for row in rows]
        lengths = windows.lengths[rows]
        ids = np.concatenate(pieces)
        if ids.max() >= self.vocabulary:
            raise IndexError(f"token {ids.max()} is not in the model's vocabulary of {self.vocabulary}")
        bounds = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        sent = torch.from_numpy(np.concatenate([ids, self.positions(ids, bounds) + shift, bounds]).astype(np.int32))
        if self.device.startswith("cuda"):
            sent = sent.pin_memory()
        there = sent.to(self.device, non_blocking=True)
        tokens, positions = there[: 2 * len(ids)].long().view(2, 1, -1)
        return PackedRows(tokens, positions, there[2 * len(ids) :], int(lengths.max()))

    def positions(self, ids: npt.NDArray[np.int32], bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the position of each token in its row, as the family counts, shape ``(tokens,)``."""
        return places_in_rows(ids, bounds, self.padding if self.family.skips_padding else None)

    def _states(self, rows: PackedRows) -> torch.Tensor:
        """Return the encoder's states, shape ``(tokens, size)``; first tokens only, where its last layer is short."""
        made = self.model.base_model(
            input_ids=rows.ids,
            attention_mask=self.family.mask,
            position_ids=rows.positions,
            cu_seq_lens_q=rows.bounds,
            cu_seq_lens_k=rows.bounds,
            max_length_q=rows.longest,
            max_length_k=rows.longest,
        )
        states: torch.Tensor = made.last_hidden_state[0]
        return states


def open_packed(
    model: Any, head: str, device: str, padded: Callable[[Windows, list[int]], torch.Tensor], note: Note
) -> Packed | None:
    """Return the model as one that reads packed rows, if it then says the same as with padding.

    Args:
        head: ``classify`` or ``embed``.
        padded: Runs the rows of windows padded, in the ordinary way.
        note: Told if rows are padded after all.

    Returns:
        None, with a line in the log, where the family is not known or the probes' outputs differ.

    Raises:
        RuntimeError: The device is gone.
    """
    kind = str(model.config.model_type)
    family = FAMILIES.get(kind)
    if family is None:
        log.info("Models of type %s are run with sorted padding: they have no packed path.", kind)
        note("packed rows", "sorted padding", f"models of type {kind} have no packed path")
        return None
    made, before = Packed(model, family, device), model.config._attn_implementation
    try:
        reason = _compared(made, head, padded)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, ImportError) as error:
        if is_device_lost(error):
            raise
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    if reason is None:
        log.info("Micro-batches are packed without padding; probes agree with the padded model.")
        return made
    model.set_attn_implementation(before)
    log.warning("Micro-batches are run with sorted padding, since packed ones failed their probe: %s", reason)
    note("packed rows", "sorted padding", f"packed rows failed their probe: {reason}")
    return None


def _compared(packed: Packed, head: str, padded: Callable[[Windows, list[int]], torch.Tensor]) -> str | None:
    """Run the probes both ways; return how they differ, if they do."""
    config = packed.model.config
    room = int(getattr(config, "max_position_embeddings", None) or PROBE_TOKENS)
    first = packed.padding + 1 if packed.family.skips_padding else 0
    windows = probe_windows(packed.vocabulary, room - first - 1)
    rows = list(range(len(windows.rows)))
    run = packed.classify if head == "classify" else packed.embed
    with torch.inference_mode():
        expected = padded(windows, rows).float()
        packed.model.set_attn_implementation(register())
        got = run(packed.moved(windows, rows)).float()
        shifted = run(packed.moved(windows, rows, shift=1)).float() if packed.family.looks_up_positions else None
        return disagreement(expected, got, shifted, next(packed.model.parameters()).dtype)
