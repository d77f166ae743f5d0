"""Keys and values of the rows that a decoder is writing: one slot a row, each row at a position of its own.

Transformers' caches keep all rows of a micro-batch at one position. Here a row that is done gives its slot to
the next one at once, so rows stand at different positions; masks and position embeddings are made to match.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin, EncoderDecoderCache

__all__ = ["Slots", "positions_apart", "stacked", "stepping"]

_LEAST_WIDTH = 32
_thread = threading.local()


class Slots:
    """Self-attention and cross-attention states of the rows in hand, in the first `used` slots.

    Attributes:
        used: Rows in hand.
        at: Position of the token that each row is fed next, by slot.
        sources: Tokens of each row's source, by slot.
    """

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self.at: list[int] = []
        self.sources: list[int] = []
        self.own = self.cross = torch.zeros(0)
        self.rows = self.positions = torch.zeros(0, dtype=torch.long)

    @property
    def used(self) -> int:
        """Rows in hand."""
        return len(self.at)

    def enter(self, own: torch.Tensor, cross: torch.Tensor) -> None:
        """Take in a row that has made its first token, into the slot after the last in hand.

        Args:
            own: Its keys and values of position 0, shape ``(layers * 2, heads, 1, size)``.
            cross: Those of its source, shape ``(layers * 2, heads, source tokens, size)``.
        """
        slot = self.used
        self.at.append(1)
        self.sources.append(cross.shape[2])
        self.own = self._fitted(self.own, own, slot + 1, 2)
        self.cross = self._fitted(self.cross, cross, slot + 1, max(self.sources))
        for held, new in ((self.own, own), (self.cross, cross)):
            held[:, slot].zero_()  # a masked value that is no number would still spread
            held[:, slot, :, : new.shape[2]] = new

    def leave(self, slot: int) -> None:
        """Give up a slot: the last row in hand moves into it."""
        last = self.used - 1
        if slot != last:
            self.own[:, slot] = self.own[:, last]
            self.cross[:, slot] = self.cross[:, last]
            self.at[slot], self.sources[slot] = self.at[last], self.sources[last]
        self.at.pop()
        self.sources.pop()

    def row_bytes(self) -> int:
        """Return the bytes that keys and values of the longest row in hand take."""
        layers, _, heads, _, size = self.cross.shape
        tokens = max(self.sources) + max(self.at) + 1
        return layers * heads * size * tokens * self.cross.element_size()

    def step(self) -> tuple[EncoderDecoderCache, torch.Tensor, torch.Tensor]:
        """Return the cache for one token of all rows in hand, and the masks of both attentions.

        Masks are added to the scores: 0 or minus infinity, shape ``(rows, 1, 1, positions)``.
        """
        width, source = max(self.at) + 1, max(self.sources)
        self.own = self._fitted(self.own, self.own[:, 0], self.used, width)
        self.rows = torch.arange(self.used, device=self.device)
        self.positions = torch.tensor(self.at, device=self.device)
        layers = range(self.own.shape[0] // 2)
        own = Cache(layers=[_Own(self, layer, width) for layer in layers])
        cross = Cache(layers=[_Cross(self, layer, source) for layer in layers])
        cache = EncoderDecoderCache(own, cross)
        cache.is_updated = dict.fromkeys(layers, True)
        lengths = torch.tensor(self.sources, device=self.device)
        return cache, self._mask(self.positions + 1, width), self._mask(lengths, source)

    def _mask(self, lengths: torch.Tensor, width: int) -> torch.Tensor:
        outside = torch.arange(width, device=self.device) >= lengths[:, None]
        mask = torch.zeros(outside.shape, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(outside, float("-inf"))[:, None, None, :]

    def _fitted(self, held: torch.Tensor, like: torch.Tensor, slots: int, width: int) -> torch.Tensor:
        """Return the store, made larger where it has too few slots or positions."""
        if held.numel() and held.shape[1] >= slots and held.shape[3] >= width:
            return held
        layers, heads, _, size = like.shape
        had_slots, had_width = (held.shape[1], held.shape[3]) if held.numel() else (0, 0)
        slots = had_slots if had_slots >= slots else max(slots, 2 * had_slots)
        width = had_width if had_width >= width else max(width, 2 * had_width, _LEAST_WIDTH)
        larger = torch.zeros((layers, slots, heads, width, size), dtype=self.dtype, device=self.device)
        if had_slots:
            larger[:, :had_slots, :, :had_width] = held
        return larger


class _Own(CacheLayerMixin):  # type: ignore[misc]  # transformers is untyped here
    """Self-attention of one layer: each row writes at its own position."""

    def __init__(self, slots: Slots, layer: int, width: int) -> None:
        self.slots, self.width = slots, width
        self.held = slots.own[2 * layer], slots.own[2 * layer + 1]
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        slots = self.slots
        for held, new in zip(self.held, (key_states, value_states), strict=True):
            held[slots.rows, :, slots.positions] = new[:, :, 0]
        keys, values = (held[: slots.used, :, : self.width] for held in self.held)
        return keys, values

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing is left to do: the slots are there."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 (the seam's own signature)
        return self.width, 0

    def get_seq_length(self) -> int:
        return self.width - 1

    def get_max_length(self) -> int:
        return -1


class _Cross(_Own):
    """Cross-attention of one layer: made once a row, only read."""

    def __init__(self, slots: Slots, layer: int, width: int) -> None:
        self.slots, self.width = slots, width
        self.keys, self.values = (slots.cross[2 * layer + part][: slots.used, :, :width] for part in (0, 1))
        self.is_initialized = True


@contextmanager
def stepping(slots: Slots) -> Iterator[None]:
    """Let this thread's calls of a decoder take the positions of these slots."""
    _thread.slots = slots
    try:
        yield
    finally:
        _thread.slots = None


@contextmanager
def positions_apart(decoder: Any) -> Iterator[None]:
    """Let a decoder embed each row's own position while this is open, in threads that are `stepping`.

    Position embeddings of BART, Marian, Pegasus, M2M100 and their kin are looked up row by row; T5's bias is
    made from each row's distances.

    Raises:
        TypeError: The decoder keeps positions in another way.
    """
    undo: list[tuple[Any, str]] = []
    try:
        if isinstance(getattr(decoder, "embed_positions", None), torch.nn.Module):
            module = decoder.embed_positions
            module.forward = _looked_up(module, module.forward)
            undo.append((module, "forward"))
        for module in decoder.modules():
            if getattr(module, "has_relative_attention_bias", False) and hasattr(module, "compute_bias"):
                module.compute_bias = _by_distance(module.compute_bias)
                undo.append((module, "compute_bias"))
        if not undo:
            raise TypeError(f"{type(decoder).__name__} keeps positions in a way of its own")
        yield
    finally:
        for module, name in undo:
            delattr(module, name)


def _looked_up(module: Any, original: Any) -> Any:
    """Return a look-up of each row's position, in place of a module's ``forward``."""
    if isinstance(module, torch.nn.Embedding):
        table, first = module.weight, int(getattr(module, "offset", 0))
    elif isinstance(getattr(module, "weights", None), torch.Tensor):
        table, first = module.weights, int(module.padding_idx) + 1
    else:
        raise TypeError(f"{type(module).__name__} is no table of positions")

    def forward(*args: Any, **named: Any) -> Any:
        slots: Slots | None = getattr(_thread, "slots", None)
        if slots is None:
            return original(*args, **named)
        if max(slots.at) + first >= len(table):
            raise IndexError(f"position {max(slots.at)} is beyond the decoder's {len(table) - first}")
        return torch.nn.functional.embedding(slots.positions[:, None] + first, table)

    return forward


def _by_distance(compute_bias: Any) -> Any:
    """Return T5's relative bias for rows at different positions, shape ``(rows, heads, 1, positions)``."""
    known: list[torch.Tensor] = []

    def bias(query_length: int, key_length: int, **named: Any) -> Any:
        slots: Slots | None = getattr(_thread, "slots", None)
        if slots is None:
            return compute_bias(query_length, key_length, **named)
        if not known or known[-1].shape[1] < key_length:
            reach = max(_LEAST_WIDTH, 2 * key_length)
            known.append(compute_bias(1, reach, past_seen_tokens=reach - 1)[0, :, 0])
        table = known[-1]
        last = table.shape[1] - 1
        keys = torch.arange(key_length, device=slots.device)
        back = (last - slots.positions[:, None] + keys).clamp(max=last)
        return table[:, back].transpose(0, 1)[:, :, None]

    return bias


def stacked(layers: Sequence[Any]) -> torch.Tensor:
    """Return keys and values of all layers of a cache, shape ``(layers * 2, rows, heads, positions, size)``."""
    return torch.stack([part for layer in layers for part in (layer.keys, layer.values)])
