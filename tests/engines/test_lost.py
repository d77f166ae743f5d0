"""A device that goes in the middle is an error that says how to go on; no row is blamed for it."""

import pytest
import torch

from windrow.engines import EnginePlan
from windrow.engines.lost import is_device_lost
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import EngineError
from windrow.job import Job
from windrow.models import resolve
from windrow.models.tokens import Tokens

LOST = [
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA",
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: all CUDA-capable devices are busy or unavailable",
    "CUDA error: the launch timed out and was terminated",
]
KEPT = [
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity; check the driver",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)",
    "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x6)",
]


@pytest.mark.parametrize("words", LOST)
def test_a_lost_device_is_told_by_its_words(words):
    assert is_device_lost(RuntimeError(words))
    assert not is_device_lost(ValueError(words))


@pytest.mark.parametrize("words", KEPT)
def test_a_lack_of_memory_or_a_bad_row_loses_no_device(words):
    assert not is_device_lost(RuntimeError(words))


@pytest.fixture
def engine(job_fields):
    return TorchEngine(EnginePlan("torch", "classify", "cpu", "fp32", 2), resolve(Job(**job_fields)))


@pytest.fixture
def windows(job_fields):
    return Tokens(resolve(Job(**job_fields))).windows(["good film", "bad", "the battery was awful"] * 40)


@pytest.mark.parametrize("words", LOST)
def test_a_device_lost_in_a_forward_pass_is_a_retryable_error(engine, windows, words, monkeypatch):
    def gone(**_):
        raise torch.AcceleratorError(words) if words == LOST[0] else RuntimeError(words)

    monkeypatch.setattr(engine.model, "forward", gone)
    with pytest.raises(EngineError, match="Device 'cpu' failed: CUDA error") as told:
        engine.classify(windows)
    assert told.value.retryable
    assert "it resumes" in told.value.fix
    assert "\n" not in told.value.problem


def test_a_device_lost_while_results_are_fetched_is_one_too(engine, windows, monkeypatch):
    class Gone:
        def float(self):
            return self

        def cpu(self):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(engine, "_logits", lambda *_: Gone())
    with pytest.raises(EngineError, match="illegal memory access"):
        engine.classify(windows)
