"""The compiled half of engine ``native``: one C file, made once by the C compiler that is there, and kept.

No wheel carries it, so that Windrow stays pure Python. Where there is no compiler, or the processor lacks the
instructions, the engine is not offered and others run in its place.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from windrow.engines.device import cpu_flags
from windrow.errors import ExportError

__all__ = ["Lack", "build", "build_beside_source", "library", "lacking"]

SOURCE = Path(__file__).with_name("encoder.c")
NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "fma")
_FLAGS = (
    "-O3", "-fno-math-errno", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma",
    "-shared", "-fPIC", "-w",
)  # fmt: skip
_COMPILERS = ("cc", "gcc", "clang")
_LONGEST_S = 300
_FIX = "install a C compiler (`apt-get install gcc libc6-dev`, or `pip install 'windrow[native]'`), or leave engine out"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why this machine cannot run the engine, and what to do."""

    reason: str
    fix: str


@cache
def lacking() -> Lack | None:
    """Return why this machine cannot run the engine and what to do; None if it can."""
    missing = [flag for flag in NEEDED if flag not in cpu_flags()]
    if platform.system() != "Linux" or platform.machine() != "x86_64" or missing:
        return Lack("its kernels are for x86-64 processors with AVX-512 VNNI, on Linux", "leave engine out")
    if not any(file.exists() for file in _places()) and not _compiler():
        return Lack("no C compiler is here to make its kernels", _FIX)
    return None


@cache
def library() -> ctypes.CDLL:
    """Return the kernels, made now if they are not yet: a matter of some seconds, once.

    Raises:
        ExportError: They cannot be compiled, kept or loaded.
    """
    file = next((place for place in _places() if place.exists()), None) or build(_places()[-1])
    try:
        loaded = ctypes.CDLL(str(file))
    except OSError as error:
        raise ExportError(
            f"The kernels of engine 'native' cannot be loaded: {error}",
            f"delete {str(file)!r}, see that its folder allows programs to run, or set `engine: openvino`.",
        ) from None
    loaded.windrow_scratch.restype = ctypes.c_size_t
    loaded.windrow_encode.restype = None
    return loaded


def build(file: Path) -> Path:
    """Compile the kernels into `file` and return it; of two at once, one stays.

    Raises:
        ExportError: There is no compiler, it fails, or the file cannot be written.
    """
    compiler = _compiler()
    if not compiler:
        raise ExportError("No C compiler is here to make the kernels of engine 'native'.", f"{_FIX}.")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=file.parent, prefix="making-") as folder:
            made = Path(folder) / file.name
            told = subprocess.run(
                [*compiler, *_FLAGS, "-o", str(made), str(SOURCE), "-lm"],
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
                check=False,
                env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder},
            )
            if told.returncode or not made.exists():
                words = (told.stderr.strip() or told.stdout.strip() or f"exit status {told.returncode}").splitlines()
                raise ExportError(
                    f"{compiler[0]!r} cannot compile the kernels of engine 'native': {words[0][:200]}", f"{_FIX}."
                )
            made.replace(file)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(
            f"The kernels of engine 'native' cannot be made under {str(file.parent)!r}: {error}",
            "free some space there, name another folder by $XDG_CACHE_HOME, or set `engine: openvino`.",
        ) from None
    return file


def build_beside_source() -> None:
    """Compile the kernels into the package, for an image that has no compiler later; other processors need none."""
    if platform.machine() == "x86_64":
        build(_places()[0])


def _places() -> list[Path]:
    """Return where the kernels may lie: beside the source, as in our images, or in the user's cache."""
    facts = (SOURCE.read_bytes(), " ".join(_FLAGS).encode())
    name = f"encoder-{hashlib.sha256(b' '.join(facts)).hexdigest()[:16]}.so"
    cached = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()
    return [SOURCE.with_name(name), cached / "windrow" / name]


def _compiler() -> list[str]:
    """Return the command of a C compiler: ``$CC``, the system's, or Zig's where its package is installed."""
    named = shlex.split(os.environ.get("CC", ""))
    if named and shutil.which(named[0]):
        return named
    found = next((path for path in map(shutil.which, _COMPILERS) if path), None)
    if found:
        return [found]
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else []
