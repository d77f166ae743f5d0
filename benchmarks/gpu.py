"""A BERT-base classifier on one GPU: the Transformers pipeline, sorted padding and packed rows; same rows and weights.

    python -m benchmarks.gpu [--rows N] [--repeats N] [--device cuda:0]

Weights are random, of BERT-base's size, since speed does not depend on their values; the rows are real film and
product reviews from the bundled sample, repeated to fill a GPU for some seconds, cut to 512 tokens for all. The
pipeline runs in fp16 at several batch sizes, with its rows as a list; Windrow in fp16 and bf16, padded and packed,
from texts to labels (as its infer step scores a shard), and from token ids to logits alone. The last is held against
the bf16 matrix product that was measured on the same device. On another device than CUDA nothing is written: that is
for trying the script.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.pipeline import DTYPES, RESULTS, texts_of
from windrow.engines import EnginePlan
from windrow.job import Job
from windrow.models import ResolvedModel, resolve
from windrow.models.tokens import Tokens
from windrow.tasks import build_task

BATCHES = (32, 64, 128, 256)
WAYS = (("fp16", False), ("fp16", True), ("bf16", False), ("bf16", True))
MATRIX = 8192


def base_sized(folder: Path, layers: int) -> Path:
    """Write a BERT of BERT-base's width with random weights, and the bundled model's tokenizer; return the folder."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    from windrow.models.bundled import base_folder

    torch.manual_seed(0)
    AutoTokenizer.from_pretrained(base_folder(), model_max_length=512).save_pretrained(folder)
    BertForSequenceClassification(BertConfig(num_hidden_layers=layers)).save_pretrained(folder)
    return folder


def waited(device: str) -> None:
    """Wait until the device has done all that it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def timed(work: Callable[[], Any], device: str, repeats: int) -> float:
    """Return the median seconds of a call; one before it is not counted."""
    seconds = []
    for _ in range(repeats + 1):
        waited(device)
        began = time.perf_counter()
        work()
        waited(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def matmul_flops_per_s(device: str, repeats: int, size: int) -> float:
    """Return the operations per second of a square matrix product in bf16."""
    import torch

    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    product = torch.empty_like(left)
    return 2 * size**3 / timed(lambda: torch.matmul(left, right, out=product), device, max(10, repeats))


def forward_flops(lengths: np.ndarray, model: ResolvedModel) -> float:
    """Return the operations that an encoder's matrix products need for rows without padding.

    Of the last layer only keys and values are counted, since Windrow computes the rest for first tokens alone.
    """
    config = model.config
    size, inner, whole = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"] - 1
    a_token = 2 * (whole * (4 * size * size + 2 * size * inner) + 2 * size * size)
    return float(a_token * lengths.sum() + 4 * whole * size * np.square(lengths, dtype=np.float64).sum())


def ours(model: ResolvedModel, job: Job, device: str, texts: list[str], repeats: int) -> list[dict[str, Any]]:
    """Time Windrow in each precision, padded and packed."""
    from windrow.engines.torch_engine import TorchEngine

    task, tokens, found = build_task(job, model), Tokens(model), []
    windows = task.prepare(texts, tokens)
    for precision, packed in WAYS:
        engine = TorchEngine(EnginePlan("torch", "classify", device, precision, 2), model, packed=packed)
        if packed and engine.packed is None:
            print(f"{precision}: packed rows failed their probe on {device}", file=sys.stderr)
            continue
        way = f"Windrow, {'packed' if packed else 'sorted padding'}, {precision}"
        alone_s = timed(lambda engine=engine: engine.classify(windows), device, repeats)
        all_s = timed(lambda e=engine: task.score(task.prepare(texts, tokens), e, tokens), device, repeats)
        found.append({"way": way, "rows_per_s": len(texts) / all_s, "forward_rows_per_s": len(texts) / alone_s})
        print(json.dumps(found[-1]), flush=True)
        engine.close()
    return found


def theirs(model: ResolvedModel, device: str, texts: list[str], repeats: int) -> list[dict[str, Any]]:
    """Time the pipeline in fp16 at each batch size."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    loaded = AutoModelForSequenceClassification.from_pretrained(
        str(model.folder), dtype=getattr(torch, DTYPES["fp16"])
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(str(model.folder))
    pipe = pipeline("text-classification", model=loaded.eval(), tokenizer=tokenizer, device=device)
    found = []
    for batch in BATCHES:
        seconds = timed(lambda batch=batch: pipe(texts, batch_size=batch, truncation=True), device, repeats)
        found.append({"way": f"pipeline, batch {batch}, fp16", "rows_per_s": len(texts) / seconds})
        print(json.dumps(found[-1]), flush=True)
    return found


def as_markdown(results: list[dict[str, Any]], facts: dict[str, str], rows: int, flops: float, rate: float) -> str:
    """Return the table and the machine as Markdown."""
    best = max(r["rows_per_s"] for r in results if r["way"].startswith("pipeline"))
    lines = [
        "| | rows/s | to the pipeline's best | forward alone, rows/s | of the bf16 matrix product |",
        "|---" * 5 + "|",
    ]
    for r in results:
        cells = [r["way"], f"{r['rows_per_s']:,.0f}", f"{r['rows_per_s'] / best:.2f}x", "", ""]
        if forward := r.get("forward_rows_per_s"):
            cells[3:] = [f"{forward:,.0f}", f"{forward * flops / rows / rate:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    where = "; ".join(f"{name}: {value}" for name, value in facts.items())
    told = f"{rows} rows, BERT-base with random weights. bf16 matrix product: {rate / 1e12:.1f} TFLOP/s. {where}."
    return "\n".join([*lines, "", told])


def main() -> None:
    """Run the comparison, print the table and write it to ``benchmarks/results``; exit with 2 without CUDA."""
    import torch

    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=16384)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--layers", type=int, default=12, help="fewer than 12 are for trying the script")
    asked.add_argument("--device", default="cuda")
    options = asked.parse_args()
    is_cuda = options.device.startswith("cuda")
    if is_cuda and not torch.cuda.is_available():
        print("No CUDA device here: nothing was measured. Run it on a machine with a GPU.", file=sys.stderr)
        sys.exit(2)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    reviews = texts_of("true", options.rows)
    texts = (reviews * -(-options.rows // len(reviews)))[: options.rows]
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            name="bench",
            source={"text": "t", "key": "k", "path": "x.csv"},
            task={"name": "sentiment", "truncate": True},
            model=str(base_sized(Path(folder), options.layers)),
            warehouse={"url": "duckdb:///w", "table": "t"},
        )
        model = resolve(job)
        rate = matmul_flops_per_s(options.device, options.repeats, MATRIX if is_cuda else 512)
        results = theirs(model, options.device, texts, options.repeats)
        results += ours(model, job, options.device, texts, options.repeats)
        flops = forward_flops(Tokens(model).windows(texts, truncate=True).lengths, model)
    facts = {"gpu": torch.cuda.get_device_name(options.device), **machine()} if is_cuda else machine()
    table = as_markdown(results, facts, len(texts), flops, rate)
    print(f"\n{table}")
    if is_cuda:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "gpu.md").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
