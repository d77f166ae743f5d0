"""What reuse saves: the same number of rows with all texts distinct, and with each text twice.

    python -m benchmarks.reuse [--rows N] [--repeats N]

Rows are real sentences of the bundled reviews, joined in seeded pairs so that there are enough. Both jobs run whole
(load, infer, publish), each with an empty store, in the same engine and precision; interleaved, medians.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from benchmarks.machine import machine
from benchmarks.pipeline import RESULTS, sentences_of_reviews
from windrow import Job, run
from windrow.console import quiet
from windrow.engines.device import choose_precision


def distinct_texts(count: int) -> list[str]:
    """Return so many distinct pairs of real sentences, in a seeded order."""
    sentences, chosen, made = sentences_of_reviews(), random.Random(0), dict[str, None]()
    while len(made) < count:
        made[". ".join(chosen.sample(sentences, 2))] = None
    return list(made)


def seconds_of(file: Path, folder: Path, name: str) -> float:
    """Run the job over a file with a new store; return its seconds."""
    receipt = run(
        Job(
            name=name, source={"path": str(file), "text": "text", "key": "key"}, task="sentiment",
            model="windrow/minilm-sentiment", warehouse={"url": f"duckdb:///{folder}/{name}.duckdb", "table": "scores"},
            store=str(folder / name), engine="openvino", precision=choose_precision("auto", "cpu"),
        )
    )  # fmt: skip
    return receipt.seconds.total


def main() -> None:
    """Time both, print one table, and write it to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, default=20_000)
    asked.add_argument("--repeats", type=int, default=3)
    options = asked.parse_args()
    quiet()
    texts = distinct_texts(options.rows)
    half = texts[: options.rows // 2]
    sets = {"all distinct": texts, "each text twice": half + half}
    taken: dict[str, list[float]] = {name: [] for name in sets}
    with tempfile.TemporaryDirectory(prefix="windrow-reuse-") as place:
        folder = Path(place)
        for name, rows in sets.items():
            keys = [str(number) for number in range(len(rows))]
            parquet.write_table(pa.table({"key": keys, "text": rows}), folder / f"{name}.parquet")
        for repeat in range(options.repeats):
            for place_of, name in enumerate(sets):
                took = seconds_of(folder / f"{name}.parquet", folder, f"run_{repeat}_{place_of}")
                taken[name].append(took)
                print(json.dumps({"set": name, "seconds": round(took, 1)}), flush=True)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    ratio = medians["all distinct"] / medians["each text twice"]
    lines = ["| rows | seconds | rows/s | against all distinct |", "|---|---|---|---|"]
    for name, seconds in medians.items():
        share = f"{medians['all distinct'] / seconds:.2f}x"
        lines.append(f"| {options.rows:,}, {name} | {seconds:.1f} | {options.rows / seconds:,.0f} | {share} |")
    where = "; ".join(f"{name}: {value}" for name, value in machine().items())
    table = "\n".join([*lines, "", f"Whole runs, medians of {options.repeats}. {where}."])
    print(f"\n{table}\n\n{ratio:.2f}x")
    (RESULTS / "reuse.md").write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
