"""The compiled half of engine ``native``: C, made once by the C compiler that is there, and kept.

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

__all__ = ["SOURCES", "VARIANTS", "Lack", "Variant", "build", "build_beside_source", "lacking", "library", "variant"]

SOURCES = (Path(__file__).with_name("encoder.c"), Path(__file__).with_name("avx2.h"))
_FLAGS = ("-O3", "-fno-math-errno", "-shared", "-fPIC", "-w")
_COMPILERS = ("cc", "gcc", "clang")
_LONGEST_S = 300
_FIX = "install a C compiler (`apt-get install gcc libc6-dev`, or `pip install 'windrow[native]'`), or leave engine out"


@dataclass(frozen=True, slots=True)
class Lack:
    """Why this machine cannot run the engine, and what to do."""

    reason: str
    fix: str


_PROCESSORS = Lack("its kernels are for x86-64 processors with AVX2 or AVX-512 VNNI, on Linux", "leave engine out")


@dataclass(frozen=True, slots=True)
class Variant:
    """The kernels for one kind of processor.

    Attributes:
        name: Of its instructions.
        needed: Flags of the processor, as Linux writes them.
        unneeded: A flag of processors for which it is not worth its while.
        options: Of the compiler.
        largest: The largest weight in its steps: what the processor multiplies without overflow.
        caution: A label is looked up whose lead is less than so many times what rounding moves leads by. With seven
            bits, once left 0.11 % of 7,079 sentences with another label than fp32's, twice 0.01 %, for 3 % of the rows.
    """

    name: str
    needed: tuple[str, ...]
    unneeded: str
    options: tuple[str, ...]
    largest: int
    caution: float = 1


VARIANTS = (
    Variant(
        "avx512",
        ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "fma"),
        "",
        ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mfma"),
        127,
    ),
    Variant(
        "avxvnni",
        ("avx2", "fma", "avx_vnni"),
        "avx512f",
        ("-mavx2", "-mfma", "-mavxvnni", "-DVECTOR_BITS=256"),
        127,
    ),
    Variant("avx2", ("avx2", "fma"), "avx512f", ("-mavx2", "-mfma", "-DVECTOR_BITS=256"), 63, caution=2),
)
"""The best first. AVX-512 without VNNI multiplies fp32 as fast as AVX2 multiplies bytes."""


@cache
def variant() -> Variant:
    """Return the best kernels that this processor runs.

    Raises:
        ExportError: It runs none.
    """
    flags = cpu_flags() if platform.system() == "Linux" and platform.machine() == "x86_64" else frozenset()
    for kind in VARIANTS:
        if {*kind.needed} <= flags and kind.unneeded not in flags:
            return kind
    raise ExportError(f"Engine 'native' cannot run here: {_PROCESSORS.reason}.", f"{_PROCESSORS.fix}.")


@cache
def lacking() -> Lack | None:
    """Return why this machine cannot run the engine and what to do; None if it can."""
    try:
        found = variant()
    except ExportError:
        return _PROCESSORS
    if not any(file.exists() for file in _places(found)) and not _compiler():
        return Lack("no C compiler is here to make its kernels", _FIX)
    return None


@cache
def library() -> ctypes.CDLL:
    """Return the kernels, made now if they are not yet: a matter of some seconds, once.

    Raises:
        ExportError: They do not run on this processor, or cannot be compiled, kept or loaded.
    """
    found = variant()
    file = next((place for place in _places(found) if place.exists()), None) or build(found, _places(found)[-1])
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


def build(kind: Variant, file: Path) -> Path:
    """Compile kernels into `file` and return it; of two at once, one stays.

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
                [*compiler, *_FLAGS, *kind.options, "-o", str(made), str(SOURCES[0]), "-lm"],
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
    """Compile all kernels into the package, for an image that has no compiler later; other processors need none."""
    if platform.machine() == "x86_64":
        for kind in VARIANTS:
            build(kind, _places(kind)[0])


def _places(kind: Variant) -> list[Path]:
    """Return where kernels may lie: beside the source, as in our images, or in the user's cache."""
    facts = (*(source.read_bytes() for source in SOURCES), " ".join((*_FLAGS, *kind.options)).encode())
    name = f"encoder-{kind.name}-{hashlib.sha256(b' '.join(facts)).hexdigest()[:16]}.so"
    cached = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute()
    return [SOURCES[0].with_name(name), cached / "windrow" / name]


def _compiler() -> list[str]:
    """Return the command of a C compiler: ``$CC``, the system's, or Zig's where its package is installed."""
    named = shlex.split(os.environ.get("CC", ""))
    if named and shutil.which(named[0]):
        return named
    found = next((path for path in map(shutil.which, _COMPILERS) if path), None)
    if found:
        return [found]
    return [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else []
