"""Models larger than one GPU: whether they are, and where their layers go (Accelerate's ``device_map``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from windrow.engines.devices import named_devices
from windrow.errors import EngineError, JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.weights import tensor_shapes, weight_files

__all__ = ["free_bytes", "must_spread", "placement", "weight_bytes"]

FOR_WEIGHTS = 0.8
"""Share of a device's free memory that weights may take; the rest is for activations."""

_BYTES = {"bf16": 2, "fp16": 2}


def weight_bytes(model: ResolvedModel, precision: str) -> int:
    """Return the bytes of a model's weights in a precision; only the files' headers are read."""
    numbers = sum(
        math.prod(shape) for file in weight_files(model.folder, model.name) for shape in tensor_shapes(file).values()
    )
    return numbers * _BYTES.get(precision, 4)


def free_bytes(devices: Sequence[str]) -> list[int] | None:
    """Return the free memory of CUDA devices; None where another kind is meant, which is never spread over."""
    import torch

    if not devices[0].startswith("cuda"):
        return None
    try:
        return [torch.cuda.mem_get_info(device)[0] for device in devices]
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0].rstrip(".")
        raise EngineError(
            f"Devices {', '.join(devices)} cannot be used: {reason}.",
            "name only devices that `nvidia-smi` lists, or set `device: cpu`.",
        ) from None


def must_spread(size_bytes: int, free: Sequence[int] | None) -> bool:
    """Tell whether a model has to be spread over devices, since one of them cannot hold all of it.

    Args:
        size_bytes: Of the weights.
        free: Free memory of each device in bytes; None where it is not counted.

    Raises:
        EngineError: All devices together cannot hold it.

    >>> must_spread(30, [40, 40])
    False
    >>> must_spread(35, [40, 40])
    True
    """
    if free is None or len(free) < 2 or size_bytes <= FOR_WEIGHTS * min(free):
        return False
    if size_bytes > FOR_WEIGHTS * sum(free):
        raise EngineError(
            f"The model needs {size_bytes / 1e9:.1f} GB; {len(free)} devices have {sum(free) / 1e9:.1f} GB free.",
            "free the devices, add one, or use a lower precision or a smaller model.",
        )
    return True


def placement(device: str, model: ResolvedModel) -> dict[str, Any]:
    """Return what `from_pretrained` needs to spread a model over a list of devices; nothing for a single one.

    Raises:
        JobError: The model has an adapter, or Accelerate is not installed.
    """
    names = named_devices(device)
    if len(names) == 1:
        return {}
    if model.adapter:
        raise JobError(
            f"Model {model.name!r} is larger than one device, and its adapter cannot be merged over several.",
            "merge the adapter into the model beforehand, or use a larger device.",
        )
    if find_spec("accelerate") is None:
        raise JobError("A model over several devices needs Accelerate.", "pip install accelerate.")
    free = free_bytes(names)
    if free is None:
        return {"device_map": "auto"}
    room = {int(name.partition(":")[2]): int(size * FOR_WEIGHTS) for name, size in zip(names, free, strict=True)}
    return {"device_map": "auto", "max_memory": room}
