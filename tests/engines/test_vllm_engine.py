"""vLLM's documented interface, played by a stand-in: vLLM itself is not installed where these tests run."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from models.parts import WORDS, job_of
from windrow.engines import Decoding, EnginePlan
from windrow.engines.vllm_engine import VllmEngine
from windrow.errors import EngineError, JobError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_causal, make_tiny_classifier

PLAN = EnginePlan("vllm", "generate", "cuda", "bf16")


class StandIn:
    """`LLM`: remembers what it was given, and answers each prompt with its own last two tokens and an end."""

    def __init__(self, **options):
        self.options, self.asked = options, []

    def get_default_sampling_params(self):
        return SimpleNamespace(repetition_penalty=1.1)

    def generate(self, prompts, how, use_tqdm):
        self.asked.append((prompts, how, use_tqdm))
        ids = [prompt["prompt_token_ids"] for prompt in prompts]
        answers = [SimpleNamespace(token_ids=[*one[-2:], 2], finish_reason="stop") for one in ids]
        return [SimpleNamespace(finished=True, outputs=[answer]) for answer in answers]


@pytest.fixture
def vllm(monkeypatch):
    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = StandIn, lambda **options: options
    monkeypatch.setitem(sys.modules, "vllm", module)
    return module


@pytest.fixture
def model(tmp_path):
    return resolve(job_of(make_tiny_causal(tmp_path / "m", WORDS)))


def test_prompts_go_in_as_tokens_and_answers_come_out_without_their_end(vllm, model):
    engine, windows = VllmEngine(PLAN, model), Tokens(model).windows(["good film", "it was bad"])
    outputs = engine.generate(windows, Decoding(9))
    (prompts, how, use_tqdm) = engine.llm.asked[0]
    assert [prompt["prompt_token_ids"] for prompt in prompts] == [windows.window(i).tolist() for i in range(2)]
    assert how == {"temperature": 0.0, "repetition_penalty": 1.1, "max_tokens": 9, "detokenize": False}
    assert use_tqdm is False
    assert [row.tolist() for row in outputs.values] == [windows.window(i)[-2:].tolist() for i in range(2)]
    assert (engine.llm.options["dtype"], engine.llm.options["trust_remote_code"]) == ("bfloat16", False)


def test_what_vllm_did_not_finish_is_a_failure_of_that_row(vllm, model, monkeypatch):
    engine, windows = VllmEngine(PLAN, model), Tokens(model).windows(["good film", "bad"])
    whole = StandIn.generate
    monkeypatch.setattr(
        StandIn,
        "generate",
        lambda *args, **more: [SimpleNamespace(finished=False, outputs=[]), whole(*args, **more)[1]],
    )
    assert engine.generate(windows, Decoding(9)).failed == {0: ("model_error", "vLLM did not finish this text")}


def test_a_vllm_that_cannot_start_is_an_error_with_its_fix(vllm, model, monkeypatch):
    def broken(**_):
        raise RuntimeError("no device\nlong trace")

    monkeypatch.setattr(vllm, "LLM", broken)
    with pytest.raises(EngineError, match="vLLM cannot start: no device") as told:
        VllmEngine(PLAN, model)
    assert "engine: torch" in told.value.fix


def test_other_heads_and_models_are_refused(vllm, model, tmp_path):
    with pytest.raises(JobError, match="lets decoders without an adapter write"):
        VllmEngine(EnginePlan("vllm", "next", "cuda", "bf16"), model)
    with pytest.raises(JobError, match="lets decoders"):
        VllmEngine(PLAN, resolve(job_of(make_tiny_classifier(tmp_path / "c", WORDS))))
