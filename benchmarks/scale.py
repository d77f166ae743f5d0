"""Peak memory and speed over many short texts: load and publish without inference, and a whole run.

    python -m benchmarks.scale [--rows 1000 10000 100000 1000000]

Each size runs in a process of its own: with a tiny random classifier, so that reading, hashing, staging, joining
and writing are what is measured, and with the bundled model, which is what a job costs. The second run of a size
finds every text predicted: load and publish alone. `benchmarks.plot` draws the cost of a row by the number of rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results"
WORDS = np.array(
    ["good", "bad", "film", "phone", "battery", "great", "awful", "the", "it", "was", "is", "not", "plot", "lovely"]
)
STEPS = ("load", "infer", "publish")
TINY, REAL = "tiny random classifier", "windrow/minilm-sentiment"


def write_rows(path: Path, rows: int) -> None:
    """Write distinct short texts, seeded, as Parquet."""
    chosen = np.random.default_rng(0)
    writer = None
    for start in range(0, rows, 100_000):
        count = min(100_000, rows - start)
        words = WORDS[chosen.integers(0, len(WORDS), (count, 6))]
        bodies = [f"{' '.join(row)} {start + i}" for i, row in enumerate(words.tolist())]
        table = pa.table({"id": np.arange(start, start + count), "body": bodies, "stars": chosen.integers(1, 6, count)})
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def one(folder: Path, rows: int, model: str) -> None:
    """Run one size in this process and print its figures as JSON."""
    from windrow import Job, run
    from windrow.console import quiet

    quiet()
    source = {"path": str(folder / f"{rows}.parquet"), "text": "body", "key": "id", "keep": ["stars"]}
    place = folder / f"{rows}-{'real' if model == REAL else 'tiny'}"
    target = {"url": f"duckdb:///{place}.duckdb", "table": "scores"}
    job = Job(
        name="scale",
        source=source,
        task="sentiment",
        model=model,
        warehouse=target,
        store=f"{place}-store",
    )
    began = time.perf_counter()
    receipt = run(job)
    seconds = time.perf_counter() - began
    peak_mb = _peak_kb() / 1024
    spent = receipt.seconds.load + receipt.seconds.publish
    figures = {
        "rows": rows,
        "texts_scored": receipt.texts_scored,
        "seconds": round(seconds, 1),
        "peak_mb": round(peak_mb),
    }
    steps = {f"{step}_s": round(getattr(receipt.seconds, step), 2) for step in STEPS}
    print(json.dumps({**figures, **steps, "steps_rows_per_s": round(rows / spent)}))


def _peak_kb() -> int:
    """Return this process's own peak; `getrusage` would count what its parent held when it was started."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    """Run all sizes twice each, print one table, and write it to ``benchmarks/results``."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    asked.add_argument("--one", nargs=3, metavar=("FOLDER", "ROWS", "MODEL"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.one:
        return one(Path(options.one[0]), int(options.one[1]), options.one[2])
    from windrow.testing import make_tiny_classifier

    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="windrow-scale-") as place:
        folder = Path(place)
        models = {TINY: str(make_tiny_classifier(folder / "tiny", WORDS.tolist(), max_tokens=64)), REAL: REAL}
        for rows in options.rows:
            write_rows(folder / f"{rows}.parquet", rows)
        for name, model in models.items():
            for rows in [*options.rows, *options.rows]:
                command = [sys.executable, "-m", "benchmarks.scale", "--one", place, str(rows), model]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                results.setdefault(name, []).append(json.loads(told))
                print(name, told.strip(), flush=True)
    facts = machine()
    head = ["model", "rows", "texts scored", "seconds", *STEPS, "peak memory, MB", "load + publish, rows/s"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name, found in results.items():
        for r in sorted(found, key=lambda r: (r["rows"], -r["texts_scored"])):
            spent = [str(r[f"{step}_s"]) for step in STEPS]
            cells = [name, f"{r['rows']:,}", f"{r['texts_scored']:,}", str(r["seconds"]), *spent]
            lines.append(f"| {' | '.join([*cells, str(r['peak_mb']), format(r['steps_rows_per_s'], ',')])} |")
    where = "; ".join(f"{name}: {value}" for name, value in facts.items())
    told = "Texts of seven short words. Single runs, a process each; load, infer and publish in seconds."
    table = "\n".join([*lines, "", f"{told} {where}."])
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scale.md").write_text(table + "\n", encoding="utf-8")
    saved = json.dumps({"machine": facts, "results": results}, indent=1)
    (RESULTS / "scale.json").write_text(saved + "\n", encoding="utf-8")
    return None


if __name__ == "__main__":
    main()
