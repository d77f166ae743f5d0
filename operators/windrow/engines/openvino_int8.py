"""Eight-bit products in OpenVINO: weights by output channel, states by group of a token's channels as they come.

Nothing is calibrated on the data of a job: OpenVINO's dynamic quantisation takes each token's states as it meets
them, so these never have to be seen beforehand, and a token's value does not depend on what shares its micro-batch.
Sources: OpenVINO's documentation of ``DYNAMIC_QUANTIZATION_GROUP_SIZE``; the weights follow symmetric, per-channel
rounding as in `windrow.engines.rounding`.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.rounding import balance, group_size, rounded

__all__ = ["quantise", "quantised"]

log = logging.getLogger("windrow")
_VERSION = 1
"""Of the rounding; another one makes files of its own."""
_GROUP = ["windrow", "group_size"]
"""Where a file tells its group size, in OpenVINO's runtime information."""
_FEW_OUTPUTS = 16
"""A product with fewer, as the last of a classifier, takes no time worth a rounding."""


def quantised(
    core: Any, file: Path, inputs: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
) -> tuple[Any, int]:
    """Return a model in int8 and its group size; it is kept beside `file`, so that it is rounded once.

    Args:
        core: OpenVINO's.
        file: The model in fp32.
        inputs: As in `quantise`.
    """
    kept = file.with_name(f"int8-{_VERSION}.xml")
    if kept.exists():
        try:
            model = core.read_model(str(kept))
            return model, int(model.get_rt_info(_GROUP).value)
        except RuntimeError as error:  # cut short, as by a loss of power
            log.debug("%s is broken: %s", kept, error)
    model = core.read_model(str(file))
    group = quantise(model, inputs)
    model.set_rt_info(group, _GROUP)
    _keep(model, kept)
    return model, group


def _keep(model: Any, file: Path) -> None:
    """Write a model for the next time; where that fails, as on a full disk, it will be rounded again."""
    import openvino

    made = file.with_name(f"making-{uuid.uuid4().hex[:12]}.xml")
    try:
        openvino.save_model(model, made, compress_to_fp16=False)
        made.with_suffix(".bin").replace(file.with_suffix(".bin"))  # of two at once both write the same
        made.replace(file)
    except (OSError, RuntimeError) as error:
        log.debug("The int8 weights are not kept in %s: %s", file, error)
    finally:
        for suffix in (".xml", ".bin"):
            made.with_suffix(suffix).unlink(missing_ok=True)


def quantise(model: Any, inputs: Iterable[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]) -> int:
    """Turn the weights of an OpenVINO model's matrix products into int8, in place.

    Args:
        model: Takes token ids and mask.
        inputs: Some of both, shape ``(rows, tokens)``, to see how large each channel of the states grows. Made-up
            ones will do: which channels are large is more a habit of the model than of the text.

    Returns:
        The group size to compile the model with; 1 if it has no such product.
    """
    from openvino import Type, opset13

    shared = _products(model)
    for products, states in zip(shared, _largest_states(model, shared, inputs), strict=True):
        weights = [_weight(product) for product in products]
        factors = balance(states, np.max([np.abs(weight).max(axis=0) for weight in weights], axis=0))
        eased = opset13.multiply(products[0].input_value(0), opset13.constant(1 / factors))
        for product, weight in zip(products, weights, strict=True):
            values, scale = rounded(weight * factors, axis=1)
            whole = opset13.multiply(opset13.convert(opset13.constant(values), Type.f32), opset13.constant(scale))
            made = opset13.matmul(eased, whole, False, True)
            for reader in list(product.output(0).get_target_inputs()):
                reader.replace_source_output(made.output(0))
    model.validate_nodes_and_infer_types()
    return group_size([_weight(products[0]).shape[1] for products in shared])


def _products(model: Any) -> list[list[Any]]:
    """Return the products of states with weights, in lists of those that read the same states."""
    found: dict[tuple[str, int], list[Any]] = {}
    for product in model.get_ops():
        if product.get_type_name() != "MatMul" or product.get_attributes()["transpose_a"]:
            continue
        source = product.input_value(1).get_node()
        if source.get_type_name() == "Constant" and len(source.shape) == 2 and len(_weight(product)) >= _FEW_OUTPUTS:
            states = product.input_value(0)
            found.setdefault((states.get_node().get_name(), states.get_index()), []).append(product)
    return list(found.values())


def _weight(product: Any) -> npt.NDArray[np.float32]:
    """Return the weights of a product, shape ``(outputs, channels)``."""
    data = np.asarray(product.input_value(1).get_node().data, dtype=np.float32)
    return data if product.get_attributes()["transpose_b"] else data.T


def _largest_states(model: Any, shared: list[list[Any]], inputs: Iterable[Any]) -> list[npt.NDArray[np.float32]]:
    """Return the largest magnitude of each channel of the states that products read, over some inputs."""
    import openvino
    from openvino import opset13

    peaks = []
    for products in shared:
        states = products[0].input_value(0)
        places = opset13.constant(np.arange(len(states.get_partial_shape()) - 1))
        peaks.append(opset13.result(opset13.reduce_max(opset13.absolute(states), places)))
    measured = openvino.Model(peaks, model.get_parameters(), "states")
    compiled = openvino.Core().compile_model(measured, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    runs = [[np.array(found) for found in compiled(list(pair)).to_tuple()] for pair in inputs]
    return [np.max(met, axis=0) for met in zip(*runs, strict=True)]
