"""A device that is gone: no row is to blame, and nothing more can be run on it by this process."""

from __future__ import annotations

from windrow.engines.halving import is_out_of_memory

__all__ = ["is_device_lost"]

_WORDS = (
    "all cuda-capable devices are busy or unavailable",
    "cuda_error_device",
    "device-side assert",
    "driver",
    "ecc error",
    "gpu is lost",
    "illegal instruction",
    "illegal memory access",
    "invalid device ordinal",
    "launch failure",
    "launch timed out",
    "misaligned address",
    "no cuda-capable device",
    "no longer available",
    "nvlink",
    "system not yet initialized",
)
"""From the texts of CUDA's runtime errors after which a context is of no more use."""


def is_device_lost(error: BaseException) -> bool:
    """Tell whether an error means that the device is gone, or no longer usable by this process.

    >>> is_device_lost(RuntimeError("CUDA error: unspecified launch failure"))
    True
    >>> is_device_lost(RuntimeError("CUDA error: out of memory"))
    False
    """
    words = str(error).lower()
    known = isinstance(error, RuntimeError) and any(part in words for part in _WORDS)
    return known and not is_out_of_memory(error)
