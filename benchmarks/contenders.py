"""Those whom `benchmarks.peers` compares: each scores a file as its documentation shows, in a process of its own.

    python -m benchmarks.contenders WHO FILE OUT MODEL OPTION

What a contender imports it imports in here, so that its process takes no longer than its users' would.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from windrow import Job
from windrow.engines.device import granted_cores


def job_for(file: Path, folder: Path, name: str, model: str = "windrow/minilm-sentiment", **more: Any) -> Job:
    """Return the job over a file; its store and warehouse are new where `name` is."""
    return Job(
        name="peers",
        source={"path": str(file), "text": "text", "key": "key"},
        task={"name": "sentiment", "truncate": True},
        model=model,
        warehouse={"url": f"duckdb:///{folder}/{name}.duckdb", "table": "predictions"},
        store=str(folder / f"store-{name}"),
        **more,
    )


def make_pipeline(model: str, threads: int) -> Any:
    """Return the Transformers pipeline of a saved model."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(threads)
    return pipeline("text-classification", model=model, device="cpu")


def with_pipeline(file: Path, out: Path, model: str, batch: str) -> None:
    """Score a file with the pipeline, sorted by length by hand."""
    table = parquet.read_table(file)
    texts = table["text"].to_pylist()
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
    scored = make_pipeline(model, granted_cores())
    found = scored([texts[row] for row in order], batch_size=int(batch), truncation=True)
    labels: list[str] = [""] * len(texts)
    for row, result in zip(order, found, strict=True):
        labels[row] = result["label"]
    parquet.write_table(table.append_column("label", pa.array(labels)), out / "labels.parquet")


def with_cross_encoder(file: Path, out: Path, model: str, batch: str) -> None:
    """Score a file with sentence-transformers' CrossEncoder."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(granted_cores())
    table = parquet.read_table(file)
    encoder = CrossEncoder(model, device="cpu", max_length=512)
    texts = [(text, "") for text in table["text"].to_pylist()]
    scores = encoder.predict(texts, batch_size=int(batch), show_progress_bar=False)
    labels = [("negative", "positive")[int(best)] for best in scores.argmax(axis=1)]
    parquet.write_table(table.append_column("label", pa.array(labels)), out / "labels.parquet")


class RayClassifier:
    """What Ray Data's guide to batch inference shows: a class that holds the pipeline."""

    def __init__(self, model: str, batch: int) -> None:
        self.pipe, self.batch = make_pipeline(model, 1), batch

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """Add a column of labels."""
        found = self.pipe(list(rows["text"]), batch_size=self.batch, truncation=True)
        rows["label"] = [result["label"] for result in found]
        return rows


def with_ray(file: Path, out: Path, model: str, option: str) -> None:
    """Score a file with Ray Data, one actor a core, in the cluster that is running; option: batch@address."""
    import ray

    batch, _, address = option.partition("@")
    root = str(Path(__file__).resolve().parents[1])
    paths = {"env_vars": {"PYTHONPATH": f"{root}:{root}/operators"}}
    ray.init(address=address, log_to_driver=False, runtime_env=paths)
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.read_parquet(str(file)).repartition(8 * granted_cores())
    arguments = (model, int(batch))
    scored = dataset.map_batches(
        RayClassifier, fn_constructor_args=arguments, concurrency=granted_cores(), batch_size=64, num_cpus=1
    )
    scored.write_parquet(str(out / "labels.parquet"))


def with_daft(file: Path, out: Path, model: str, batch: str) -> None:
    """Score a file with Daft's class UDF."""
    import daft

    @daft.cls(use_process=True)
    class DaftClassifier:
        def __init__(self, path: str) -> None:
            self.pipe = make_pipeline(path, granted_cores())

        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=64)
        def label(self, texts: daft.Series) -> list[str]:
            found = self.pipe(texts.to_pylist(), batch_size=int(batch), truncation=True)
            return [result["label"] for result in found]

    frame = daft.read_parquet(str(file))
    scored = frame.with_column("label", DaftClassifier(model).label(frame["text"]))
    scored.write_parquet(str(out / "labels.parquet"))


def with_windrow(file: Path, out: Path, model: str, option: str) -> None:
    """Run a job with an empty store; option: engine@precision."""
    from windrow import run

    engine, _, precision = option.partition("@")
    run(job_for(file, out, "windrow", model, engine=engine, precision=precision))


def labels_of(out: Path) -> list[str]:
    """Return the labels that a contender has written, in the order of keys."""
    import duckdb

    if (out / "windrow.duckdb").exists():
        with duckdb.connect(str(out / "windrow.duckdb"), read_only=True) as con:
            return [label for (label,) in con.execute("SELECT label FROM predictions ORDER BY key").fetchall()]
    return [str(label) for label in parquet.read_table(out / "labels.parquet").sort_by("key")["label"].to_pylist()]


CONTENDERS: dict[str, Callable[[Path, Path, str, str], None]] = {
    "pipeline": with_pipeline,
    "CrossEncoder": with_cross_encoder,
    "Ray Data": with_ray,
    "Daft": with_daft,
    "Windrow": with_windrow,
}


if __name__ == "__main__":
    who, file, out, model, option = sys.argv[1:]
    CONTENDERS[who](Path(file), Path(out), model, option)
