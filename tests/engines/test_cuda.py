"""On a CUDA device: packed rows in half precision, nothing waited for in between, several devices."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import REPOSITORY, WORDS
from windrow.engines import EnginePlan
from windrow.engines.torch_engine import TorchEngine
from windrow.job import Job
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.steps import run
from windrow.testing import make_tiny_family

TEXTS = ["good film", "the battery was awful and the plot is not lovely " * 9, "bad", "phone"] * 50
PACKED = ["bert", "distilbert", "electra", "modernbert", "roberta", "xlm-roberta"]
TOLERANCE = {"bf16": 5e-2, "fp16": 1e-2, "fp32": 1e-3}

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
on_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")


def model_of(job_fields, tmp_path, kind):
    folder = make_tiny_family(tmp_path / kind, WORDS, kind)
    return resolve(Job(**{**job_fields, "model": str(folder)}))


def engine_for(model, device, precision, head="classify", packed=None):
    return TorchEngine(EnginePlan("torch", head, device, precision, 2), model, packed=packed)


def assert_near(values, expected, precision):
    np.testing.assert_allclose(values, expected, atol=TOLERANCE[precision] * float(np.abs(expected).max()))


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", PACKED)
def test_packed_logits_are_those_of_fp32_on_a_cpu(job_fields, tmp_path, kind, precision):
    model = model_of(job_fields, tmp_path, kind)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, "cuda", precision)
    assert engine.packed
    outputs = engine.classify(windows)
    assert not outputs.failed
    assert_near(outputs.values, engine_for(model, "cpu", "fp32").classify(windows).values, precision)


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", PACKED)
def test_packed_vectors_are_those_of_fp32_on_a_cpu(job_fields, tmp_path, kind, precision):
    model = model_of(job_fields, tmp_path, kind)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, "cuda", precision, "embed")
    assert engine.packed
    expected = engine_for(model, "cpu", "fp32", "embed").embed(windows).values
    assert_near(engine.embed(windows).values, expected, precision)


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("kind", [*PACKED, "deberta-v2"])
def test_fp32_and_other_families_are_padded(job_fields, tmp_path, kind):
    model = model_of(job_fields, tmp_path, kind)
    windows = Tokens(model).windows(TEXTS)
    engine = engine_for(model, "cuda", "fp32")
    assert engine.packed is None
    assert_near(engine.classify(windows).values, engine_for(model, "cpu", "fp32").classify(windows).values, "fp32")


@on_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("head", ["classify", "embed"])
@pytest.mark.parametrize("kind", PACKED)
def test_a_packed_micro_batch_waits_for_nothing(job_fields, tmp_path, kind, head):
    model = model_of(job_fields, tmp_path, kind)
    windows = Tokens(model).windows(TEXTS)
    packed = engine_for(model, "cuda", "bf16", head).packed
    run_one = getattr(packed, head)
    run_one(packed.moved(windows, [0, 1, 2]))
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            for rows in ([0, 1, 2], [3, 4], [5]):
                run_one(packed.moved(windows, rows))
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_gpus
@pytest.mark.gpu
def test_all_gpus_publish_what_one_publishes(job_fields, tmp_path, home):
    fields = {**job_fields, "precision": "bf16"}
    one = run(Job(**{**fields, "device": "cuda:0", "store": str(tmp_path / "one")}))
    all_of_them = run(Job(**{**fields, "device": "cuda", "store": str(tmp_path / "all")}))
    assert (one.labels, one.rows_published) == (all_of_them.labels, all_of_them.rows_published)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
@pytest.mark.skipif(not (REPOSITORY / "benchmarks").exists(), reason="the benchmarks are not here")
def test_the_benchmark_says_where_it_cannot_run():
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.strip().splitlines()[-1].startswith("No CUDA device")
    assert "Traceback" not in told.stderr
