"""Trains and scores the bundled sentiment adapter; one module holds all of its recipe, so that it can be read as such.

``python -m windrow.models.training --data DIR --out DIR`` reads ``DIR/<corpus>/<archive>``, each checked against its
SHA-256, trains two adapters by the two recipes, and writes the mean of what they add to the weights.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import html
import io
import json
import math
import random
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from windrow.errors import SourceError
from windrow.models.bundled import base_folder

SEED, BASE, LABELS = 20051, "windrow/minilm", {0: "negative", 1: "positive"}
MICRO_BATCH, LEARNING_RATE, WARM_UP, RANK = 32, 1e-3, 0.06, 16
LONGEST, WINDOW, HELD_OUT = 128, 510, 533  # tokens, tokens, sentences per label
EMOTIONS = ({2, 3, 9, 10, 11, 12, 14, 16, 19, 24, 25}, {0, 4, 5, 13, 15, 17, 18, 20, 21, 23})  # by label
AUXILIARY = r"\b(i|my|me|it|its|you|your|is|are|was|were|has|have|had|do|does|did|can|will|would)\b"
SENTENCE = re.compile(AUXILIARY + r"|'(s|m|ve|re|ll|d)\b|n't")
SHA256 = {
    "sentence_polarity.zip": "6e1ed4405b65c7eabf1d199a7f7c437091ac21da0ea7467b410a74062574566b",
    "pros_cons.zip": "b5bca541ba5b2e614cde2213ddcca027416f6997067c90e45c173bf55c6fade8",
    "SEntFiN.csv": "570af7ba58f724f3fcc414dd5ba80da5b1a3b342134d76c6ebdf53a32c54a92f",
    "train.tsv": "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5",
    "product_reviews_1.zip": "627bfb0bb7c87586246d99b4402c3d7e4fb77ac14559d8695c283bd6850615ac",
    "product_reviews_2.zip": "272b08fe130882e5867aa7ecc69a65616099183c4ccc10374a62c271801b0bc1",
    "movie_reviews.zip": "a41211ae685019137410268134db6a1a14428c89b671eb83056151a878539008",
}
Example = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an adapter learns from beside MR and the headlines, and for how long.

    ``phrases`` gives (style, most per label): sentences are True, noun phrases False, None takes either.
    """

    epochs: int
    phrases: tuple[tuple[bool | None, int], ...]
    comments: int
    smoothing: float


RECIPES = (Recipe(3, ((None, 3000),), 0, 0.0), Recipe(2, ((True, 9000), (False, 6000)), 8000, 0.1))


def _verified(folder: Path, name: str) -> bytes:
    """Return the bytes of the file ``folder/*/name`` that has the digest expected of it."""
    for path in sorted(folder.glob(f"*/{name}")):
        if hashlib.sha256(content := path.read_bytes()).hexdigest() == SHA256[name]:
            return content
    raise SourceError(f"No {name} of the expected SHA-256 is in {folder}/*.", f"put the one of {SHA256[name]} there.")


def _documents(data_dir: Path, name: str) -> Iterator[tuple[str, str]]:
    """Yield (member name, text) of every document in a verified zip archive, sorted by name."""
    archive = zipfile.ZipFile(io.BytesIO(_verified(data_dir, name)))
    for member in sorted(archive.namelist()):
        if not member.endswith(("/", "README", "README.txt")):
            yield member, archive.read(member).decode("utf-8")


def _order(text: str) -> str:
    """Return a seeded sort key that no random generator can change; equal texts stay together."""
    return hashlib.sha256(f"{SEED}:{text.casefold()}".encode()).hexdigest()


def _movie_sentences(data_dir: Path) -> Iterator[list[Example]]:
    """Yield the negative, then the positive MR sentences, each in seeded order."""
    for member, text in _documents(data_dir, "sentence_polarity.zip"):
        lines = sorted(filter(None, map(str.strip, text.split("\n"))), key=_order)
        yield [(line, int(member.endswith(".pos"))) for line in lines]


def held_out_mr(data_dir: Path | str) -> list[Example]:
    """Return the 1,066 MR sentences the adapter never trained on; SourceError if the archive is missing or altered."""
    return [row for side in _movie_sentences(Path(data_dir)) for row in side[:HELD_OUT]]


def _style(phrase: str) -> bool | None:
    """Tell a sentence (True) from a noun phrase (False); a con that says there is none is neither."""
    return None if phrase.startswith(("none", "nothing")) else bool(SENTENCE.search(phrase))


def _pros_and_cons(data_dir: Path, recipe: Recipe) -> Iterator[Example]:
    """Yield as many pros as cons of every style asked for: as they come, sentences are mostly cons."""
    sides: list[dict[str, str]] = []
    for _, text in _documents(data_dir, "pros_cons.zip"):
        found = re.findall(r"<(?:Pros|Cons)>(.*?)</(?:Pros|Cons)>", text)
        phrases = [html.unescape(html.unescape(phrase)).strip() for phrase in found]
        sides.append({p.casefold(): p for p in phrases if len(p.split()) > 2})
    alone = [sorted(sides[i].keys() - sides[1 - i].keys(), key=_order) for i in LABELS]
    for style, most in recipe.phrases:
        fits = [[key for key in keys if style is None or _style(key) is style] for keys in alone]
        for i in LABELS:
            yield from ((sides[i][key], i) for key in fits[i][: min(most, *map(len, fits))])


def _headlines(data_dir: Path) -> Iterator[Example]:
    """Yield the SEntFiN headlines whose every entity is positive, or every one negative."""
    for row in csv.DictReader(io.StringIO(_verified(data_dir, "SEntFiN.csv").decode("utf-8"))):
        try:
            sentiments = set(ast.literal_eval(row["Decisions"]).values())
        except (SyntaxError, ValueError):
            continue
        if sentiments in ({"positive"}, {"negative"}):
            yield row["Title"].strip(), int(sentiments == {"positive"})


def _comments(data_dir: Path, recipe: Recipe) -> Iterator[Example]:
    """Yield GoEmotions comments whose every emotion is pleasant, or every one unpleasant."""
    lines = _verified(data_dir, "train.tsv").decode("utf-8").split("\n")
    rows = sorted((line.split("\t") for line in lines if line), key=lambda row: _order(row[0]))
    for label in (1, 0):
        fits = (text for text, ids, _ in rows if {*map(int, ids.split(","))} <= EMOTIONS[label])
        yield from ((text, label) for text in islice(fits, recipe.comments))


def training_rows(data_dir: Path, recipe: Recipe) -> list[Example]:
    """Return everything an adapter learns from; no text of the held-out split is among it."""
    held_out = {text.casefold() for text, _ in held_out_mr(data_dir)}
    movies = (row for side in _movie_sentences(data_dir) for row in side)
    rows = chain(movies, _pros_and_cons(data_dir, recipe), _headlines(data_dir), _comments(data_dir, recipe))
    return [row for row in rows if row[0].casefold() not in held_out]


def _product_sentences(data_dir: Path, name: str) -> Iterator[Example]:
    """Yield sentences of Hu and Liu whose marks (``size[+2][u]##text``) all parse, and all point one way."""
    for _, document in _documents(data_dir, name):
        for line in document.split("\n"):
            marks, _, text = line.partition("##")
            signs = set(re.findall(r"\[([+-])\d?\]", marks))
            rest = re.sub(r"\[(?:[+-]\d?|[a-z]{1,2})\]", "", marks)
            if text.strip() and len(signs) == 1 and not re.search(r"[][{}]", rest):
                yield html.unescape(text).strip(), int(signs == {"+"})


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
    """Fit an adapter to ``rows`` in fp32; return its weights by name, and its configuration."""
    import torch
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
    from torch.nn.functional import cross_entropy
    from torch.optim.lr_scheduler import LambdaLR

    torch.set_num_threads(1)  # sums, and so weights, depend on the number of threads
    base, tokenizer = _base_model()
    targets = ["query", "key", "value", "dense"]
    config = LoraConfig(task_type="SEQ_CLS", r=RANK, lora_alpha=2 * RANK, target_modules=targets)
    model = get_peft_model(base, config).train()
    encoded = tokenizer([text for text, _ in rows], truncation=True, max_length=LONGEST)["input_ids"]
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer, rng = torch.optim.AdamW(weights, lr=LEARNING_RATE), random.Random(SEED)
    steps = recipe.epochs * math.ceil(len(rows) / MICRO_BATCH)
    warm = max(1, int(WARM_UP * steps))
    schedule = LambdaLR(optimizer, lambda step: min(step / warm, (steps - step) / (steps - warm)))
    for epoch in range(recipe.epochs):
        for chosen in _micro_batches([*map(len, encoded)], rng):
            inputs = tokenizer.pad({"input_ids": [encoded[i] for i in chosen]}, return_tensors="pt")
            truth = torch.tensor([rows[i][1] for i in chosen])
            loss: Any = cross_entropy(model(**inputs).logits, truth, label_smoothing=recipe.smoothing)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch} ended at loss {loss.item():.3f}", flush=True)
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
    products = ["product_reviews_1", "product_reviews_2"]
    sets = {name: [*_product_sentences(data_dir, f"{name}.zip")] for name in products}
    movies = [(text, int("/pos/" in member)) for member, text in _documents(data_dir, "movie_reviews.zip")]
    sets |= {"held_out_mr": held_out_mr(data_dir), "movie_reviews": movies}
    right: dict[str, list[tuple[bool, int]]] = {}
    for name, rows in sets.items():
        found = positive_probabilities(model, tokenizer, [text for text, _ in rows])
        right[name] = [((p > 0.5) == x, x) for p, (_, x) in zip(found, rows, strict=True)]
    right["product_reviews_1_and_2"] = [pair for name in products for pair in right[name]]
    return {name: _summary(pairs) for name, pairs in right.items()}


def main() -> None:
    """Train unless told not to, then write the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True, help="folder of the adapter")
    parser.add_argument("--scores-only", action="store_true", help="score what --out holds")
    if not (args := parser.parse_args()).scores_only:
        adapters: list[dict[str, Any]] = []
        for recipe in RECIPES:
            weights, config = train(training_rows(args.data, recipe), recipe)
            save_mean(adapters := [*adapters, weights], config, args.out)
    (args.out / "scores.json").write_text(json.dumps(evaluate(args.data, args.out), indent=2) + "\n")


if __name__ == "__main__":
    main()
