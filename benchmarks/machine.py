"""What machine a figure came from."""

from __future__ import annotations

import platform
from pathlib import Path

from windrow.engines.device import choose_device, choose_precision, granted_cores
from windrow.receipt import versions

__all__ = ["machine"]


def machine() -> dict[str, str]:
    """Return processor, cores, device, default precision and versions."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text(encoding="ascii").splitlines()
            if "model name" in line
        ]
        flags = set(info.read_text(encoding="ascii").split())
        wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in flags]
        cpu = f"{names[0] if names else cpu} ({', '.join(wide)})"
    device = choose_device("auto")
    packages = ", ".join(f"{name} {version}" for name, version in versions().items())
    return {
        "processor": cpu,
        "cores": str(granted_cores()),
        "device": device,
        "default precision": choose_precision("auto", device),
        "versions": packages,
    }
