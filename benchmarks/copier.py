"""A small Marian that is trained to copy its source: seq2seq weights that mean something, made offline in minutes.

Random weights tell speed, but not whether int8 writes what fp32 writes: among their logits everything is a near tie.
A trained model is sure of most tokens, as those that people use are.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

__all__ = ["train"]

STEPS = 1500
TOKENS = 1600
"""Source tokens a step, about."""
WARM_UP = 150
HIGHEST_RATE = 1e-3
SURE = 0.9995
"""Share of tokens copied rightly, over the last steps, at which training ends."""


def train(folder: Path, words: list[str], tokenizer: Any, longest: int) -> dict[str, float]:
    """Train the model in a folder to write its source; store it there.

    Args:
        folder: Of a ``MarianMTModel``, which is replaced.
        words: Of its vocabulary; sources are drawn from them evenly.
        tokenizer: Of the model.
        longest: Tokens of the longest source.

    Returns:
        Steps and seconds taken, and the share of tokens copied rightly in the last steps.
    """
    from transformers import MarianMTModel

    torch.manual_seed(0)
    model = MarianMTModel.from_pretrained(folder).train()
    rate = torch.optim.AdamW(model.parameters(), lr=HIGHEST_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    seeded = np.random.default_rng(3)
    first, last = (tokenizer.convert_tokens_to_ids(word) for word in (words[0], words[-1]))
    right: list[float] = []
    began = time.perf_counter()
    for step in range(STEPS):
        size = int(seeded.integers(4, 4 + max(8, round((longest - 4) * min(1, step / (STEPS / 2))))))
        ids = torch.from_numpy(seeded.integers(first, last + 1, (max(4, TOKENS // size), size)))
        ids = torch.cat([ids, torch.full((len(ids), 1), tokenizer.eos_token_id)], dim=1)
        for group in rate.param_groups:
            group["lr"] = HIGHEST_RATE * min((step + 1) / WARM_UP, (WARM_UP / (step + 1)) ** 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            made = model(input_ids=ids, labels=ids)
        made.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        rate.step()
        rate.zero_grad()
        right.append(float((made.logits.argmax(-1) == ids).float().mean()))
        if step % 100 == 0:
            print(f"step {step}: loss {made.loss.item():.3f}, {right[-1]:.2%} right", flush=True)
        if step > STEPS / 2 and np.mean(right[-50:]) > SURE:
            break
    model.eval().save_pretrained(folder)
    return {"steps": step + 1, "seconds": time.perf_counter() - began, "right": float(np.mean(right[-50:]))}
