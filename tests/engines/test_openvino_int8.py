"""Eight-bit products stay near to fp32 where a few channels are much larger than the rest."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13

from windrow.engines import openvino_int8

CHANNELS, VOCABULARY = 64, 50
INPUTS = [(np.arange(12, dtype=np.int64).reshape(2, 6), np.ones((2, 6), dtype=np.int64))]
UNSEEN = [np.arange(18, 48, dtype=np.int64).reshape(3, 10), np.ones((3, 10), dtype=np.int64)]


def two_products(outputs):
    """Return a model of an embedding, of which three channels are large, and two products that share its rows."""
    made = np.random.default_rng(0)
    table = made.normal(size=(VOCABULARY, CHANNELS)).astype(np.float32)
    table[:, [3, 20, 41]] *= 60
    ids, mask = (opset13.parameter([-1, -1], np.int64) for _ in range(2))
    states = opset13.gather(opset13.constant(table), ids, opset13.constant(0))
    weights = made.normal(size=(2, CHANNELS, outputs)).astype(np.float32)
    weights[:, [3, 20, 41]] /= 60
    left = opset13.matmul(states, opset13.constant(weights[0]), False, False)
    right = opset13.matmul(states, opset13.constant(np.ascontiguousarray(weights[1].T)), False, True)
    return openvino.Model([opset13.concat([left, right], 2)], [ids, mask], "two")


def error_of(model):
    """Round the weights of a model, run it, and return its mean error as a share of its outputs' mean size."""

    def run(read, **options):
        return openvino.Core().compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **options})(UNSEEN)[0]

    exact = np.array(run(model))
    size = openvino_int8.quantise(model, INPUTS)
    rounded = np.array(run(model, DYNAMIC_QUANTIZATION_GROUP_SIZE=str(size)))
    return np.abs(rounded - exact).mean() / np.abs(exact).mean()


def test_large_channels_do_not_drown_the_others(monkeypatch):
    eased = error_of(two_products(CHANNELS))
    monkeypatch.setattr(openvino_int8, "balance", lambda states, _: np.ones_like(states))
    plain = error_of(two_products(CHANNELS))
    assert 0 < eased < 0.02
    assert plain > 3 * eased


def test_products_that_share_states_divide_them_once():
    model = two_products(CHANNELS)
    openvino_int8.quantise(model, INPUTS)
    products = [op for op in model.get_ops() if op.get_type_name() == "MatMul"]
    assert len(products) == 2
    assert len({product.input_value(0).get_node().get_name() for product in products}) == 1


def test_a_product_with_few_outputs_stays_as_it_is():
    assert error_of(two_products(2)) == pytest.approx(0, abs=1e-6)
    assert openvino_int8.quantise(two_products(2), INPUTS) == 1
