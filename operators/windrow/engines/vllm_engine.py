"""vLLM for decoders on CUDA, where a job asks for it.

Written against vLLM's documented offline interface; vLLM fixes a torch of its own, so it is no dependency, and
this module has not been tried on a machine that has it.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from windrow.engines.base import Decoding, EnginePlan, Outputs
from windrow.engines.causal import DEFAULT_NEW_TOKENS
from windrow.errors import EngineError, JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["VllmEngine"]

_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class VllmEngine:
    """One decoder in vLLM, which batches continuously and keeps equal beginnings of prompts.

    Raises:
        JobError: The head, the model or the device is not one that this engine runs.
        EngineError: vLLM cannot start.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        if plan.head != "generate" or not model.is_causal or model.adapter or plan.precision not in _DTYPES:
            raise JobError(
                f"Engine 'vllm' lets decoders without an adapter write, not {plan.head} in {plan.precision}.",
                "set `engine: torch`, or leave engine out.",
            )
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        from vllm import LLM

        self.plan = plan
        try:
            self.llm: Any = LLM(
                model=str(model.folder),
                dtype=_DTYPES[plan.precision],
                seed=0,
                trust_remote_code=False,
                load_format="safetensors",
                disable_log_stats=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise EngineError(
                f"vLLM cannot start: {str(error).strip().partition(chr(10))[0]}",
                "check the device and its memory, or set `engine: torch`.",
            ) from None

    def classify(self, windows: Windows) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine only writes."""
        raise JobError("Engine 'vllm' does not classify.", "set `engine: torch`, or leave engine out.")

    def tag(self, windows: Windows) -> Outputs:
        """Raise a `JobError`: this engine only writes."""
        return self.classify(windows)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine only writes."""
        return self.classify(windows)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return new token ids, one int32 array a window, without the end token."""
        from vllm import SamplingParams

        outputs = Outputs([np.zeros(0, dtype=np.int32)] * len(windows.rows))
        if not len(windows.rows):
            return outputs
        greedy = SamplingParams(
            temperature=0.0,
            repetition_penalty=self.llm.get_default_sampling_params().repetition_penalty,
            max_tokens=decoding.max_new_tokens or DEFAULT_NEW_TOKENS,
            detokenize=False,
        )
        prompts = [{"prompt_token_ids": windows.window(index).tolist()} for index in range(len(windows.rows))]
        try:
            made = self.llm.generate(prompts, greedy, use_tqdm=False)
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"vLLM failed: {str(error).strip().partition(chr(10))[0]}", "try again.") from None
        for index, request in enumerate(made):
            self._take(index, request, outputs)
        return outputs

    def close(self) -> None:
        """Release the model."""
        del self.llm

    def _take(self, index: int, request: Any, outputs: Outputs) -> None:
        """Put one request's tokens into the outputs; what vLLM did not finish is a failure."""
        if not request.finished or not request.outputs:
            outputs.failed[index] = ("model_error", "vLLM did not finish this text")
            return
        answer = request.outputs[0]
        ids = list(answer.token_ids)
        outputs.values[index] = np.asarray(ids[:-1] if answer.finish_reason == "stop" else ids, dtype=np.int32)
