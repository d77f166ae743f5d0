"""Windrow against those who score tables too: same Parquet file, same weights, from file to stored predictions.

    python -m benchmarks.peers [--rows N] [--repeats N]

Three lengths of real text from the bundled samples: sentences of reviews (as long as tweets), whole reviews, and long
documents (reviews joined to about 600 words, of which every model here reads its window of 512 tokens). Each peer is
used as its documentation shows and tuned, over the first 200 rows, as its users would tune it:

- *pipeline*: Transformers' text-classification pipeline in this process, texts sorted by length by hand, the best of
  batch 1, 8, 32, 64; result columns written as Parquet.
- *CrossEncoder*: sentence-transformers' `CrossEncoder.predict`, which sorts by length itself; the best of 8, 32, 64. It
  takes pairs alone, so the second sentence is empty, and it reads one special token more.
- *Ray Data*: `map_batches` with a class of the same pipeline, one actor a core, one thread each, batch as above.
- *Daft*: `@daft.cls` with a batch method of the same pipeline, in its own process, all cores.
- *Windrow*: `run` of a job with an empty store, in the engine that it takes for large partitions.

Everything is timed whole: loading of the model is included, and the start of worker processes that import Torch
(Ray, Daft); Ray itself is started beforehand. The same is timed over eight rows: that is the start-up, and a further
column tells the speed without it, which is what counts for large tables. Repeats are interleaved and the medians are
shown.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from benchmarks.machine import machine
from benchmarks.pipeline import ALL, RESULTS, SETS, sentences_of_reviews, texts_of
from windrow import Job, run
from windrow.engines import candidates
from windrow.engines.device import choose_precision, granted_cores
from windrow.models import resolve

BATCHES = (1, 8, 32, 64)
LONG_WORDS = 600
FEW, SOME = 8, 200
"""Rows that stand for the start-up, and to find the best batch with."""


def long_documents(rows: int) -> list[str]:
    """Return distinct texts of about 600 words, made of whole reviews."""
    reviews, made, waiting = texts_of(SETS["whole reviews"], ALL), [], []
    for number in range(10 * rows):
        waiting.append(reviews[(number * 7) % len(reviews)])
        if sum(len(text.split()) for text in waiting) >= LONG_WORDS:
            made.append(f"{' '.join(waiting)} {len(made)}")
            waiting = []
        if len(made) == rows:
            break
    return made


def saved_model(folder: Path) -> str:
    """Save the bundled adapter merged into its base, with its tokenizer, for those who load a folder."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = resolve(job_for(folder / "none.parquet", folder, "none"))
    base = AutoModelForSequenceClassification.from_pretrained(str(model.folder), num_labels=2, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, str(model.adapter)).merge_and_unload()
    merged.config.id2label, merged.config.label2id = {0: "negative", 1: "positive"}, {"negative": 0, "positive": 1}
    merged.save_pretrained(folder / "model")
    AutoTokenizer.from_pretrained(str(model.folder)).save_pretrained(folder / "model")
    return str(folder / "model")


def job_for(file: Path, folder: Path, name: str, model: str = "windrow/minilm-sentiment") -> Job:
    """Return the job over a file; its store and warehouse are new where `name` is."""
    return Job(
        name="peers",
        source={"path": str(file), "text": "text", "key": "key"},
        task={"name": "sentiment", "truncate": True},
        model=model,
        warehouse={"url": f"duckdb:///{folder}/{name}.duckdb", "table": "predictions"},
        store=str(folder / f"store-{name}"),
    )


def make_pipeline(model: str, threads: int) -> Any:
    """Return the Transformers pipeline of a saved model."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    return pipeline("text-classification", model=model, device="cpu")


def with_pipeline(file: Path, out: Path, model: str, batch: int) -> list[str]:
    """Score a file with the pipeline, sorted by length by hand."""
    table = parquet.read_table(file)
    texts = table["text"].to_pylist()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
    found = make_pipeline(model, granted_cores())([texts[row] for row in order], batch_size=batch, truncation=True)
    labels: list[str] = [""] * len(texts)
    for row, result in zip(order, found, strict=True):
        labels[row] = result["label"]
    parquet.write_table(table.append_column("label", pa.array(labels)), out / "pipeline.parquet")
    return labels


def with_cross_encoder(file: Path, out: Path, model: str, batch: int) -> list[str]:
    """Score a file with sentence-transformers' CrossEncoder."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(granted_cores())
    table = parquet.read_table(file)
    encoder = CrossEncoder(model, device="cpu", max_length=512)
    texts = [(text, "") for text in table["text"].to_pylist()]
    scores = encoder.predict(texts, batch_size=batch, show_progress_bar=False)
    labels = [("negative", "positive")[int(best)] for best in scores.argmax(axis=1)]
    parquet.write_table(table.append_column("label", pa.array(labels)), out / "cross.parquet")
    return labels


class RayClassifier:
    """What Ray Data's guide to batch inference shows: a class that holds the pipeline."""

    def __init__(self, model: str, batch: int) -> None:
        self.pipe, self.batch = make_pipeline(model, 1), batch

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Add a column of labels."""
        found = self.pipe(list(rows["text"]), batch_size=self.batch, truncation=True)
        rows["label"] = [result["label"] for result in found]
        return rows


def with_ray(file: Path, out: Path, model: str, batch: int) -> list[str]:
    """Score a file with Ray Data, one actor a core."""
    import ray

    dataset = ray.data.read_parquet(str(file)).repartition(8 * granted_cores())
    scored = dataset.map_batches(
        RayClassifier, fn_constructor_args=(model, batch), concurrency=granted_cores(), batch_size=64, num_cpus=1
    )
    scored.write_parquet(str(out / f"ray-{time.monotonic_ns()}"))
    newest = max(out.glob("ray-*"), key=lambda folder: folder.stat().st_mtime)
    table = parquet.read_table(newest).sort_by("key")
    return table["label"].to_pylist()


def with_daft(file: Path, out: Path, model: str, batch: int) -> list[str]:
    """Score a file with Daft's class UDF."""
    import daft

    @daft.cls(use_process=True)
    class DaftClassifier:
        def __init__(self, path: str) -> None:
            self.pipe = make_pipeline(path, granted_cores())

        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=64)
        def label(self, texts: daft.Series) -> list[str]:
            found = self.pipe(texts.to_pylist(), batch_size=batch, truncation=True)
            return [result["label"] for result in found]

    folder = out / f"daft-{time.monotonic_ns()}"
    frame = daft.read_parquet(str(file))
    frame.with_column("label", DaftClassifier(model).label(frame["text"])).write_parquet(str(folder))
    return parquet.read_table(folder).sort_by("key")["label"].to_pylist()


def with_windrow(file: Path, out: Path, model: str, precision: str) -> list[str]:
    """Run a job with an empty store, in the engine that the rule takes for large partitions."""
    import duckdb

    name = f"run-{time.monotonic_ns()}"
    job = job_for(file, out, name, model)
    chosen = candidates("classify", "cpu", "auto", precision, 10**6, resolve(job).config)[0]
    run(Job(**job.model_dump() | {"precision": precision, "engine": chosen.engine}))
    with duckdb.connect(str(out / f"{name}.duckdb"), read_only=True) as con:
        return [label for (label,) in con.execute("SELECT label FROM predictions ORDER BY key").fetchall()]


def timed(score: Callable[[], list[str]]) -> tuple[float, list[str]]:
    """Return the seconds of one call and its labels."""
    began = time.perf_counter()
    labels = score()
    return time.perf_counter() - began, labels


def compare(file: Path, out: Path, model: str, precisions: list[str], repeats: int) -> dict[str, Any]:
    """Find each peer's best batch once, then time all in turn, over the file and over its first rows."""
    few, some = out / "few.parquet", out / "some.parquet"
    for part, rows in ((few, FEW), (some, SOME)):
        parquet.write_table(parquet.read_table(file).slice(0, rows), part)
    best = min(BATCHES, key=lambda batch: timed(lambda: with_pipeline(some, out, model, batch))[0])
    best_cross = min(BATCHES[1:], key=lambda batch: timed(lambda: with_cross_encoder(some, out, model, batch))[0])
    scorers = {
        f"pipeline, sorted, batch {best}": lambda rows: with_pipeline(rows, out, model, best),
        f"CrossEncoder, batch {best_cross}": lambda rows: with_cross_encoder(rows, out, model, best_cross),
        "Ray Data": lambda rows: with_ray(rows, out, model, best),
        "Daft": lambda rows: with_daft(rows, out, model, best),
        **{f"Windrow, {p}": lambda rows, p=p: with_windrow(rows, out, model, p) for p in precisions},
    }
    times: dict[str, list[float]] = {who: [] for who in scorers}
    starts: dict[str, list[float]] = {who: [] for who in scorers}
    labels: dict[str, list[str]] = {}
    for _ in range(repeats):
        for who, score in scorers.items():
            starts[who].append(timed(lambda score=score: score(few))[0])
            took, labels[who] = timed(lambda score=score: score(file))
            times[who].append(took)
    expected = next(iter(labels.values()))
    rows = len(expected)
    return {
        who: {
            "rows_per_s": round(rows / statistics.median(took), 1),
            "start_s": round(statistics.median(starts[who]), 2),
            "without_start": round(
                (rows - FEW) / max(1e-3, statistics.median(took) - statistics.median(starts[who])), 1
            ),
            "agreement": round(sum(a == b for a, b in zip(labels[who], expected, strict=True)) / rows, 4),
        }
        for who, took in times.items()
    }


def is_told(found: dict[str, Any], kind: str) -> bool:
    """Tell whether a speed can be told: not where start-up takes more than nine tenths of the time."""
    return kind == "rows_per_s" or 0 < found[kind] < 10 * found["rows_per_s"]


def as_markdown(results: dict[str, dict[str, Any]], facts: dict[str, str]) -> str:
    """Return a table with a line for each set and peer, and the ratio to the best peer."""
    head = "| rows | who | rows/s | to the best peer | start-up, s | rows/s without | to the best peer | labels agree |"
    lines = [head, "|---|---|---|---|---|---|---|---|"]
    for name, found in results.items():
        peers = [r for who, r in found.items() if not who.startswith("Windrow")]
        for who, r in found.items():
            cells = []
            for kind in ("rows_per_s", "without_start"):
                best = max((peer[kind] for peer in peers if is_told(peer, kind)), default=r[kind])
                ratio = f"{r[kind] / best:.2f}x"
                shown = [f"{r[kind]:.1f}", f"**{ratio}**" if who.startswith("Windrow") else ratio]
                cells += shown if is_told(r, kind) else ["start-up is nearly all", "?"]
            cells.insert(2, f"{r['start_s']:.2f}" if "start_s" in r else "?")
            lines.append(f"| {name} | {who} | {' | '.join(cells)} | {r['agreement']:.2%} |")
    where = "; ".join(f"{name}: {value}" for name, value in facts.items())
    return "\n".join([*lines, "", f"From Parquet to stored predictions, model loading included; medians. {where}."])


def main() -> None:
    """Run the comparison, print the table, and write it to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=600, help="whole reviews; sentences 4 times, long documents a fifth")
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--render", action="store_true", help="write the table anew from peers.json")
    options = asked.parse_args()
    if options.render:
        told = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
        (RESULTS / "peers.md").write_text(as_markdown(told["results"], told["machine"]) + "\n", encoding="utf-8")
        return
    logging.getLogger("transformers").setLevel(logging.ERROR)
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["DAFT_PROGRESS_BAR"] = "0"
    import daft  # noqa: F401 (imported before anything is timed)
    import ray
    import sentence_transformers  # noqa: F401

    root = str(Path(__file__).resolve().parents[1])
    ray.init(
        num_cpus=2 * granted_cores(), include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": f"{root}:{root}/operators"}},
    )  # fmt: skip
    ray.data.DataContext.get_current().enable_progress_bars = False
    sentences = sentences_of_reviews()
    sets = {
        "sentences": random.Random(0).sample(sentences, min(4 * options.rows, len(sentences))),
        "whole reviews": texts_of(SETS["whole reviews"], options.rows),
        "long documents": long_documents(options.rows // 5),
    }
    results, precisions = {}, [choose_precision("auto", "cpu"), "int8"]
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        model = saved_model(out)
        for name, texts in sets.items():
            file = out / f"{name.replace(' ', '-')}.parquet"
            parquet.write_table(pa.table({"key": [f"{n:06d}" for n in range(len(texts))], "text": texts}), file)
            results[f"{name} ({len(texts)})"] = compare(file, out, model, precisions, options.repeats)
            print(json.dumps(results[f"{name} ({len(texts)})"]), flush=True)
    ray.shutdown()
    facts = machine()
    table = as_markdown(results, facts)
    print(f"\n{table}")
    (RESULTS / "peers.md").write_text(table + "\n", encoding="utf-8")
    (RESULTS / "peers.json").write_text(
        json.dumps({"machine": facts, "results": results}, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
