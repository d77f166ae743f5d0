"""How to run a model: one module an engine, behind one seam."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib import import_module

from windrow.engines import native_library
from windrow.engines.base import Decoding, Engine, EnginePlan, Outputs
from windrow.engines.fitting import INSTALL, Candidate, candidates, is_installed
from windrow.errors import ExportError, JobError, nearest
from windrow.models.resolve import ResolvedModel

__all__ = [
    "ENGINES",
    "Candidate",
    "Decoding",
    "Engine",
    "EnginePlan",
    "Outputs",
    "check_engine",
    "candidates",
    "is_ready",
    "open_engine",
    "open_first",
]

log = logging.getLogger("windrow")

ENGINES = {
    "torch": "windrow.engines.torch_engine:TorchEngine",
    "openvino": "windrow.engines.openvino_engine:OpenVinoEngine",
    "native": "windrow.engines.native_engine:NativeEngine",
    "onnxruntime": "windrow.engines.onnx_engine:OnnxEngine",
    "ctranslate2": "windrow.engines.ctranslate2_engine:CTranslate2Engine",
    "vllm": "windrow.engines.vllm_engine:VllmEngine",
}


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
        ExportError: The job names this engine, or its numerics are this engine's alone, and it cannot take the model.
    """
    if wanted == "auto" and plan.engine == "native" and is_installed("openvino"):
        return _open_native(plan, model)
    if plan.precision == "int8":
        wanted = plan.engine  # nothing else would give the same predictions
    if wanted == "auto" and not is_installed(plan.engine):
        plan = _in_torch(plan, "its package is not installed here")  # load ran on another machine
    if wanted == "auto" and plan.engine == "ctranslate2" and _searches_beams(plan, model):
        plan = _in_torch(plan, "each engine ends a beam search in its own way")  # though fingerprints are equal
    try:
        return open_engine(plan, model)
    except ExportError as error:
        if wanted != "auto":
            raise
        log.warning("%s It runs in PyTorch.", error.problem)
        return open_engine(_in_torch(plan, error.problem), model)


def is_ready(plan: EnginePlan, model: ResolvedModel, engine: str) -> bool:
    """Tell whether a model has been exported for ``openvino`` or ``native`` here, so that opening it takes no PyTorch.

    Args:
        plan: How it will be run, in whichever engine.
    """
    from windrow.engines.exports import is_exported
    from windrow.engines.native_export import native_format
    from windrow.engines.openvino_export import openvino_format

    return is_exported(plan, model, native_format() if engine == "native" else openvino_format())


def check_engine(name: str) -> None:
    """Raise a `JobError` if no engine has this name, or if its package is not installed."""
    if name not in {"auto", *ENGINES}:
        hint = nearest(name, ENGINES) or "."
        raise JobError(f"Unknown engine {name!r}{hint}", f"use one of: auto, {', '.join(ENGINES)}.")
    if name == "native" and (lack := native_library.lacking()):
        raise JobError(f"Engine 'native' cannot run here: {lack.reason}.", f"{lack.fix}.")
    if not is_installed(name):
        raise JobError(f"Engine {name!r} is not installed.", f"{INSTALL[name]}.")


def _open_native(plan: EnginePlan, model: ResolvedModel) -> Engine:
    """Load a model into our kernels; where these cannot run here, into OpenVINO, in int8 as well."""
    try:
        return open_engine(plan, model)
    except (ExportError, JobError) as error:  # load may have run on another machine
        log.warning("%s It runs in OpenVINO.", error.problem)
        plan.note("native", "openvino", error.problem)
        return open_engine(replace(plan, engine="openvino"), model)


def _in_torch(plan: EnginePlan, why: str) -> EnginePlan:
    plan.note(plan.engine, "torch", why)
    return replace(plan, engine="torch")


def _searches_beams(plan: EnginePlan, model: ResolvedModel) -> bool:
    from windrow.engines.ctranslate2_options import generation_config

    return int(generation_config(model, plan.decoding).get("num_beams", 1)) > 1
