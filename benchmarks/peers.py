"""Windrow against those who score tables too: same Parquet file, same weights, from file to stored predictions.

    python -m benchmarks.peers [--rows N] [--repeats N]

Three lengths of real text from the bundled samples: sentences of reviews (as long as tweets), whole reviews, and long
documents (reviews joined to about 600 words, of which every model here reads its window of 512 tokens). Each peer is
used as its documentation shows and tuned, over the first 200 rows, as its users would tune it:

- *pipeline*: Transformers' text-classification pipeline, texts sorted by length by hand, the best of batch 1, 8, 32,
  64; result columns written as Parquet.
- *CrossEncoder*: sentence-transformers' `CrossEncoder.predict`, which sorts by length itself; the best of 8, 32, 64. It
  takes pairs alone, so the second sentence is empty, and it reads one special token more.
- *Ray Data*: `map_batches` with a class of the same pipeline, one actor a core, one thread each, batch as above; in a
  cluster that is running before.
- *Daft*: `@daft.cls` with a batch method of the same pipeline, in its own process, all cores.
- *Windrow*: `run` of a job with an empty store, in the engine that the rule takes for so many rows; the model has been
  used on this machine before, so its export is there.

Each scores in a process of its own, timed from its start to its end, as a scheduler's task runs it: imports and loading
of the model are included. The same is timed over eight rows: that is the start-up, and a further column tells the speed
without it, which is what counts for large tables. Repeats are interleaved and the medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from benchmarks.contenders import job_for, labels_of
from benchmarks.machine import machine
from benchmarks.pipeline import ALL, RESULTS, SETS, SHORTER, some_sentences, texts_of
from windrow.engines import EnginePlan, candidates, is_ready
from windrow.engines.device import choose_precision, granted_cores
from windrow.models import resolve

ROOT = Path(__file__).resolve().parents[1]
QUIET = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "DAFT_PROGRESS_BAR": "0",
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'operators'}",
}
"""Of the environment of contenders."""
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


def timed(who: str, file: Path, model: str, option: str) -> tuple[float, list[str]]:
    """Let a contender score a file in a process of its own; return the seconds from its start to its end, and labels.

    Raises:
        RuntimeError: It failed.
    """
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "benchmarks.contenders", who, str(file), out, model, option]
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - began
        if done.returncode:
            raise RuntimeError(f"{who} failed: {done.stderr[-2000:]}")
        return took, labels_of(Path(out))


def compare(file: Path, few: Path, some: Path, model: str, options: Options, repeats: int) -> dict[str, Any]:
    """Find each peer's best batch once, then time all in turn, over the file and over its first rows."""
    best = min(BATCHES, key=lambda batch: timed("pipeline", some, model, str(batch))[0])
    best_cross = min(BATCHES[1:], key=lambda batch: timed("CrossEncoder", some, model, str(batch))[0])
    scorers = {
        f"pipeline, sorted, batch {best}": ("pipeline", str(best)),
        f"CrossEncoder, batch {best_cross}": ("CrossEncoder", str(best_cross)),
        "Ray Data": ("Ray Data", f"{best}@{options.ray}"),
        "Daft": ("Daft", str(best)),
        **{f"Windrow, {name}": ("Windrow", option) for name, option in options.windrow(file, model).items()},
    }
    times: dict[str, list[float]] = {name: [] for name in scorers}
    starts: dict[str, list[float]] = {name: [] for name in scorers}
    labels: dict[str, list[str]] = {}
    for _ in range(repeats):
        for name, (who, option) in scorers.items():
            starts[name].append(timed(who, few, model, option)[0])
            took, labels[name] = timed(who, file, model, option)
            times[name].append(took)
    expected = next(iter(labels.values()))
    return {name: figures(times[name], starts[name], labels[name], expected) for name in scorers}


def figures(times: list[float], starts: list[float], labels: list[str], expected: list[str]) -> dict[str, float]:
    """Return a contender's medians, and the share of labels that are the pipeline's."""
    whole, start, rows = statistics.median(times), statistics.median(starts), len(expected)
    return {
        "rows_per_s": round(rows / whole, 1),
        "start_s": round(start, 2),
        "without_start": round((rows - FEW) / max(1e-3, whole - start), 1),
        "agreement": round(sum(a == b for a, b in zip(labels, expected, strict=True)) / rows, 4),
    }


@dataclass(frozen=True, slots=True)
class Options:
    """What contenders are told beside the file: the address of Ray's cluster; Windrow's numerics."""

    ray: str
    precisions: tuple[str, ...]

    def windrow(self, file: Path, model: str) -> dict[str, str]:
        """Return the engine of each precision that the rule takes for a file, and make its export, once."""
        rows, found = parquet.read_metadata(file).num_rows, {}
        for precision in self.precisions:
            resolved = resolve(job_for(file, file.parent, "none", model))
            ready = partial(is_ready, EnginePlan("auto", "classify", "cpu", precision, resolved.outputs), resolved)
            engine = candidates("classify", "cpu", "auto", precision, rows, resolved.config, ready)[0].engine
            found[f"{precision} ({engine})"] = f"{engine}@{precision}"
            timed("Windrow", file.with_name("few.parquet"), model, f"{engine}@{precision}")
        return found


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
    what = (
        "Each in a process of its own, from its start to stored predictions, imports and loading of the model included"
    )
    return "\n".join([*lines, "", f"{what}; start-up is the same over eight rows; medians. {where}."])


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
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # read when Ray is imported
    import ray

    cluster = ray.init(num_cpus=2 * granted_cores(), include_dashboard=False, log_to_driver=False)
    sets = {
        "sentences": some_sentences(SHORTER * options.rows),
        "whole reviews": texts_of(SETS["whole reviews"], options.rows),
        "long documents": long_documents(options.rows // 5),
    }
    told = Options(cluster.address_info["address"], (choose_precision("auto", "cpu"), "int8"))
    results = {}
    with tempfile.TemporaryDirectory() as place:
        model = saved_model(Path(place))
        for name, texts in sets.items():
            files = [Path(place) / f"{part}.parquet" for part in ("whole", "few", "some")]
            for file, rows in zip(files, (len(texts), FEW, SOME), strict=True):
                keys = [f"{n:06d}" for n in range(len(texts))]
                parquet.write_table(pa.table({"key": keys[:rows], "text": texts[:rows]}), file)
            results[f"{name} ({len(texts)})"] = compare(*files, model, told, options.repeats)
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
