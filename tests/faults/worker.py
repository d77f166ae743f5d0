"""What a child process does: steps of a job, with an engine that does arithmetic; told to the parent as it happens.

The fork server imports this module once, with all that a run needs, so that a child starts in milliseconds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import safetensors  # noqa: F401
from transformers import AutoTokenizer  # noqa: F401

import windrow.joining
import windrow.load
import windrow.publish
import windrow.sources.files
import windrow.tasks.classification
import windrow.warehouses.clickhouse
import windrow.warehouses.duckdb
from windrow import Job
from windrow.engines import ENGINES, EnginePlan
from windrow.errors import WindrowError
from windrow.infer import infer
from windrow.manifest import Manifest
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens  # noqa: F401
from windrow.publish import publish
from windrow.steps import run
from windrow.store import RunRef
from windrow.testing import FakeEngine, make_word_tokenizer
from windrow.upkeep import compact_all

__all__ = ["arithmetic", "work"]

with suppress(ImportError):
    import clickhouse_connect  # noqa: F401

make_word_tokenizer(["a"])


def arithmetic(plan: EnginePlan, model: ResolvedModel) -> FakeEngine:
    """Return an engine whose logits are sums over a window's token ids."""
    engine = FakeEngine(lambda ids: [np.sin(float(ids.sum())), np.cos(float(ids.size + ids.max()))])
    engine.plan = plan
    return engine


class _Teller:
    """Tells the parent how a run gets on."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def loading(self) -> None:
        self.pipe.send(("load", None))

    def loaded(self, manifest: Manifest) -> None:
        self.pipe.send(("infer", manifest.ref.to_dict()))

    def scored(self, done: int, total: int) -> None: ...

    def publishing(self) -> None:
        self.pipe.send(("publish", None))


def work(
    pipe: Connection, what: str, job_file: str, arguments: Mapping[str, Any], environment: Mapping[str, str]
) -> None:
    """Do some steps of a job and tell their outcome: ``done`` with what came of them, or ``failed`` with the error.

    Args:
        what: ``run``, ``resume`` (infer and publish of a run that was loaded) or ``compact``.
        arguments: `partition` and `limit` of a run, or the `ref` to resume.
        environment: Is set first.
    """
    os.environ.update(environment)
    ENGINES["torch"] = f"{__name__}:arithmetic"
    windrow.load.SHARD_TEXTS = 64
    windrow.publish._ROWS = windrow.joining._ROWS = 128
    try:
        job = Job.from_file(job_file)
        if what == "compact":
            pipe.send(("done", compact_all(job.store_url)))
        elif what == "resume":
            ref = RunRef(**arguments["ref"])
            pipe.send(("infer", None))
            infer(job, ref)
            pipe.send(("publish", None))
            pipe.send(("done", publish(job, ref).to_dict()))
        else:
            pipe.send(("done", run(job, **arguments, watcher=_Teller(pipe)).to_dict()))
    except WindrowError as error:
        pipe.send(("failed", {"kind": type(error).__name__, "told": str(error), "retryable": error.retryable}))
