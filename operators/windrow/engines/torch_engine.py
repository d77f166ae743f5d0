"""PyTorch on CPU, CUDA and MPS."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from windrow.engines.base import Decoding, EnginePlan, Outputs
from windrow.engines.device import granted_cores
from windrow.engines.encoding import NOT_FINITE, encoded, padded
from windrow.engines.first_token import shorten_last_layer
from windrow.engines.halving import run_all
from windrow.engines.loading import load_model
from windrow.engines.packing import pack
from windrow.errors import EngineError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Windows

__all__ = ["TorchEngine"]

_TOKEN_BUDGETS = {"cpu": 512, "mps": 8192, "cuda": 32768}
_GENERATE_ROWS = {"cpu": 8, "mps": 16, "cuda": 64}


class TorchEngine:
    """One model on one device, in inference mode.

    On a CPU each granted core runs micro-batches of its own: small matrix products scale better
    over threads than inside them.

    Raises:
        ModelError: The checkpoint does not fit, or lacks the head.
        EngineError: The device is not there.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        self.plan = plan
        self.kind = plan.device.partition(":")[0]
        self.token_budget = _TOKEN_BUDGETS.get(self.kind, 8192)
        self.is_cpu = self.kind == "cpu"
        self.workers = granted_cores() if self.is_cpu and plan.head != "generate" else 1
        torch.set_num_threads(max(1, granted_cores() // self.workers))
        loaded = load_model(plan, model)
        try:
            self.model: Any = loaded.to(plan.device).eval()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise EngineError(
                f"Device {plan.device!r} cannot be used: {reason}", "set `device: cpu`, or run it where the device is."
            ) from None
        self.pad_id = int(getattr(loaded.config, "pad_token_id", None) or 0)
        self.vocabulary = int(loaded.get_input_embeddings().weight.shape[0])
        if plan.head == "classify":
            shorten_last_layer(self.model)

    def classify(self, windows: Windows) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``."""
        return self._encoded(windows, lambda ids, mask: self.model(input_ids=ids, attention_mask=mask).logits)

    def embed(self, windows: Windows) -> Outputs:
        """Return mean-pooled, unit-length vectors, float32, shape ``(windows, size)``."""

        def pooled(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
            hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            if mask is not None:
                hidden = hidden * mask.unsqueeze(-1)
            return torch.nn.functional.normalize(hidden.sum(dim=1), dim=-1)

        return self._encoded(windows, pooled)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return generated token ids, one int32 array a window."""
        limits = {"max_new_tokens": decoding.max_new_tokens, "max_length": None} if decoding.max_new_tokens else {}
        start = 0 if self.model.config.is_encoder_decoder else None
        outputs = Outputs([np.zeros(0, dtype=np.int32)] * len(windows.rows))

        def forward(rows: list[int]) -> np.ndarray:
            ids, mask = self._padded(windows, rows)
            mask = torch.ones_like(ids) if mask is None else mask
            watch = _NanWatch(len(rows), self.plan.device)
            made = self.model.generate(
                input_ids=ids, attention_mask=mask, logits_processor=[watch], **limits, **decoding.options
            )
            outputs.failed.update({rows[place]: NOT_FINITE for place in watch.seen.nonzero().flatten().tolist()})
            return np.asarray(made.cpu().numpy(), dtype=np.int32)

        longest = int(windows.lengths.max(initial=1))
        budget = _GENERATE_ROWS.get(self.kind, 8) * longest
        with torch.inference_mode():
            for rows, made in run_all(
                pack(windows.lengths, budget), self._guarded(forward), outputs.failed, self._relieve
            ):
                for row, sequence in zip(rows, made, strict=True):
                    outputs.values[row] = sequence[start:]
        return outputs

    def close(self) -> None:
        """Release the model and the device's cached memory."""
        del self.model
        self._empty_cache()

    def _encoded(self, windows: Windows, run: Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]) -> Outputs:
        """Run an encoder over all windows and gather float32 rows in their order."""

        def forward(rows: list[int]) -> torch.Tensor:
            with torch.inference_mode():
                return run(*self._padded(windows, rows)).float()

        def fetch(values: torch.Tensor) -> np.ndarray:
            return np.asarray(values.cpu().numpy(), dtype=np.float32)

        return encoded(windows, self.token_budget, self._guarded(forward), fetch, self._relieve, self.workers)

    def _padded(self, windows: Windows, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return token ids ``(rows, longest)`` and their mask; no mask where nothing is padded."""
        ids, inside = padded(windows, rows, self.pad_id, self.vocabulary)
        mask = None if inside.all() else torch.from_numpy(inside.astype(np.int64))
        tensor = torch.from_numpy(ids)
        if self.kind == "cuda":
            tensor = tensor.pin_memory()
            mask = mask.pin_memory() if mask is not None else None
        moved = tensor.to(self.plan.device, non_blocking=True)
        return moved, mask.to(self.plan.device, non_blocking=True) if mask is not None else None

    def _guarded(self, forward: Callable[[list[int]], Any]) -> Callable[[list[int]], Any]:
        """Turn a device that is gone into an `EngineError`, since no row is to blame."""

        def guarded(rows: list[int]) -> Any:
            try:
                return forward(rows)
            except RuntimeError as error:
                words = str(error).lower()
                if "device-side assert" in words or "driver" in words or "no longer available" in words:
                    raise EngineError(
                        f"Device {self.plan.device!r} failed: {error}", "try again; if it stays, restart the machine."
                    ) from None
                raise

        return guarded

    def _relieve(self) -> None:
        """After a lack of memory: free what is cached and send less at once from now on."""
        self.token_budget = max(512, self.token_budget // 2)
        self._empty_cache()

    def _empty_cache(self) -> None:
        with contextlib.suppress(RuntimeError):
            if self.kind == "cuda":
                torch.cuda.empty_cache()
            elif self.kind == "mps":
                torch.mps.empty_cache()


class _NanWatch:
    """Notes the rows whose next-token scores are no numbers, since a search would go on regardless."""

    def __init__(self, rows: int, device: str) -> None:
        self.seen = torch.zeros(rows, dtype=torch.bool, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        self.seen |= torch.isnan(scores).any(dim=-1).view(len(self.seen), -1).any(dim=1)
        return scores
