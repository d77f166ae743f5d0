"""Jobs, engines and scored texts for the tests of models and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from windrow import Job
from windrow.engines import open_engine
from windrow.models import resolve
from windrow.models.reader import open_reader
from windrow.tasks import Scored, build_task, engine_plan

WORDS = ["good", "bad", "film", "phone", "battery", "great", "awful", "the", "a", "it", "was", "is", "not", "very"]
WORDS += ["camera", "plot", "slow", "fast", "broken", "lovely"]


def job_of(model: object, task: object = "sentiment", **fields: Any) -> Job:
    """A job whose source and warehouse are never opened."""
    return Job(
        name="job",
        source={"path": "rows.parquet", "text": "text", "key": "id"},
        task=task,
        model=str(model),
        warehouse={"url": "duckdb:///unused.duckdb", "table": "t"},
        **fields,
    )


@contextmanager
def opened(job: Job, precision: str = "fp32"):
    """The job's task, its engine on the CPU, and its tokenizer.

    One thread is faster for tiny models, by far so on a busy machine.
    """
    import torch

    model = resolve(job)
    task = build_task(job, model)
    tokens = open_reader(model, task)
    engine = open_engine(engine_plan(task, tokens, "torch", "cpu", precision), model)
    torch.set_num_threads(1)
    try:
        yield task, engine, tokens
    finally:
        engine.close()


def scored(job: Job, texts: Sequence[str]) -> Scored:
    """The predictions of some texts, in fp32 on the CPU."""
    with opened(job) as (task, engine, tokens):
        return task.score(task.prepare(texts, tokens), engine, tokens)


def copied(folder: Path, target: Path) -> Path:
    """A copy of a model's folder, to be spoilt."""
    import shutil

    shutil.copytree(folder, target)
    return target


def pictures(count: int, kind: str = "PNG", size: tuple[int, int] = (20, 12), seed: int = 0) -> list[bytes]:
    """Files of random images."""
    import io

    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(generator.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)).save(file, kind)
        files.append(file.getvalue())
    return files
