"""How to run a model: one module an engine, behind one seam."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

from windrow.engines.base import Decoding, Engine, EnginePlan, Outputs
from windrow.errors import ExportError, JobError, nearest
from windrow.models.resolve import ResolvedModel

__all__ = [
    "ENGINES",
    "OPENVINO_ABOVE_TEXTS",
    "Decoding",
    "Engine",
    "EnginePlan",
    "Outputs",
    "check_engine",
    "choose_engine",
    "open_engine",
    "open_first",
]

log = logging.getLogger("windrow")

ENGINES = {
    "torch": "windrow.engines.torch_engine:TorchEngine",
    "openvino": "windrow.engines.openvino_engine:OpenVinoEngine",
}
OPENVINO_ABOVE_TEXTS = 1000
"""Fewer are scored before an export would be made."""


def open_engine(plan: EnginePlan, model: ResolvedModel) -> Engine:
    """Load a model into the engine of a plan.

    Raises:
        JobError: The engine is not known.
        ModelError: The checkpoint does not fit the head that is asked for.
    """
    check_engine(plan.engine)
    module, _, name = ENGINES[plan.engine].partition(":")
    engine: Engine = getattr(import_module(module), name)(plan, model)
    return engine


def open_first(plan: EnginePlan, model: ResolvedModel, wanted: str) -> Engine:
    """Load a model into the engine of a plan; where that was ``auto``'s choice and cannot be used here, into torch.

    Raises:
        ExportError: The job names this engine, and it cannot take the model.
    """
    if wanted == "auto" and plan.engine == "openvino" and not _has_openvino():
        plan = replace(plan, engine="torch")  # load ran on another machine
    try:
        return open_engine(plan, model)
    except ExportError as error:
        if wanted != "auto":
            raise
        log.warning("%s It runs in PyTorch.", error.problem)
        return open_engine(replace(plan, engine="torch"), model)


def check_engine(name: str) -> None:
    """Raise a `JobError` if no engine has this name, or if its package is not installed."""
    if name not in {"auto", *ENGINES}:
        hint = nearest(name, ENGINES) or "."
        raise JobError(f"Unknown engine {name!r}{hint}", f"use one of: auto, {', '.join(ENGINES)}.")
    if name == "openvino" and not _has_openvino():
        raise JobError("Engine 'openvino' is not installed.", "pip install 'windrow[openvino]'.")


def choose_engine(wanted: str, head: str, device: str, precision: str, texts: int) -> str:
    """Return the engine for ``auto``, or what is wanted.

    The choice depends on the texts of the partition, not on those left to score: so a killed run goes on as it began.

    Args:
        texts: Distinct texts of the partition.
    """
    if wanted != "auto":
        return wanted
    fits = device == "cpu" and head in {"classify", "embed"} and precision in {"fp32", "bf16"}
    return "openvino" if fits and texts >= OPENVINO_ABOVE_TEXTS and _has_openvino() else "torch"


def _has_openvino() -> bool:
    return find_spec("openvino") is not None
