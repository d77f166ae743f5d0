"""SHA-256 of model files, remembered by path, size and modification time: in the process, of large files beyond it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from functools import lru_cache
from pathlib import Path

from windrow.job import windrow_home

__all__ = ["file_digest", "folder_digest"]

REMEMBERED_ABOVE_BYTES = 256 << 20
_SETTLED_NS = 2_000_000_000
"""A file that was written less long ago is hashed anew: a file system may give the next write the same time."""


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex; files are hashed once a process, large ones once."""
    facts = path.stat()
    known = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
    memory = windrow_home() / "digests.json"
    remembered = _read(memory) if facts.st_size > REMEMBERED_ABOVE_BYTES else {}
    if known in remembered:
        return remembered[known]
    changed_ns = max(facts.st_mtime_ns, facts.st_ctime_ns)
    is_settled = 0 <= changed_ns < time.time_ns() - _SETTLED_NS
    digest = _hashed(path, f"{known}|{facts.st_ino}|{facts.st_ctime_ns}") if is_settled else _hash(path)
    if facts.st_size > REMEMBERED_ABOVE_BYTES:
        _write(memory, {**remembered, known: digest})
    return digest


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1024)
def _hashed(path: Path, known: str) -> str:  # noqa: ARG001 (what is remembered is that of these facts)
    return _hash(path)


def folder_digest(files: list[Path]) -> str:
    """Return one SHA-256 over the names and digests of files, whatever their order."""
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda f: f.name):
        whole.update(f"{file.name}\0{file_digest(file)}\n".encode())
    return whole.hexdigest()


def _read(memory: Path) -> dict[str, str]:
    try:
        return dict(json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write(memory: Path, digests: dict[str, str]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_suffix(f".{os.getpid()}.partial")
        partial.write_text(json.dumps(digests), encoding="utf-8")
        partial.replace(memory)
    except OSError:
        return
