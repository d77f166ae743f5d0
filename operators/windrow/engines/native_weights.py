"""A checkpoint's encoder as engine ``native``'s kernels read it: int8 weights by panels, the rest in fp32."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.first_token import FirstTokenLayer
from windrow.engines.native_fit import PANEL, heads_of
from windrow.engines.rounding import balance, rounded

__all__ = ["Encoder", "packed_encoder", "release_layers"]

_FOUR = 4
_LINE_BYTES = 64
_GROUP = 384
"""Most neighbouring channels that share a scale. Most of what rounding costs, it costs in the feed-forward layer's
inner states. These are sorted by how large they grow, so that like share a scale: the last states of 60 reviews were
off by 0.0146 then, root mean square, of 0.36; unsorted by 0.0165, and in groups of 128, which take longer, by 0.0148.
"""

_ALL = slice(None)

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp] | slice


class _Product(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("inputs", "outputs", "group")),
        *((name, ctypes.c_void_p) for name in ("weights", "scales", "sums", "bias", "ease")),
    ]


class _Norm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("epsilon", ctypes.c_float)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Product) for name in ("query", "key", "value", "mixed", "inner", "outer")),
        *((name, _Norm) for name in ("attended", "put_out")),
    ]


class Encoder(ctypes.Structure):
    """The kernels' view of an encoder.

    Attributes:
        kept: The arrays that it points to.
        size: Channels of a state.
        positions: Places in a row that the model knows; the table of places has so many rows for each kind of token.
    """

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
    kept: list[Any]
    size: int
    positions: int


@dataclass(frozen=True, slots=True)
class _Parts:
    """The modules of one layer, by what they do; `query`, `key` and `value` read the same states."""

    query: Any
    key: Any
    value: Any
    mixed: Any
    attended: Any
    inner: Any
    outer: Any
    put_out: Any


def packed_encoder(model: Any, probes: Any) -> Encoder:
    """Return the encoder of a model of Transformers with its products rounded.

    Args:
        model: In fp32, of one of `windrow.engines.native_fit.KINDS`.
        probes: Pairs of token ids and mask, to see how large each channel of the states grows.
    """
    base = model.base_model
    layers = [_parts(layer) for layer in _layers(base)]
    peaks = _largest_states(model, layers, probes)
    hidden = layers[0].inner.in_features
    made = Encoder()
    made.kept, made.size = [], hidden
    table = base.embeddings.position_embeddings.weight.detach()
    made.positions = len(table)
    if (types := getattr(base.embeddings, "token_type_embeddings", None)) is not None:
        table = torch.cat([table + kind for kind in types.weight.detach()])
    made.words = _kept(made, _array(base.embeddings.word_embeddings.weight))
    made.places = _kept(made, _array(table))
    made.embedded = _norm(made, base.embeddings.LayerNorm)
    rows = (_Layer * len(layers))()
    for row, parts in zip(rows, layers, strict=True):
        asking = [parts.query, parts.key, parts.value]
        eased = _factors(asking, peaks[parts.query])
        row.query, row.key, row.value = (_product(made, part, eased) for part in asking)
        sizes = peaks[parts.outer].argsort(kind="stable")
        for name, outputs, inputs in (("mixed", _ALL, _ALL), ("inner", sizes, _ALL), ("outer", _ALL, sizes)):
            part = getattr(parts, name)
            setattr(row, name, _product(made, part, _factors([part], peaks[part]), outputs, inputs))
        row.attended, row.put_out = _norm(made, parts.attended), _norm(made, parts.put_out)
    made.kept.append(rows)
    made.layers, made.count, made.heads = rows, len(layers), heads_of(model.config.to_dict())
    made.last_key = _kept(made, _array(layers[-1].key.weight))
    turned = _array(layers[-1].value.weight).reshape(made.heads, hidden // made.heads, hidden).transpose(0, 2, 1)
    made.last_value = _kept(made, turned)
    return made


def release_layers(base: Any) -> None:
    """Drop the layers of an encoder, whose weights the kernels have in their own form."""
    (base.transformer if hasattr(base, "transformer") else base.encoder).layer = torch.nn.ModuleList()


def _layers(base: Any) -> list[Any]:
    """Return an encoder's layers, the last as it is whole."""
    layers = (base.transformer if hasattr(base, "transformer") else base.encoder).layer
    return [layer.layer if isinstance(layer, FirstTokenLayer) else layer for layer in layers]


def _parts(layer: Any) -> _Parts:
    """Return the modules of a layer of BERT and its like, or of DistilBERT."""
    if hasattr(layer, "ffn"):
        own = layer.attention
        return _Parts(
            own.q_lin, own.k_lin, own.v_lin, own.out_lin, layer.sa_layer_norm,
            layer.ffn.lin1, layer.ffn.lin2, layer.output_layer_norm,
        )  # fmt: skip
    own, after = layer.attention.self, layer.attention.output
    return _Parts(
        own.query, own.key, own.value, after.dense, after.LayerNorm,
        layer.intermediate.dense, layer.output.dense, layer.output.LayerNorm,
    )  # fmt: skip


def _largest_states(model: Any, layers: list[_Parts], probes: Any) -> dict[Any, Floats]:
    """Return the largest magnitude of each channel that a product reads, over the probes."""
    peaks: dict[Any, Floats] = {}

    def see(part: Any, given: tuple[torch.Tensor, ...]) -> None:
        met = _array(given[0].reshape(-1, given[0].shape[-1]).abs().amax(dim=0))
        peaks[part] = np.maximum(peaks[part], met) if part in peaks else met

    parts = [part for layer in layers for part in (layer.query, layer.mixed, layer.inner, layer.outer)]
    handles = [part.register_forward_pre_hook(see) for part in parts]
    try:
        with torch.inference_mode():
            for ids, mask in probes:
                model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
    finally:
        for handle in handles:
            handle.remove()
    return peaks


def _factors(parts: list[Any], states: Floats) -> Floats:
    weights = np.max([np.abs(_array(part.weight)).max(axis=0) for part in parts], axis=0)
    return balance(states, weights)


def _product(encoder: Encoder, part: Any, factors: Floats, outputs: Places = _ALL, inputs: Places = _ALL) -> _Product:
    """Round a product's weights and lay them out: ``(panels, fours of inputs, 64 outputs, 4 inputs)``.

    Args:
        factors: By which each input's weights are multiplied, and its states divided.
        outputs: In which order.
        inputs: In which order.
    """
    weight, factors = _array(part.weight)[outputs][:, inputs], factors[inputs]
    made, given = weight.shape
    group = next(size for size in range(_GROUP, 0, -PANEL) if given % size == 0)
    values, scales = rounded((weight * factors).reshape(made, given // group, group), axis=2)
    panels = values.reshape(made // PANEL, PANEL, given // _FOUR, _FOUR).transpose(0, 2, 1, 3)
    scales = scales[:, :, 0]
    sums = values.sum(axis=2, dtype=np.int32) * scales
    bias = _array(part.bias)[outputs] if part.bias is not None else np.zeros(made, dtype=np.float32)
    arrays = (scales.T, sums.T.astype(np.float32), bias, 1 / factors)
    weights = _kept(encoder, panels, aligned=True)
    return _Product(given, made, group, weights, *(_kept(encoder, array) for array in arrays))


def _norm(encoder: Encoder, part: Any) -> _Norm:
    return _Norm(_kept(encoder, _array(part.weight)), _kept(encoder, _array(part.bias)), part.eps)


def _array(tensor: torch.Tensor) -> Floats:
    return np.asarray(tensor.detach().float().numpy())


def _kept(encoder: Encoder, array: npt.NDArray[Any], aligned: bool = False) -> int:
    """Keep an array as long as the encoder, and return where it lies; `aligned`: on a line of the caches."""
    whole = np.ascontiguousarray(array)
    if aligned and whole.ctypes.data % _LINE_BYTES:
        room = np.empty(whole.nbytes + _LINE_BYTES, dtype=np.uint8)
        start = -room.ctypes.data % _LINE_BYTES
        lines = room[start : start + whole.nbytes].view(whole.dtype).reshape(whole.shape)
        lines[...] = whole
        whole = lines
    encoder.kept.append(whole)
    return int(whole.ctypes.data)
