"""Windrow against the Transformers text-classification pipeline: same rows, same weights, interleaved repeats.

    python -m benchmarks.pipeline [--rows N] [--repeats N]

Three sets of real text from the bundled sample of film and product reviews: their sentences, whole reviews, and
reviews of all lengths mixed as they come in a day. Windrow is timed as its infer step scores (tokenise, forward,
labels and scores as columns), in the engine that `auto` takes; the pipeline is given the rows as a list, at batch 1,
8, 32, 64, as they come and sorted by length by hand, in the same dtype and with as many threads as the machine has
cores. The first round finds the pipeline's best way; the later ones repeat that way and Windrow, in turn. int8 is held
against the pipeline in fp32. Long texts are cut to the model's window for both, so that both read the same tokens. No
text occurs twice, so nothing is saved by reuse.
"""

from __future__ import annotations

import argparse
import functools
import json
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from benchmarks.machine import machine
from windrow.engines import EnginePlan, candidates, open_first
from windrow.engines.device import choose_device, choose_precision, granted_cores
from windrow.engines.packing import pack, shared_budget, stepped
from windrow.job import Job
from windrow.models import ResolvedModel, resolve
from windrow.models.tokens import Tokens
from windrow.sources.files import sample_path
from windrow.tasks import build_task

RESULTS = Path(__file__).parent / "results"
WAYS = {"1": (1, False), "8": (8, False), "32": (32, False), "64": (64, False),
        "8, sorted": (8, True), "32, sorted": (32, True), "64, sorted": (64, True)}  # fmt: skip
"""How the pipeline is called: rows at once, and whether they are sorted by length by hand."""
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
SETS = {"whole reviews": "review_id NOT LIKE 'M%'", "reviews, mixed": "true"}
SHORTER = 4
"""So many sentences stand for a review."""
ALL = 10**6
LEAST_S = 1.0
"""Of a timing; a set of few and short texts is scored again until then."""


def texts_of(where: str, rows: int) -> list[str]:
    """Return distinct real reviews, in a seeded order."""
    files = sample_path("windrow://reviews/*")
    query = f"SELECT DISTINCT body FROM read_parquet(?) WHERE {where} ORDER BY md5(body) LIMIT {rows}"
    return [body for (body,) in duckdb.execute(query, [files]).fetchall()]


def sentences_of_reviews() -> list[str]:
    """Return the distinct sentences of the real reviews that have more than 20 characters, sorted."""
    return sorted({part.strip() for text in texts_of("true", ALL) for part in text.split(". ") if len(part) > 20})


def some_sentences(rows: int) -> list[str]:
    """Return distinct sentences of the real reviews, in a seeded order."""
    sentences = sentences_of_reviews()
    return random.Random(0).sample(sentences, min(rows, len(sentences)))


def windrow_scorer(
    model: ResolvedModel, job: Job, device: str, precision: str
) -> tuple[Callable[[list[str]], Any], Callable[[np.ndarray], float]]:
    """Return what infer does with the texts of a shard, the model resident, and the padding of lengths there."""
    task, tokens = build_task(job, model), Tokens(model)
    chosen = candidates(task.head, device, "auto", precision, 10**6, model.config)[0]
    engine = open_first(EnginePlan(chosen.engine, task.head, device, precision, task.labels), model, "auto")
    of_padded = functools.partial(padding_of, budget=engine.token_budget, workers=granted_cores())
    padding = (lambda _: 0.0) if chosen.engine == "native" else of_padded
    return lambda texts: task.score(task.prepare(texts, tokens), engine, tokens), padding


def pipeline_scorer(model: ResolvedModel, device: str, precision: str) -> Callable[[list[str], str], Any]:
    """Return the Transformers pipeline over the same merged weights, called in one of `WAYS`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    base = AutoModelForSequenceClassification.from_pretrained(str(model.folder), num_labels=2, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, str(model.adapter)).merge_and_unload()
    merged = merged.to(getattr(torch, DTYPES[precision])).eval()
    merged.config.id2label = {0: "negative", 1: "positive"}
    pipe = pipeline(
        "text-classification", model=merged, tokenizer=AutoTokenizer.from_pretrained(str(model.folder)), device=device
    )

    def score(texts: list[str], way: str) -> Any:
        batch, is_sorted = WAYS[way]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True) if is_sorted else None
        torch.set_num_threads(granted_cores())
        try:
            found = pipe([texts[row] for row in order] if order else texts, batch_size=batch, truncation=True)
        finally:
            torch.set_num_threads(1)
        return [found[place] for place in np.argsort(order)] if order else found

    return score


def padding_of(lengths: np.ndarray, budget: int, workers: int) -> float:
    """Return the share of padding among all tokens that the OpenVINO engine sends to the processor."""
    sizes = stepped(lengths)
    sent = sum(len(rows) * int(sizes[rows].max()) for rows in pack(sizes, shared_budget(sizes, budget, workers)))
    return 1 - float(lengths.sum()) / sent


def products_per_s(device: str, precision: str) -> float:
    """Return the rate of this machine's own matrix products of the model's shapes, in FLOP/s: the median of some."""
    import torch

    left, right = torch.randn(512, 384, device=device), torch.randn(384, 1536, device=device)
    torch.set_num_threads(granted_cores())
    if precision == "int8":
        multiply = int8_product(left, right)
    else:
        left, right = (side.to(getattr(torch, DTYPES[precision])) for side in (left, right))
        multiply = functools.partial(torch.mm, left, right)
    rates = []
    for _ in range(12):
        began = time.perf_counter()
        for _ in range(25):
            multiply()
        rates.append(25 * 2 * 512 * 384 * 1536 / (time.perf_counter() - began))
    torch.set_num_threads(1)
    return statistics.median(rates)


def int8_product(left: Any, right: Any) -> Callable[[], Any]:
    """Return PyTorch's product of two matrices in int8, whichever of its two is faster on this processor.

    `_int_mm` is one loop where there is no VNNI; `quantized.linear` also rounds the sums to bytes.
    """
    import torch

    def took(multiply: Callable[[], Any]) -> float:
        multiply()
        began = time.perf_counter()
        multiply()
        return time.perf_counter() - began

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rounded = torch.quantize_per_tensor(left, 0.05, 128, torch.quint8)
        weights = torch.quantize_per_tensor(right.T.contiguous(), 0.05, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(weights, None)
    ways = (
        functools.partial(torch._int_mm, (10 * left).to(torch.int8), (10 * right).to(torch.int8)),
        functools.partial(torch.ops.quantized.linear, rounded, packed, 0.1, 128),
    )
    return min(ways, key=took)


def product_flop(model: ResolvedModel) -> float:
    """Return the FLOP of a token's matrix products with the weights of all layers, none left out."""
    size, inner = model.config["hidden_size"], model.config["intermediate_size"]
    return float(model.config["num_hidden_layers"] * 2 * (4 * size * size + 2 * size * inner))


def rows_per_s(score: Callable[[], Any], rows: int) -> tuple[float, Any]:
    """Time one call, or several where one takes less than a second; return rows per second and the last result."""
    began, calls, passed_s = time.perf_counter(), 0, 0.0
    while passed_s < LEAST_S:
        result = score()
        calls, passed_s = calls + 1, time.perf_counter() - began
    return calls * rows / passed_s, result


def compare(
    name: str,
    texts: list[str],
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    repeats: int,
    products: Callable[[], float],
) -> dict[str, Any]:
    """Run both in turn, `repeats` times; return medians, their ratio and the agreement of labels.

    The first round tries every way of the pipeline, the later ones the best of them. Right before and after each of
    Windrow's turns, `products` says at what rate, in tokens per second, bare matrix products would go.
    """
    runs: dict[str, list[float]] = {}
    ours(texts), theirs(texts[:32], "8"), products()
    ways, shares = list(WAYS), []
    for _ in range(repeats):
        before = products()
        speed, mine = rows_per_s(lambda: ours(texts), len(texts))
        tokens_per_s = speed * int(mine.tokens.sum()) / len(texts)
        shares.append(2 * tokens_per_s / (before + products()))
        runs.setdefault("windrow", []).append(speed)
        for way in ways:
            speed, peer = rows_per_s(lambda way=way: theirs(texts, way), len(texts))
            runs.setdefault(f"pipeline {way}", []).append(speed)
        ways = [max(WAYS, key=lambda way: runs[f"pipeline {way}"][0])]
    medians = {who: statistics.median(speeds) for who, speeds in runs.items()}
    best = best_pipeline(medians)
    labels = mine.columns["label"].to_pylist()
    shift = np.abs(np.asarray(mine.columns["score"]) - [row["score"] for row in peer])
    return {
        "set": name,
        "rows": len(texts),
        "tokens": int(mine.tokens.sum()),
        "rows_per_s": {who: round(speed, 1) for who, speed in medians.items()},
        "ratio": round(medians["windrow"] / best, 2),
        "label_agreement": round(float(np.mean([a == b["label"] for a, b in zip(labels, peer, strict=True)])), 4),
        "mean_score_shift": round(float(shift.mean()), 5),
        "share_of_products": round(statistics.median(shares), 3),
        "labels": labels,
    }


def best_pipeline(speeds: dict[str, float]) -> float:
    """Return the pipeline's rows per second in its best way."""
    return max(speed for who, speed in speeds.items() if who != "windrow")


def against_fp32(results: list[dict[str, Any]]) -> None:
    """Hold Windrow at each precision against the pipeline in fp32, its own default; labels are dropped."""
    exact = {result["set"]: result for result in results if result["precision"] == "fp32"}
    for result in results:
        other = exact[result["set"]]
        result["ratio_to_fp32"] = round(result["rows_per_s"]["windrow"] / best_pipeline(other["rows_per_s"]), 2)
        same = np.mean([a == b for a, b in zip(result["labels"], other["labels"], strict=True)])
        result["label_agreement_with_fp32"] = round(float(same), 4)
    for result in results:
        del result["labels"]


def as_markdown(results: list[dict[str, Any]], facts: dict[str, str]) -> str:
    """Return the table and the machine as Markdown."""
    head = [
        "rows",
        "precision",
        "mean tokens",
        *(f"pipeline, batch {way}" for way in WAYS),
        "Windrow",
        "to its best, same precision",
        "labels agree",
        "to its best in fp32",
        "labels agree",
        "padding",
        "of the matrix products' rate",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for r in results:
        speeds = [f"{r['rows_per_s'][f'pipeline {way}']:.1f}" for way in WAYS]
        cells = [f"{r['set']} ({r['rows']})", r["precision"], f"{r['tokens'] / r['rows']:.0f}", *speeds]
        cells += [f"{r['rows_per_s']['windrow']:.1f}", f"**{r['ratio']:.2f}x**", f"{r['label_agreement']:.2%}"]
        cells += [f"**{r['ratio_to_fp32']:.2f}x**", f"{r['label_agreement_with_fp32']:.2%}"]
        cells += [f"{r['padding_share']:.1%}", f"{r['share_of_products']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    where = "; ".join(f"{name}: {value}" for name, value in facts.items())
    told = (
        "Rows per second, medians of interleaved repeats (of the pipeline: in its best way; the others were timed "
        "once). int8 stands beside the pipeline in fp32. The last column is the rate at which the model's layers are "
        "worked off, against that of bare matrix products of their shapes and precision in PyTorch, timed right "
        "before and after; above 100% is possible, since Windrow does not compute what the head does not read. "
        "Padding is counted over all the sample's reviews of a set: rows are sorted by length within a shard of "
        "thousands, not within the few that are timed."
    )
    return "\n".join([*lines, "", f"{told} {where}."])


def main() -> None:
    """Run the comparison, print the table, and write it to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=200, help="reviews of each set; four times as many sentences")
    asked.add_argument("--repeats", type=int, default=3)
    options = asked.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    fields = {"text": "t", "key": "k", "path": "x.csv"}
    job = Job(
        name="bench", source=fields, task={"name": "sentiment", "truncate": True}, model="windrow/minilm-sentiment",
        warehouse={"url": "duckdb:///w", "table": "t"},
    )  # fmt: skip
    model, device = resolve(job), choose_device("auto")
    results = []
    for precision in dict.fromkeys(("fp32", choose_precision("auto", device), *(["int8"] if device == "cpu" else []))):
        ours, padding = windrow_scorer(model, job, device, precision)
        theirs = pipeline_scorer(model, device, "fp32" if precision == "int8" else precision)

        def products(precision: str = precision) -> float:
            return products_per_s(device, precision) / product_flop(model)

        for name in ("sentences", *SETS):
            texts, all_texts = (
                (texts_of(SETS[name], options.rows), texts_of(SETS[name], ALL))
                if name in SETS
                else (some_sentences(SHORTER * options.rows), sentences_of_reviews())
            )
            result = {**compare(name, texts, ours, theirs, options.repeats, products), "precision": precision}
            lengths = Tokens(model).windows(all_texts, truncate=True).lengths
            result["padding_share"] = round(padding(lengths), 4)
            results.append(result)
            shown = {name: value for name, value in result.items() if name != "labels"}
            print(json.dumps(shown), flush=True)
    against_fp32(results)
    facts = machine()
    table = as_markdown(results, facts)
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "pipeline.md").write_text(table + "\n", encoding="utf-8")
    (RESULTS / "pipeline.json").write_text(
        json.dumps({"machine": facts, "results": results}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
