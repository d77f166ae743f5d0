"""Trains and scores the bundled sentiment adapter.

``python -m windrow.models.training --data DIR --out DIR`` reads ``DIR/<corpus>/<archive>``, each checked against its
SHA-256 before anything is trained. It trains two adapters by the two recipes, and writes the mean of what they add to
the weights: on film reviews it does better than either alone. Sums, and so the last digits of the weights, depend on
processor and threads.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from windrow.console import show_error
from windrow.errors import WindrowError
from windrow.models.bundled import base_folder
from windrow.models.corpora import (
    SEED,
    Example,
    Recipe,
    check_archives,
    held_out_mr,
    labelled_sentences,
    product_sentences,
    training_rows,
)

BASE, LABELS = "windrow/minilm", {0: "negative", 1: "positive"}
MICRO_BATCH, LEARNING_RATE, WARM_UP, RANK = 32, 1e-3, 0.06, 16
SMOOTHING, AVERAGING = 0.1, 0.003  # of labels; of weights, a step
LONGEST, WINDOW = 128, 510  # tokens
RECIPES = (Recipe(1, 4, ((None, 3000),), 0, 1), Recipe(2, 2, ((True, 9000), (False, 6000)), 8000, 2))


def _base_model() -> tuple[Any, Any]:
    """Load the verified base encoder with a fresh two-class head, and its tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(SEED)
    base = BertForSequenceClassification.from_pretrained(base_folder(), num_labels=2)
    return base, AutoTokenizer.from_pretrained(base_folder())


def _cut(rows: list[Any], size: int) -> list[list[Any]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def _micro_batches(lengths: Sequence[int], rng: random.Random) -> list[list[int]]:
    """Shuffle the rows, group fifty micro-batches at a time by length, shuffle these in turn."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pools = (sorted(pool, key=lengths.__getitem__) for pool in _cut(order, 50 * MICRO_BATCH))
    batches = [rows for pool in pools for rows in _cut(pool, MICRO_BATCH)]
    rng.shuffle(batches)
    return batches


def train(rows: Sequence[Example], recipe: Recipe) -> tuple[dict[str, Any], Any]:
    """Fit an adapter to ``rows`` in bf16; return its averaged weights by name, and its configuration.

    From the second epoch on, a running mean of the weights is kept, and returned in place of the last ones.
    """
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from torch.nn.functional import cross_entropy
    from torch.optim.lr_scheduler import LambdaLR

    base, tokenizer = _base_model()
    targets = ["query", "key", "value", "dense"]
    config = LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=2 * RANK, target_modules=targets)
    torch.manual_seed(SEED)
    model = get_peft_model(base, config).train()
    torch.manual_seed(recipe.seed)
    encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=LONGEST)["input_ids"]
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer, rng = torch.optim.AdamW(weights, lr=LEARNING_RATE), random.Random(recipe.seed)
    steps = recipe.epochs * math.ceil(len(rows) / MICRO_BATCH)
    warm = max(1, int(WARM_UP * steps))
    mean: list[Any] = []
    schedule = LambdaLR(optimizer, lambda step: min(step / warm, (steps - step) / (steps - warm)))
    for epoch in range(recipe.epochs):
        began_s = time.monotonic()
        for chosen in _micro_batches([*map(len, encoded)], rng):
            inputs = tokenizer.pad({"input_ids": [encoded[i] for i in chosen]}, return_tensors="pt")
            truth = torch.tensor([rows[i][1] for i in chosen])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(**inputs).logits
            loss: Any = cross_entropy(logits.float(), truth, label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            if epoch and not mean:
                mean = [weight.detach().clone() for weight in weights]
            for kept, weight in zip(mean, weights, strict=False):
                kept.lerp_(weight.detach(), AVERAGING)
        told = f"recipe of seed {recipe.seed}, epoch {epoch + 1} of {recipe.epochs}: "
        print(f"{told}last loss {loss.item():.3f}, {(time.monotonic() - began_s) / 60:.1f} minutes", flush=True)
    for kept, weight in zip(mean, weights, strict=True):
        weight.data.copy_(kept)
    return get_peft_model_state_dict(model, save_embedding_layers=False), config


def save_mean(adapters: Sequence[dict[str, Any]], config: Any, out: Path) -> None:
    """Write one adapter that adds the mean of what ``adapters`` add: their factors side by side, in fp16.

    The rank grows by their number while alpha stays, which divides their sum by that number.
    """
    import torch
    from safetensors.torch import save_file

    mean: dict[str, Any] = {}
    for name in adapters[0]:
        parts = [adapter[name] for adapter in adapters]
        side = int(".lora_B." in name)
        mean[name] = torch.cat(parts, dim=side) if ".lora_" in name else torch.stack(parts).mean(dim=0)
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: t.half().contiguous() for name, t in mean.items()}, out / "adapter_model.safetensors")
    rank = config.r * len(adapters)
    replace(config, r=rank, inference_mode=True, base_model_name_or_path=BASE).save_pretrained(out)
    (out / "labels.json").write_text(json.dumps({"id2label": LABELS}, indent=2) + "\n")


def positive_probabilities(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[float]:
    """Return P(positive) of every text, averaged over windows of 510 tokens by their lengths."""
    import torch

    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    found, windows = [0.0] * len(encoded), [(i, part) for i, ids in enumerate(encoded) for part in _cut(ids, WINDOW)]
    for chosen in _cut(sorted(windows, key=lambda window: len(window[1])), MICRO_BATCH):
        ids = [[tokenizer.cls_token_id, *tokens, tokenizer.sep_token_id] for _, tokens in chosen]
        with torch.inference_mode():
            shares = model(**tokenizer.pad({"input_ids": ids}, return_tensors="pt")).logits.softmax(-1)[:, 1]
        for (row, tokens), p in zip(chosen, shares.tolist(), strict=True):
            found[row] += p * len(tokens) / len(encoded[row])
    return found


def _summary(right: Sequence[tuple[bool, int]]) -> dict[str, float]:
    """Count and average pairs of (the prediction was right, true label)."""
    groups = {"accuracy": [ok for ok, _ in right]}
    groups |= {f"{name}_recall": [ok for ok, label in right if label == i] for i, name in LABELS.items()}
    return {"n": len(right)} | {name: round(sum(oks) / len(oks), 4) for name, oks in groups.items()}


def evaluate(data_dir: Path, adapter: Path) -> dict[str, dict[str, float]]:
    """Score the adapter as it lies on disk, on held-out MR and on sources it never saw."""
    from peft import PeftModel

    base, tokenizer = _base_model()
    model = PeftModel.from_pretrained(base, str(adapter)).merge_and_unload().eval()
    sets = {"held_out_mr": held_out_mr(data_dir)}
    sets |= {name: [*labelled_sentences(data_dir, name)] for name in ("amazon_cells", "imdb", "yelp")}
    products = ("product_reviews_1", "product_reviews_2")
    sets |= {name: [*product_sentences(data_dir, f"{name}.zip")] for name in products}
    right: dict[str, list[tuple[bool, int]]] = {}
    for name, rows in sets.items():
        found = positive_probabilities(model, tokenizer, [text for text, _ in rows])
        right[name] = [((p > 0.5) == x, x) for p, (_, x) in zip(found, rows, strict=True)]
    return {name: _summary(pairs) for name, pairs in right.items()}


def _train_all(data_dir: Path, out: Path) -> None:
    """Train an adapter by each recipe; what is on disk is the mean of those that are done."""
    check_archives(data_dir)
    adapters: list[dict[str, Any]] = []
    for recipe in RECIPES:
        weights, config = train(training_rows(data_dir, recipe), recipe)
        save_mean(adapters := [*adapters, weights], config, out)


def main() -> None:
    """Train unless told not to, then write the scores; end with exit code 2 where an archive is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--scores-only", action="store_true", help="score what --out holds")
    args = parser.parse_args()
    try:
        if not args.scores_only:
            _train_all(args.data, args.out)
        scores = evaluate(args.data, args.out)
    except WindrowError as error:
        show_error(error)
        sys.exit(error.exit_code)
    (args.out / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")


if __name__ == "__main__":
    main()
