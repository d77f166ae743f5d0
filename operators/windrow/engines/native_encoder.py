"""An encoder of engine ``native``, run without PyTorch: its layers in our kernels, its head in fp32."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.encoding import to_unit_length
from windrow.engines.native_fit import FAIRSEQ, PANEL
from windrow.engines.native_library import library
from windrow.engines.packing import places_in_rows
from windrow.engines.probing import probe_windows
from windrow.models.windows import Windows

__all__ = ["Arrays", "NativeEncoder", "NativeRows", "native_probes"]

Arrays = Mapping[str, npt.NDArray[Any]]
"""What `windrow.engines.native_weights` makes of a checkpoint, by name."""
Floats = npt.NDArray[np.float32]

_FOUR = 4
_LINE_BYTES = 64
_PRODUCTS = ("query", "key", "value", "mixed", "inner", "outer")
_NORMS = ("attended", "put_out")
_POLYNOMIAL = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)


class _Product(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("inputs", "outputs", "group")),
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "sums", "bias", "ease")),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class _Layer(ctypes.Structure):
    _fields_ = [*((name, _Product) for name in _PRODUCTS), *((name, _Norm) for name in _NORMS)]


class _Encoder(ctypes.Structure):
    """The kernels' view of an encoder; `last_key` and `last_value` are the last layer's, in fp32."""

    _fields_ = [
        ("words", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("embedded", _Norm),
        ("layers", ctypes.POINTER(_Layer)),
        ("count", ctypes.c_int32),
        ("heads", ctypes.c_int32),
        ("last_key", ctypes.c_void_p),
        ("last_value", ctypes.c_void_p),
    ]


@dataclass(frozen=True, slots=True)
class NativeRows:
    """One micro-batch, its rows one after another.

    Attributes:
        ids: Token ids of all rows, int64, shape ``(tokens,)``.
        places: Of each token in the table of places, int64, shape ``(tokens,)``.
        bounds: Where rows start, and where the last ends, int32, shape ``(rows + 1,)``.
        longest: Tokens of the longest row.
    """

    ids: npt.NDArray[np.int64]
    places: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int32]
    longest: int


def native_probes(vocabulary: int, positions: int, padding: int) -> Windows:
    """Return made-up rows of different lengths that fit a model."""
    return probe_windows(vocabulary, positions - padding - 2)


class NativeEncoder:
    """An encoder and its head.

    Args:
        arrays: As `windrow.engines.native_weights.rounded_model` makes them.
        kind: The checkpoint's ``model_type``, one of `windrow.engines.native_fit.KINDS`.
        first_only: The last layer is run for first tokens alone, since the head reads no others.

    Attributes:
        size: Channels of a state.
        positions: Places in a row that the model knows; the table has so many for each kind of token.
        vocabulary: Token ids are below this.
        head: Weights and biases of the products that make logits of a state; none where vectors are wanted.
    """

    def __init__(self, arrays: Arrays, kind: str, first_only: bool) -> None:
        self.kind, self.first_only, self.kernels = kind, first_only, library()
        self.vocabulary, self.size = arrays["words"].shape
        self.positions, self.padding = int(arrays["positions"]), int(arrays["padding"])
        self.head = [
            (arrays[f"head.{place}.weight"], arrays[f"head.{place}.bias"])
            for place in range(sum(name.startswith("head.") for name in arrays) // 2)
        ]
        self._kept: list[Any] = []
        self.encoder = self._encoder(arrays)
        self._idle: SimpleQueue[npt.NDArray[np.uint8]] = SimpleQueue()

    def packed(self, windows: Windows, rows: list[int]) -> NativeRows:
        """Put the windows `rows` one after another; tokens of second sentences have places of their own.

        Raises:
            IndexError: A token is not in the vocabulary, or a row is longer than the model's positions reach.
        """
        ids = np.concatenate([windows.window(row) for row in rows]).astype(np.int64)
        if ids.max() >= self.vocabulary:
            raise IndexError(f"token {ids.max()} is not in the model's vocabulary of {self.vocabulary}")
        lengths = windows.lengths[rows]
        bounds = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        places = places_in_rows(ids, bounds, self.padding if self.kind in FAIRSEQ else None)
        longest = int(lengths.max())
        if int(places.max()) >= self.positions:
            raise IndexError(f"a row of {longest} tokens is longer than the model's positions reach")
        if windows.types is not None:
            kinds = np.concatenate([windows.types[windows.offsets[row] : windows.offsets[row + 1]] for row in rows])
            places = places + kinds.astype(np.int64) * self.positions
        return NativeRows(ids, np.ascontiguousarray(places, dtype=np.int64), bounds.astype(np.int32), longest)

    def states(self, rows: NativeRows) -> Floats:
        """Return the encoder's states, float32, shape ``(tokens, size)``; with `first_only` ``(rows, size)``."""
        tokens, count = len(rows.ids), len(rows.bounds) - 1
        made = np.empty((tokens, self.size), dtype=np.float32)
        encoder = ctypes.byref(self.encoder)
        scratch = self._scratch(self.kernels.windrow_scratch(encoder, tokens, count, rows.longest))
        given = (ctypes.c_void_p(part.ctypes.data) for part in (rows.bounds, rows.ids, rows.places))
        self.kernels.windrow_encode(
            encoder, count, *given, int(self.first_only), ctypes.c_void_p(made.ctypes.data),
            ctypes.c_void_p(scratch.ctypes.data),
        )  # fmt: skip
        self._idle.put(scratch)
        return made[:count] if self.first_only else made

    def logits(self, states: Floats) -> Floats:
        """Return what the head makes of states, float32, shape ``(states, labels)``."""
        for place, (weight, bias) in enumerate(self.head):
            states = states @ weight.T + bias
            if place < len(self.head) - 1:
                states = _activated(states, self.kind)
        return states

    def vectors(self, states: Floats, bounds: npt.NDArray[np.int32], pooling: str, unit: bool) -> Floats:
        """Return one vector a row, float32, shape ``(rows, size)``; poolings are those of Sentence Transformers."""
        starts = bounds[:-1]
        vectors: npt.NDArray[Any]
        if pooling == "mean":
            vectors = np.add.reduceat(states, starts, axis=0) / np.diff(bounds)[:, None].astype(np.float32)
        elif pooling == "max":
            vectors = np.maximum.reduceat(states, starts, axis=0)
        else:
            vectors = states[starts if pooling == "cls" else bounds[1:] - 1]
        return to_unit_length(vectors) if unit else np.asarray(vectors, dtype=np.float32)

    def probed(self) -> Floats:
        """Return what the encoder makes of `native_probes`: vectors, logits, or logits of all tokens."""
        windows = native_probes(self.vocabulary, self.positions, self.padding)
        rows = self.packed(windows, list(range(len(windows.rows))))
        states = self.states(rows)
        return self.logits(states) if self.head else self.vectors(states, rows.bounds, "mean", unit=False)

    def _encoder(self, arrays: Arrays) -> _Encoder:
        count = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("layers."))
        layers = (_Layer * count)()
        for place, layer in enumerate(layers):
            for name in _PRODUCTS:
                setattr(layer, name, self._product(arrays, f"layers.{place}.{name}"))
            for name in _NORMS:
                setattr(layer, name, self._norm(arrays, f"layers.{place}.{name}"))
        self._kept.append(layers)
        return _Encoder(
            self._address(arrays["words"]), self._address(arrays["places"]), self._norm(arrays, "embedded"), layers,
            count, int(arrays["heads"]), self._address(arrays["last_key"]), self._address(arrays["last_value"]),
        )  # fmt: skip

    def _product(self, arrays: Arrays, name: str) -> _Product:
        weights, scales = arrays[f"{name}.weights"], arrays[f"{name}.scales"]
        outputs, inputs = weights.shape[0] * PANEL, weights.shape[1] * _FOUR
        rest = (self._address(arrays[f"{name}.{part}"]) for part in ("scales", "sums", "bias", "ease"))
        return _Product(inputs, outputs, inputs // len(scales), self._address(weights, aligned=True), *rest)

    def _norm(self, arrays: Arrays, name: str) -> _Norm:
        weight, bias = (self._address(arrays[f"{name}.{part}"]) for part in ("weight", "bias"))
        return _Norm(weight, bias, float(arrays[f"{name}.epsilon"]))

    def _address(self, array: npt.NDArray[Any], aligned: bool = False) -> int:
        """Keep an array as long as the encoder, and return where it lies; `aligned`: on a line of the caches."""
        whole = np.ascontiguousarray(array)
        if aligned and whole.ctypes.data % _LINE_BYTES:
            room = np.empty(whole.nbytes + _LINE_BYTES, dtype=np.uint8)
            start = -room.ctypes.data % _LINE_BYTES
            lines = room[start : start + whole.nbytes].view(whole.dtype).reshape(whole.shape)
            lines[...] = whole
            whole = lines
        self._kept.append(whole)
        return int(whole.ctypes.data)

    def _scratch(self, size_bytes: int) -> npt.NDArray[np.uint8]:
        """Return memory for one call: what the last call on a core used, or some more than is needed.

        Fresh memory is slow at first touch, and the next micro-batch may need a little more.
        """
        with suppress(Empty):
            idle = self._idle.get_nowait()
            if idle.nbytes >= size_bytes:
                return idle
        return np.empty(size_bytes * 3 // 2, dtype=np.uint8)


def _activated(values: Floats, kind: str) -> Floats:
    """Apply the activation between the two products of a classifier's head."""
    if kind == "distilbert":
        return np.maximum(values, np.float32(0))
    return _gelu(values) if kind == "electra" else np.tanh(values)


def _gelu(values: Floats) -> Floats:
    """Return x times the normal distribution's share below x; the error function is off by 1.5e-7 at most.

    Source: Abramowitz and Stegun 1964, "Handbook of Mathematical Functions", formula 7.1.26.

    >>> [f"{value:.5f}" for value in _gelu(np.array([-1, 0, 2], dtype=np.float32))]
    ['-0.15866', '0.00000', '1.95450']
    """
    z = np.abs(values.astype(np.float64)) / np.sqrt(2)
    t = 1 / (1 + 0.3275911 * z)
    error = np.sign(values) * (1 - t * np.polyval(_POLYNOMIAL, t) * np.exp(-z * z))
    return np.asarray(values * 0.5 * (1 + error), dtype=np.float32)
