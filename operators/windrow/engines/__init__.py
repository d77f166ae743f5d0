"""How to run a model: one module an engine, behind one seam."""

from __future__ import annotations

from importlib import import_module

from windrow.engines.base import Decoding, Engine, EnginePlan, Outputs
from windrow.errors import JobError, nearest
from windrow.models.resolve import ResolvedModel

__all__ = ["ENGINES", "Decoding", "Engine", "EnginePlan", "Outputs", "open_engine"]

ENGINES = {"torch": "windrow.engines.torch_engine:TorchEngine"}


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


def check_engine(name: str) -> None:
    """Raise a `JobError` if no engine has this name."""
    if name not in ENGINES:
        hint = nearest(name, ENGINES) or "."
        raise JobError(f"Unknown engine {name!r}{hint}", f"use one of: {', '.join(ENGINES)}.")
