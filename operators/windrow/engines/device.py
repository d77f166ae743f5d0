"""What this machine offers, found without importing torch where that is possible."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from windrow.engines.devices import lane_devices, named_devices

__all__ = ["bytes_saturate", "choose_device", "choose_precision", "cpu_flags", "granted_cores", "has_tiles"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


@cache
def granted_cores() -> int:
    """Return the processor cores that this process may use: affinity and cgroup quota together."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return cores


def choose_device(wanted: str) -> str:
    """Return the device for ``auto``, or what is wanted: one, or a list of one kind.

    Raises:
        JobError: The list names no device, or several kinds.
    """
    if wanted != "auto":
        return ",".join(named_devices(wanted))
    if _has_nvidia():
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"


def choose_precision(wanted: str, device: str) -> str:
    """Return the numerics class for ``auto``: bf16 where the device computes it faster, else fp32."""
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            return "bf16"  # the device is on the machine that infer will run on
        capable = (torch.cuda.get_device_capability(name)[0] >= 8 for name in lane_devices(device))
        return "bf16" if all(capable) else "fp16"
    return "bf16" if device == "cpu" and _cpu_has_bf16() else "fp32"


def _has_nvidia() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists() or platform.system() == "Windows"


def has_tiles() -> bool:
    """Tell whether this processor multiplies whole tiles (Intel's AMX): products are then some eight times as fast."""
    return "amx_bf16" in cpu_flags()


def bytes_saturate() -> bool:
    """Tell whether products of bytes may come out wrong: x86 without VNNI adds two of them in 16 bits, and cuts off.

    Two products of eight bits by seven always fit. (oneDNN, "Nuances of int8 computations".)
    """
    flags = cpu_flags()
    return "sse2" in flags and not flags & {"avx512_vnni", "avx_vnni"}


def _cpu_has_bf16() -> bool:
    """Tell whether bf16 products are faster than fp32's.

    Intel's processors since Sapphire Rapids, told by AVX512-FP16, are fast in tiles alone; where a hypervisor hides
    these, bf16 products have 0.56 times the rate of fp32's (measured on two cores).
    """
    flags = cpu_flags()
    without_tiles = "avx512_bf16" in flags and not {"GenuineIntel", "avx512_fp16"} <= flags
    return has_tiles() or without_tiles


@cache
def cpu_flags() -> frozenset[str]:
    """Return what this processor can, in Linux's words; empty where that is not told."""
    try:
        return frozenset(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split())
    except OSError:
        return frozenset()
