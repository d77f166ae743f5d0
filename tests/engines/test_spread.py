"""Models larger than one device: when they are spread, and that they then say the same."""

import numpy as np
import pytest

from windrow.engines import EnginePlan, loading, several, spread
from windrow.engines.several import Several, open_on
from windrow.engines.spread import must_spread, placement, weight_bytes
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import EngineError, JobError
from windrow.job import Job
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_adapter, make_tiny_encoder

PLAN = EnginePlan("torch", "classify", "cpu", "fp32", 2)
GB = 10**9
TEXTS = ["good film", "the battery was awful", "bad"] * 5


@pytest.mark.parametrize(
    ("size", "free", "expected"),
    [
        (20 * GB, [24 * GB, 80 * GB], True),
        (19 * GB, [24 * GB, 80 * GB], False),
        (60 * GB, [80 * GB], False),
        (120 * GB, [80 * GB, 80 * GB], True),
        (1, None, False),
    ],
)
def test_a_model_is_spread_where_the_smallest_device_cannot_hold_it(size, free, expected):
    assert must_spread(size, free) is expected


def test_a_model_larger_than_all_devices_is_an_error_with_its_fix():
    with pytest.raises(EngineError, match=r"needs 140.0 GB; 2 devices have 160.0 GB free") as told:
        must_spread(140 * GB, [80 * GB, 80 * GB])
    assert "lower precision" in told.value.fix


def test_weights_are_counted_in_the_precision_that_is_run(job_fields):
    model = resolve(Job(**job_fields))
    full, half = weight_bytes(model, "fp32"), weight_bytes(model, "bf16")
    assert full == 2 * half
    assert 0 <= (model.folder / "model.safetensors").stat().st_size - full < 20_000


def test_a_model_on_each_of_several_devices_gives_the_same_logits(job_fields):
    model = resolve(Job(**job_fields))
    windows = Tokens(model).windows(TEXTS)
    each = open_on(["cpu", "cpu"], PLAN, model, "torch")
    assert isinstance(each, Several)
    np.testing.assert_array_equal(each.classify(windows).values, TorchEngine(PLAN, model).classify(windows).values)


def test_a_spread_model_gives_the_same_logits(job_fields, monkeypatch, tmp_path):
    model = resolve(Job(**job_fields))
    windows = Tokens(model).windows(TEXTS)
    expected = TorchEngine(PLAN, model).classify(windows).values
    parts = {"bert.embeddings": "cpu", "bert.encoder": "disk", "bert.pooler": "cpu", "classifier": "cpu"}
    places = {"device_map": parts, "offload_folder": str(tmp_path / "offloaded")}
    monkeypatch.setattr(loading, "placement", lambda *_: places)
    engine = TorchEngine(EnginePlan("torch", "classify", "cpu,cpu", "fp32", 2), model)
    assert (engine.is_spread, engine.home) == (True, "cpu")
    assert engine.model.hf_device_map == parts
    assert {weight.device.type for weight in engine.model.parameters()} == {"cpu", "meta"}
    np.testing.assert_allclose(engine.classify(windows).values, expected, atol=1e-5)


def test_too_large_a_model_goes_to_one_engine_over_all_devices(job_fields, monkeypatch):
    model = resolve(Job(**job_fields))
    size = weight_bytes(model, "fp32")
    monkeypatch.setattr(several, "free_bytes", lambda devices: [size] * len(devices))
    engine = open_on(["cpu", "cpu"], PLAN, model, "torch")
    assert isinstance(engine, TorchEngine)
    assert (engine.is_spread, engine.plan.device) == (True, "cpu,cpu")
    with pytest.raises(JobError, match="cannot spread it"):
        open_on(["cpu", "cpu"], EnginePlan("openvino", "classify", "cpu", "fp32", 2), model, "openvino")


def test_an_adapter_over_several_devices_is_refused_with_its_fix(job_fields, tmp_path):
    base = make_tiny_encoder(tmp_path / "base", ["good", "bad"])
    adapter = make_tiny_adapter(tmp_path / "adapter", base)
    model = resolve(Job(**{**job_fields, "model": str(base), "adapter": str(adapter)}))
    with pytest.raises(JobError, match="adapter cannot be merged over several") as told:
        placement("cuda:0,cuda:1", model)
    assert "merge the adapter" in told.value.fix
    assert placement("cuda:0", model) == {}


def test_without_accelerate_the_fix_names_it(job_fields, monkeypatch):
    monkeypatch.setattr(spread, "find_spec", lambda name: None if name == "accelerate" else name)
    with pytest.raises(JobError, match="needs Accelerate") as told:
        placement("cuda:0,cuda:1", resolve(Job(**job_fields)))
    assert "pip install accelerate" in told.value.fix
