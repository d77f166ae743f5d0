"""Continuous batching of Transformers: finished rows leave a running micro-batch and new ones enter it."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import warnings
from typing import Any

import numpy as np

from windrow.engines.base import Note
from windrow.engines.causal import Ints, answers
from windrow.engines.encoding import NOT_FINITE
from windrow.models.windows import Windows

__all__ = ["written_continuously"]

log = logging.getLogger("windrow")


def written_continuously(
    model: Any, windows: Windows, config: Any, failed: dict[int, tuple[str, str]], note: Note, **settings: Any
) -> dict[int, Ints]:
    """Return the new tokens of the windows that continuous batching finished, by index of the window.

    It logs and swallows its own errors, so what it did not finish is simply missing; `generate` can try that again.
    A checkpoint whose decoding changes scores (a penalty, a ban, beams) is left to `generate` as a whole, since such
    processors would be dropped here.

    Args:
        model: A causal language model.
        windows: Prompts.
        config: From `windrow.engines.causal.greedy`.
        failed: Receives the windows whose scores are no numbers.
        note: Told if it cannot run at all.
        settings: Of the ``ContinuousBatchingConfig``, such as ``num_blocks``; unless told, the cache takes most of
            the device's free memory.
    """
    prompts = [windows.window(index).tolist() for index in range(len(windows.rows))]
    try:
        if not prompts or _changes_scores(model, config):
            return {}
        made = _generated(model, prompts, config, settings)
    except Exception as error:
        log.warning("Continuous batching cannot run (%s); rows are generated in fixed groups.", _first_line(error))
        note("continuous batching", "fixed groups", _first_line(error))
        return {}
    by_prompt = {tuple(output.prompt_ids): output for output in made.values() if output.error is None}
    found = {index: by_prompt[tuple(ids)] for index, ids in enumerate(prompts) if tuple(ids) in by_prompt}
    failed.update({index: NOT_FINITE for index, output in found.items() if any(map(math.isnan, output.logprobs))})
    rows = answers([np.asarray(output.generated_tokens, dtype=np.int32) for output in found.values()], config)
    return dict(zip(found, rows, strict=True))


def _changes_scores(model: Any, config: Any) -> bool:
    """Tell whether a decoding has beams or processors; that none is given a prompt here is nothing to warn of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (config.num_beams or 1) > 1 or bool(model._get_logits_processor(config))


def _generated(model: Any, prompts: list[list[int]], config: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Run ``generate_batch``; what it prints goes to standard error, and no kernel is fetched from the Hub."""
    from transformers import ContinuousBatchingConfig

    how = ContinuousBatchingConfig(return_logprobs=True, auto_switch_to_flash=False, **settings)
    with contextlib.redirect_stdout(sys.stderr):
        made: dict[str, Any] = model.generate_batch(
            prompts, generation_config=config, continuous_batching_config=how, max_new_tokens=config.max_new_tokens
        )
    return made


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]
