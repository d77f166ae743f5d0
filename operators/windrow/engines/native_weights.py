"""A checkpoint's encoder as engine ``native``'s kernels read it: int8 weights by panels, the rest in fp32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.exporting import probes
from windrow.engines.first_token import FirstTokenLayer
from windrow.engines.native_encoder import native_probes
from windrow.engines.native_fit import PANEL, heads_of
from windrow.engines.pooling import pooled
from windrow.engines.rounding import balance, rounded

__all__ = ["rounded_model"]

_FOUR = 4
_GROUP = 384
"""Most neighbouring channels that share a scale. Most of what rounding costs, it costs in the feed-forward layer's
inner states. These are sorted by how large they grow, so that like share a scale: the last states of 60 reviews were
off by 0.0146 then, root mean square, of 0.36; unsorted by 0.0165, and in groups of 128, which take longer, by 0.0148.
"""

_ALL = slice(None)

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp] | slice


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


def rounded_model(model: Any, head: str, largest: int) -> dict[str, npt.NDArray[Any]]:
    """Return an encoder with its products rounded, and its head, as `NativeEncoder` takes them.

    Args:
        model: In fp32, of one of `windrow.engines.native_fit.KINDS`.
        head: As in `EnginePlan`.
        largest: As in `windrow.engines.native_library.Variant`.

    Returns:
        Arrays by name: int8 ``weights`` of each layer's products, shape ``(panels, fours of inputs, 64 outputs, 4
        inputs)``, and beside them, float32, their ``scales`` and ``sums`` ``(groups, outputs)``, ``bias`` and what the
        states are multiplied by, ``ease``; the tables of ``words`` and ``places``; the norms; the head; and in
        ``answers`` what the model says in fp32 of `windrow.engines.native_encoder.native_probes`: vectors, logits, or
        logits of all tokens.
    """
    base = model.base_model
    layers = [_parts(layer) for layer in _layers(base)]
    words = base.embeddings.word_embeddings.weight
    peaks = _largest_states(model, layers, len(words))
    table = base.embeddings.position_embeddings.weight.detach()
    positions = len(table)
    if (types := getattr(base.embeddings, "token_type_embeddings", None)) is not None:
        table = torch.cat([table + kind for kind in types.weight.detach()])
    made: dict[str, npt.NDArray[Any]] = {
        "words": _array(words),
        "places": _array(table),
        "positions": np.array(positions),
        "padding": np.array(_padding(model)),
        "heads": np.array(heads_of(model.config.to_dict())),
        **_norm("embedded", base.embeddings.LayerNorm),
    }
    for place, parts in enumerate(layers):
        asking = [parts.query, parts.key, parts.value]
        eased = _factors(asking, peaks[parts.query])
        for name, part in zip(("query", "key", "value"), asking, strict=True):
            made |= _product(f"layers.{place}.{name}", part, eased, largest)
        sizes = peaks[parts.outer].argsort(kind="stable")
        for name, outputs, inputs in (("mixed", _ALL, _ALL), ("inner", sizes, _ALL), ("outer", _ALL, sizes)):
            part = getattr(parts, name)
            made |= _product(f"layers.{place}.{name}", part, _factors([part], peaks[part]), largest, outputs, inputs)
        made |= _norm(f"layers.{place}.attended", parts.attended) | _norm(f"layers.{place}.put_out", parts.put_out)
    made["answers"] = _answers(model, head)
    made["chooses_one"] = np.array(head == "classify" and _chooses_one(model.config))
    count, hidden = int(made["heads"]), words.shape[1]
    made["last_key"] = _array(layers[-1].key.weight)
    made["last_value"] = _array(layers[-1].value.weight).reshape(count, hidden // count, hidden).transpose(0, 2, 1)
    for place, part in enumerate(_head(model, head)):
        made |= {f"head.{place}.weight": _array(part.weight), f"head.{place}.bias": _bias(part)}
    return {name: np.asarray(array, order="C") for name, array in made.items()}


def _answers(model: Any, head: str) -> Floats:
    """Return what the model says in fp32 of the probes: one line a row, or one a token of tags."""
    tables = model.base_model.embeddings
    words, places = (len(table.weight) for table in (tables.word_embeddings, tables.position_embeddings))
    windows = native_probes(words, places, _padding(model))
    told = []
    with torch.inference_mode():
        for row in range(len(windows.rows)):
            made = model(input_ids=torch.from_numpy(windows.window(row))[None].long())
            if head == "embed":
                told.append(pooled(made.last_hidden_state, None, "mean", unit=False))
            else:
                told.append(made.logits[0] if head == "tag" else made.logits)
    return _array(torch.cat(told))


def _chooses_one(config: Any) -> bool:
    """Tell whether the label with the largest logit is the answer."""
    return config.num_labels > 1 and config.problem_type not in {"multi_label_classification", "regression"}


def _padding(model: Any) -> int:
    return int(getattr(model.config, "pad_token_id", None) or 0)


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


def _head(model: Any, head: str) -> list[Any]:
    """Return the products that make logits of a state."""
    if head == "embed":
        return []
    if head == "tag":
        return [model.classifier]
    if model.config.model_type == "bert":
        return [model.base_model.pooler.dense, model.classifier]
    if model.config.model_type == "distilbert":
        return [model.pre_classifier, model.classifier]
    return [model.classifier.dense, model.classifier.out_proj]


def _largest_states(model: Any, layers: list[_Parts], vocabulary: int) -> dict[Any, Floats]:
    """Return the largest magnitude of each channel that a product reads, over some made-up rows."""
    peaks: dict[Any, Floats] = {}

    def see(part: Any, given: tuple[torch.Tensor, ...]) -> None:
        met = _array(given[0].reshape(-1, given[0].shape[-1]).abs().amax(dim=0))
        peaks[part] = np.maximum(peaks[part], met) if part in peaks else met

    parts = [part for layer in layers for part in (layer.query, layer.mixed, layer.inner, layer.outer)]
    handles = [part.register_forward_pre_hook(see) for part in parts]
    try:
        with torch.inference_mode():
            for ids, mask in probes(vocabulary):
                model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
    finally:
        for handle in handles:
            handle.remove()
    return peaks


def _factors(parts: list[Any], states: Floats) -> Floats:
    weights = np.max([np.abs(_array(part.weight)).max(axis=0) for part in parts], axis=0)
    return balance(states, weights)


def _product(
    name: str, part: Any, factors: Floats, largest: int, outputs: Places = _ALL, inputs: Places = _ALL
) -> dict[str, npt.NDArray[Any]]:
    """Round a product's weights and lay them out.

    Args:
        factors: By which each input's weights are multiplied, and its states divided.
        largest: Of the rounded weights.
        outputs: In which order.
        inputs: In which order.
    """
    weight, factors = _array(part.weight)[outputs][:, inputs], factors[inputs]
    made, given = weight.shape
    group = next(size for size in range(_GROUP, 0, -PANEL) if given % size == 0)
    values, scales = rounded((weight * factors).reshape(made, given // group, group), axis=2, largest=largest)
    scales = scales[:, :, 0]
    return {
        f"{name}.weights": values.reshape(made // PANEL, PANEL, given // _FOUR, _FOUR).transpose(0, 2, 1, 3),
        f"{name}.scales": scales.T,
        f"{name}.sums": (values.sum(axis=2, dtype=np.int32) * scales).T.astype(np.float32),
        f"{name}.bias": _bias(part)[outputs],
        f"{name}.ease": 1 / factors,
    }


def _norm(name: str, part: Any) -> dict[str, npt.NDArray[Any]]:
    return {
        f"{name}.weight": _array(part.weight),
        f"{name}.bias": _array(part.bias),
        f"{name}.epsilon": np.array(part.eps, dtype=np.float32),
    }


def _bias(part: Any) -> Floats:
    return _array(part.bias) if part.bias is not None else np.zeros(part.out_features, dtype=np.float32)


def _array(tensor: torch.Tensor) -> Floats:
    return np.asarray(tensor.detach().float().numpy())
