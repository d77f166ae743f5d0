"""Which engines and numerics could run a model here, the rule's own choice first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from windrow.engines import native_library
from windrow.engines.device import choose_precision, has_tiles
from windrow.engines.devices import named_devices
from windrow.engines.native_fit import unfit
from windrow.errors import JobError

__all__ = ["INSTALL", "OPENVINO_ABOVE_TEXTS", "Candidate", "candidates", "device_kind", "is_installed"]

OPENVINO_ABOVE_TEXTS = 200
"""Fewer are scored before an export would be made; one that is there opens sooner than PyTorch is imported."""
NATIVE_ABOVE_TEXTS = 400
"""Fewer are scored by OpenVINO before weights would be rounded for our kernels; once they are, these open sooner."""
CTRANSLATE2_ABOVE_TEXTS = 200
"""Fewer are written before a conversion would be made."""

INSTALL = {
    "openvino": "pip install 'windrow[openvino]'",
    "onnxruntime": "pip install 'windrow[onnxruntime]'",
    "ctranslate2": "pip install 'windrow[ctranslate2]'",
    "vllm": "pip install vllm, or leave engine out",
}
"""How to get the package that an engine needs, which has its name."""

_ENCODERS = frozenset({"classify", "tag", "embed"})
_NATIVE = _ENCODERS | {"pairs"}


@dataclass(frozen=True, slots=True)
class _Able:
    """What an engine can run; no heads named means all."""

    devices: frozenset[str]
    precisions: frozenset[str]
    heads: frozenset[str] | None = None


_ABLE = {
    "openvino": _Able(frozenset({"cpu"}), frozenset({"fp32", "bf16", "int8"}), _ENCODERS),
    "onnxruntime": _Able(frozenset({"cpu"}), frozenset({"fp32", "int8"}), _ENCODERS),
    "ctranslate2": _Able(frozenset({"cpu"}), frozenset({"fp32", "bf16", "int8"}), frozenset({"generate"})),
    "vllm": _Able(frozenset({"cuda"}), frozenset({"fp32", "bf16", "fp16"}), frozenset({"decode"})),
    "native": _Able(frozenset({"cpu"}), frozenset({"int8"}), _NATIVE),
    "torch": _Able(frozenset({"cpu", "cuda", "mps"}), frozenset({"fp32", "bf16", "fp16"})),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An engine and the numerics class it would run in."""

    engine: str
    precision: str


def candidates(
    head: str,
    device: str,
    engine: str,
    precision: str,
    texts: int,
    config: dict[str, Any] | None = None,
    is_ready: Callable[[str], bool] = lambda _: False,
) -> list[Candidate]:
    """Return what fits the job, the rule's choice first; what comes after it has to prove itself by measurement.

    Our kernels come second: a pilot tries them in this order, and soon gives up what is slower than one before.

    The rule depends on the texts of the partition, not on those left to score: so a killed run goes on as it began.

    Args:
        head: As in `EnginePlan`; ``decode`` where a decoder alone generates.
        engine: As in the job; ``auto`` or a name.
        precision: As in the job; ``auto`` or a numerics class.
        texts: Distinct texts of the partition.
        config: The checkpoint's; `native` is only offered for one whose architecture it runs.
        is_ready: Tells whether the checkpoint has been exported for an engine; asked only where that matters.

    Raises:
        JobError: The engine that the job names cannot run this head, device or precision.
    """
    own = choose_precision("auto", device)
    asked = [precision] if precision != "auto" else list(dict.fromkeys([own, "int8", "fp32"]))
    engines = [engine] if engine != "auto" else _installed(head, device, asked[0], texts, config, is_ready)
    found = [Candidate(name, kind) for name in engines for kind in asked if _fits(name, head, device, kind)]
    if not found:
        raise JobError(
            f"Engine {engine!r} does not run {head} in {precision} on {device}.", "leave engine or precision out."
        )
    return found[:1] + sorted(found[1:], key=lambda one: one.engine != "native")


def is_installed(engine: str) -> bool:
    """Tell whether the package of an engine is there, or what its kernels need."""
    if engine == "native":
        return native_library.lacking() is None
    return engine not in INSTALL or find_spec(engine) is not None


def _installed(
    head: str, device: str, precision: str, texts: int, config: dict[str, Any] | None, is_ready: Callable[[str], bool]
) -> list[str]:
    """Return the installed engines, the rule's choice first."""
    names = ["torch"]
    if device_kind(device) != "cpu":
        return names
    if head in _ENCODERS:
        if is_installed("openvino"):
            names.insert(0 if texts >= OPENVINO_ABOVE_TEXTS or is_ready("openvino") else 1, "openvino")
        if is_installed("onnxruntime"):
            names.append("onnxruntime")
    if head in _NATIVE and is_installed("native") and _runs(config):
        is_best = precision == "int8" and not has_tiles()
        is_worth = texts >= NATIVE_ABOVE_TEXTS or "openvino" not in names or (is_best and is_ready("native"))
        names.insert(0 if is_best and is_worth else len(names), "native")
    if head == "generate" and is_installed("ctranslate2"):
        names.insert(0 if texts >= CTRANSLATE2_ABOVE_TEXTS and precision in {"fp32", "int8"} else 1, "ctranslate2")
    return names


def _runs(config: dict[str, Any] | None) -> bool:
    """Tell whether our kernels run a checkpoint of this configuration."""
    return config is not None and not unfit(config)


def device_kind(device: str) -> str:
    """Return ``cpu``, ``cuda`` or ``mps`` of one device or several.

    >>> device_kind("cuda:0,cuda:1")
    'cuda'
    """
    return named_devices(device)[0].partition(":")[0]


def _fits(engine: str, head: str, device: str, precision: str) -> bool:
    able = _ABLE[engine]
    fits_head = able.heads is None or head in able.heads
    return fits_head and device_kind(device) in able.devices and precision in able.precisions
