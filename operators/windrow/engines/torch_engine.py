"""PyTorch on CPU, CUDA and MPS."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from windrow.engines.base import Decoding, EnginePlan, Outputs
from windrow.engines.causal import greedy, next_logits, written
from windrow.engines.continuous import written_continuously
from windrow.engines.decoding import Greedy, InHand
from windrow.engines.decoding_probe import is_right
from windrow.engines.device import granted_cores
from windrow.engines.encoding import NOT_FINITE, encoded, padded, tagged
from windrow.engines.first_token import shorten_last_layer
from windrow.engines.halving import run_all
from windrow.engines.loading import load_model
from windrow.engines.lost import is_device_lost
from windrow.engines.packed import Packed, open_packed
from windrow.engines.packing import at_most, pack, pack_tokens
from windrow.engines.pooling import pooled
from windrow.engines.rules import Rules, limits_of, rules_of
from windrow.errors import EngineError
from windrow.models.pictures import Pixels
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["TorchEngine"]

log = logging.getLogger("windrow")

_PACKED_TOKENS = 65536
_TOKEN_BUDGETS = {"cpu": 512, "mps": 8192, "cuda": 32768}
_SENTENCES = 2
_WRITING_BUDGETS = {"cpu": 8192, "mps": 16384, "cuda": 131072}
_IMAGES = {"cpu": 8, "mps": 32, "cuda": 128}
_GENERATE_ROWS = {"cpu": 8, "mps": 16, "cuda": 64}
"""Of the longest; of shorter ones up to four times as many."""
_IN_HAND = {"cpu": InHand(32, 1024, 1 << 30), "mps": InHand(64, 4096, 2 << 30), "cuda": InHand(256, 32768, 16 << 30)}
"""Of greedy decoding: rows, source tokens, bytes of keys and values."""
_Run = Callable[[Windows, list[int]], torch.Tensor]


class TorchEngine:
    """One model on one device, in inference mode; or spread over the devices that the plan lists.

    On a CPU each granted core runs micro-batches of its own: small matrix products scale better
    over threads than inside them.

    Args:
        plan: What to run, and where.
        model: The resolved model.
        packed: Whether an encoder's micro-batches go without padding, where probes then agree with padded ones;
            None for on CUDA in half precision, where PyTorch has the attention for it.

    Raises:
        ModelError: The checkpoint does not fit, or lacks the head.
        EngineError: The device is not there.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel, *, packed: bool | None = None) -> None:
        self.plan = plan
        self.kind = plan.device.partition(":")[0]
        self.token_budget = plan.token_budget or _TOKEN_BUDGETS.get(self.kind, 8192)
        self.is_spread = "," in plan.device
        self.is_cpu = self.kind == "cpu" and not self.is_spread
        self.workers = granted_cores() if self.is_cpu and plan.head != "generate" else 1
        torch.set_num_threads(max(1, granted_cores() // self.workers))
        loaded = load_model(plan, model)
        try:
            self.model: Any = (loaded if self.is_spread else loaded.to(plan.device)).eval()
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise EngineError(
                f"Device {plan.device!r} cannot be used: {reason}", "set `device: cpu`, or run it where the device is."
            ) from None
        self.home = str(loaded.get_input_embeddings().weight.device) if self.is_spread else plan.device
        self.pad_id = int(getattr(loaded.config, "pad_token_id", None) or 0)
        self.vocabulary = 0 if plan.head == "image" else int(loaded.get_input_embeddings().weight.shape[0])
        self.pads_left = plan.head == "next" or (plan.head == "generate" and not loaded.config.is_encoder_decoder)
        if plan.head in {"classify", "pairs"} and not self.is_spread:
            shorten_last_layer(self.model)
        self.packed = self._open_packed(packed)
        self.in_hand = _IN_HAND.get(self.kind, _IN_HAND["cpu"])
        self._greedy_is_right: bool | None = None

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``; with head ``next`` ``(windows, candidates)``.

        Where the head is ``image``, the windows are images.
        """
        if isinstance(windows, Pixels):
            return self._seen(windows)
        if packed := self.packed:
            return self._encoded(windows, lambda part, rows: packed.classify(packed.moved(part, rows)), self._cut)
        if self.plan.head == "next":
            return self._encoded(windows, self._next_logits)
        return self._encoded(windows, self._logits if windows.types is None else self._pair_logits)

    def tag(self, windows: Windows) -> Outputs:
        """Return logits of every token: a list of float32 arrays ``(tokens, labels)``, one a window."""
        return self._encoded(windows, self._logits, gather=tagged)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:
        """Return one vector a window, float32, shape ``(windows, size)``."""
        if packed := self.packed:
            return self._encoded(
                windows, lambda part, rows: packed.embed(packed.moved(part, rows), pooling, unit), self._cut
            )
        return self._encoded(windows, partial(self._vectors, pooling=pooling, unit=unit))

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return generated token ids, one int32 array a window; a decoder's without prompt and end token.

        Greedy decoding of a seq2seq model lets rows leave and enter; all other is left to `model.generate`.
        """
        if self.pads_left:
            return self._written(windows, decoding)
        rules = self._rules(decoding) if len(windows.rows) else None
        if rules:
            loop = self._greedy()
            torch.set_num_threads(max(1, granted_cores() // loop.workers))
            return loop.run(windows, rules)
        limits = limits_of(decoding)
        start = 0 if self.model.config.is_encoder_decoder else None
        outputs = Outputs([np.zeros(0, dtype=np.int32)] * len(windows.rows))

        def forward(rows: list[int]) -> np.ndarray:
            ids, mask = self._padded(windows, rows)
            mask = torch.ones_like(ids) if mask is None else mask
            watch = _NanWatch(len(rows), self.home)
            made = self.model.generate(
                input_ids=ids, attention_mask=mask, logits_processor=[watch], **limits, **decoding.options
            )
            outputs.failed.update({rows[place]: NOT_FINITE for place in watch.seen.nonzero().flatten().tolist()})
            return np.asarray(made.cpu().numpy(), dtype=np.int32)

        most = _GENERATE_ROWS.get(self.kind, 8)
        batches = at_most(pack(windows.lengths, most * int(windows.lengths.max(initial=1))), 4 * most)
        with torch.inference_mode():
            for rows, made in run_all(batches, self._guarded(forward), outputs.failed, self._relieve):
                for row, sequence in zip(rows, made, strict=True):
                    outputs.values[row] = sequence[start:]
        return outputs

    def _greedy(self) -> Greedy:
        """Return a loop of its own for each core of a CPU, as with encoders; one loop on other devices."""
        workers = granted_cores() if self.is_cpu else 1
        return Greedy(self.model, self.in_hand, self._padded, self._guarded, self._relieve, workers)

    def _rules(self, decoding: Decoding) -> Rules | None:
        """Return the rules of a greedy decoding that `Greedy` can follow with this model, else None."""
        if not self.model.config.is_encoder_decoder or self._greedy_is_right is False:
            return None
        with torch.inference_mode():
            rules = rules_of(self.model, decoding)
        if rules and self._greedy_is_right is None:
            self._greedy_is_right = is_right(self._greedy(), self.vocabulary, rules.start)
            if not self._greedy_is_right:
                kind = type(self.model).__name__
                log.warning("Rows cannot enter late in %s: all of a micro-batch end together.", kind)
                self.plan.note("rows that enter late", "whole micro-batches", f"{kind} gives other scores so")
        return rules if self._greedy_is_right else None

    def _written(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Let a decoder write on; continuously on CUDA, and in groups elsewhere and for what that left undone."""
        config = greedy(self.model, decoding, self.pad_id)
        outputs = Outputs([np.zeros(0, dtype=np.int32)] * len(windows.rows))

        def forward(rows: list[int]) -> list[np.ndarray]:
            ids, mask = self._padded(windows, rows)
            watch = _NanWatch(len(rows), self.home)
            made = written(self.model, ids, torch.ones_like(ids) if mask is None else mask, config, watch)
            outputs.failed.update({rows[place]: NOT_FINITE for place in watch.seen.nonzero().flatten().tolist()})
            return made

        is_cuda, note = self.kind == "cuda", self.plan.note
        done = written_continuously(self.model, windows, config, outputs.failed, note) if is_cuda else {}
        for row, sequence in done.items():
            outputs.values[row] = sequence
        left = [row for row in range(len(windows.rows)) if row not in done]
        packed = pack(windows.lengths[left] + config.max_new_tokens, _WRITING_BUDGETS.get(self.kind, 8192))
        groups = ([left[place] for place in group] for group in packed)
        with torch.inference_mode():
            for rows, made in run_all(groups, self._guarded(forward), outputs.failed, self._relieve):
                for row, sequence in zip(rows, made, strict=True):
                    outputs.values[row] = sequence
        return outputs

    def _seen(self, images: Pixels) -> Outputs:
        """Return logits of images; those that could not be decoded are run as zeros, and nobody reads what comes."""

        def forward(rows: list[int]) -> torch.Tensor:
            with torch.inference_mode():
                values = torch.from_numpy(images.values[rows]).to(self.home, self.model.dtype)
                logits: torch.Tensor = self.model(pixel_values=values).logits.float()
                return logits

        budget = _IMAGES.get(self.kind, 8)
        return encoded(images, budget, self._guarded(forward), lambda v: v.cpu().numpy(), self._relieve, self.workers)

    def close(self) -> None:
        """Release the model and the device's cached memory."""
        self.packed = None
        del self.model
        self._empty_cache()

    def _cut(self, lengths: np.ndarray, budget: int) -> Iterator[list[int]]:
        """Make micro-batches of packed rows."""
        return pack_tokens(lengths, budget)

    def _open_packed(self, wanted: bool | None) -> Packed | None:
        """Pack an encoder's rows where that is wanted and changes nothing; the token budget grows with it."""
        fits = self.kind == "cuda" and self.plan.precision in {"bf16", "fp16"} and not self.is_spread
        if self.plan.head not in {"classify", "embed"} or not (fits if wanted is None else wanted):
            return None
        padded = self._logits if self.plan.head == "classify" else self._vectors
        opening = partial(open_packed, self.model, self.plan.head, self.plan.device, note=self.plan.note)
        opened: Packed | None = self._guarded(opening)(padded)
        if opened and self.kind == "cuda":
            self.token_budget = self.plan.token_budget or _PACKED_TOKENS
        return opened

    def _logits(self, windows: Windows, rows: list[int]) -> torch.Tensor:
        ids, mask = self._padded(windows, rows)
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask).logits
        return logits

    def _next_logits(self, windows: Windows, rows: list[int]) -> torch.Tensor:
        ids, mask = self._padded(windows, rows)
        return next_logits(self.model, ids, mask, self.plan.candidates)

    def _pair_logits(self, windows: Windows, rows: list[int]) -> torch.Tensor:
        """Return logits of windows that hold two sentences each, told apart by `Windows.types`."""
        ids, mask = self._padded(windows, rows)
        second = replace(windows, ids=np.asarray(windows.types, dtype=np.int32))
        types = torch.from_numpy(padded(second, rows, 0, _SENTENCES)[0]).to(ids.device)
        logits: torch.Tensor = self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits
        return logits

    def _vectors(self, windows: Windows, rows: list[int], pooling: str = "mean", unit: bool = True) -> torch.Tensor:
        ids, mask = self._padded(windows, rows)
        return pooled(self.model(input_ids=ids, attention_mask=mask).last_hidden_state, mask, pooling, unit)

    def _encoded(
        self,
        windows: Windows,
        run: _Run,
        cut: Callable[..., Any] = pack,
        gather: Callable[..., Outputs] = encoded,
    ) -> Outputs:
        """Run an encoder over all windows and gather float32 outputs in their order.

        On CUDA nothing is waited for until all micro-batches are under way: the host prepares the next while
        the device computes, and a lost device may show only when the results are fetched.
        """

        def forward(rows: list[int]) -> torch.Tensor:
            with torch.inference_mode():
                return run(windows, rows).float()

        def fetch(values: torch.Tensor) -> np.ndarray:
            return np.asarray(values.cpu().numpy(), dtype=np.float32)

        guarded, fetched = self._guarded(forward), self._guarded(fetch)
        return gather(windows, self.token_budget, guarded, fetched, self._relieve, self.workers, cut)

    def _padded(self, windows: Windows, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return token ids ``(rows, longest)`` and their mask; no mask where nothing is padded."""
        ids, inside = padded(windows, rows, self.pad_id, self.vocabulary, left=self.pads_left)
        mask = None if inside.all() else torch.from_numpy(inside.astype(np.int64))
        tensor = torch.from_numpy(ids)
        if self.kind == "cuda":
            tensor = tensor.pin_memory()
            mask = mask.pin_memory() if mask is not None else None
        moved = tensor.to(self.home, non_blocking=True)
        return moved, mask.to(self.home, non_blocking=True) if mask is not None else None

    def _guarded(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Turn a device that is gone into an `EngineError`, since no row is to blame."""

        def guarded(given: Any) -> Any:
            try:
                return work(given)
            except RuntimeError as error:
                if is_device_lost(error):
                    reason = str(error).strip().split("\n")[0].rstrip(".")
                    raise EngineError(
                        f"Device {self.plan.device!r} failed: {reason}.",
                        "run it again: it resumes; if it stays, look at `nvidia-smi`, or restart the machine.",
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
