"""SHA-256 of model files, remembered by path, size and modification time."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from windrow.job import windrow_home

__all__ = ["file_digest", "folder_digest"]

REMEMBERED_ABOVE_BYTES = 256 << 20


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex; large files are hashed once and remembered."""
    facts = path.stat()
    known = f"{path.resolve()}|{facts.st_size}|{facts.st_mtime_ns}"
    memory = windrow_home() / "digests.json"
    remembered = _read(memory) if facts.st_size > REMEMBERED_ABOVE_BYTES else {}
    if known in remembered:
        return remembered[known]
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if facts.st_size > REMEMBERED_ABOVE_BYTES:
        _write(memory, {**remembered, known: digest})
    return digest


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
