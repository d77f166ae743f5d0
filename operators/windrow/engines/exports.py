"""An encoder in another runtime's format: made once from the PyTorch model, and read without PyTorch from then on."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from windrow.engines.base import EnginePlan
from windrow.errors import ExportError
from windrow.job import windrow_home
from windrow.models.resolve import ResolvedModel

__all__ = ["ANSWERS", "FACTS", "Export", "Format", "Ids", "exported", "far_off", "is_exported", "is_near", "near"]

ANSWERS, FACTS = "answers.npz", "facts.json"
"""Files of an export beside its model: what PyTorch says of the probes; padding, vocabulary and sizes of files."""
log = logging.getLogger("windrow")
_VERSION = 5
_BROKEN = (OSError, EOFError, ValueError, KeyError, BadZipFile)
"""What reading a file raises that is gone, or cut short."""
_NEAR = 0.5
"""Eight-bit products may be off by a part of the largest output; what is off by half of it is not a rounding."""

Ids = npt.NDArray[np.int64]
"""Token ids or a mask, shape ``(rows, tokens)``."""


@dataclass(frozen=True, slots=True)
class Format:
    """How one runtime keeps and runs a model.

    Attributes:
        name: As its makers write it.
        engine: The engine that reads it.
        version: Of the runtime; another one makes its own export.
        file: The file to open, in the export's folder.
        write: Writes the encoder into a folder, given an example of its inputs as tensors.
        opened: Opens the file and returns a function of ids and mask, in fp32; None where it is in rounded numbers.
    """

    name: str
    engine: str
    version: str
    file: str
    write: Callable[[Any, tuple[Any, Any], Path], None]
    opened: Callable[[Path], Callable[[Any, Any], Any]] | None


@dataclass(frozen=True, slots=True)
class Export:
    """A model in a file: ``input_ids`` and ``attention_mask`` in, one tensor out.

    Attributes:
        file: The file.
        pad_id: The token that fills a row.
        vocabulary: Token ids are below this.
        probes: Made-up ids and their masks.
        answers: What PyTorch says of each probe, in fp32.
    """

    file: Path
    pad_id: int
    vocabulary: int
    probes: list[tuple[Ids, Ids]]
    answers: list[npt.NDArray[np.float32]]


def exported(plan: EnginePlan, model: ResolvedModel, form: Format) -> Export:
    """Return the export of a model, made now if there is none yet.

    It lies under ``$WINDROW_HOME/exports``, by the digests of model, head and versions, in fp32; the
    precision is chosen when it is opened. Only making it imports PyTorch.

    Raises:
        ExportError: The runtime cannot take the model, or its outputs differ from PyTorch's.
        ModelError: The checkpoint does not fit, or lacks the head.
    """
    folder = _folder(plan, model, form)
    if folder.exists():
        try:
            return _read(folder, form)
        except _BROKEN as error:  # cut short, as by a loss of power
            log.warning("The export of %s in %s is broken (%s); it is made anew.", model.name, folder, error)
            shutil.rmtree(folder, ignore_errors=True)
    from windrow.engines.exporting import export

    export(folder, plan, model, form)
    try:
        return _read(folder, form)
    except _BROKEN as error:
        raise ExportError(
            f"The export of model {model.name!r} in {str(folder)!r} cannot be read: {error}",
            "remove that folder, or set `engine: torch`.",
        ) from None


def is_exported(plan: EnginePlan, model: ResolvedModel, form: Format) -> bool:
    """Tell whether a model has been exported on this machine."""
    return (_folder(plan, model, form) / FACTS).exists()


def is_near(export: Export, run: Callable[[Any, Any], Any]) -> bool:
    """Tell whether a way of running an export, in rounded numbers, gives about what PyTorch gives in fp32.

    Some kernels for eight-bit products give nonsense for some shapes on some processors, without an error.

    Args:
        export: The model.
        run: Takes ids and mask, both int64, and returns an array.
    """
    return all(near(run(*probe), told) for probe, told in zip(export.probes, export.answers, strict=True))


def near(found: npt.NDArray[np.float32], told: npt.NDArray[np.float32]) -> bool:
    """Tell whether outputs in rounded numbers are about those in fp32."""
    return bool(np.isfinite(found).all() and np.abs(found - told).max() <= _NEAR * np.abs(told).max())


def far_off(model: ResolvedModel, form: Format) -> ExportError:
    """Return the error of a model whose outputs in int8 are not near those in fp32."""
    return ExportError(
        f"Model {model.name!r} gives other outputs in int8 than in fp32 with {form.name} on this processor.",
        "set `precision: bf16` or `precision: fp32`, or leave precision out.",
    )


def _folder(plan: EnginePlan, model: ResolvedModel, form: Format) -> Path:
    facts = [model.digest, plan.head, plan.labels, _VERSION, form.name, form.version, metadata.version("torch")]
    return windrow_home() / "exports" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _read(folder: Path, form: Format) -> Export:
    """Read an export.

    Raises:
        ValueError: A file is not as it was written; or another of `_BROKEN`.
    """
    told = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    for name, size in told["sizes"].items():
        if (found := (folder / name).stat().st_size) != size:
            raise ValueError(f"{name} has {found} bytes of {size}")
    with np.load(folder / ANSWERS) as kept:
        probes = list(zip(*(_numbered(kept, name) for name in ("ids", "mask")), strict=True))
        return Export(folder / form.file, told["pad_id"], told["vocabulary"], probes, _numbered(kept, "values"))


def _numbered(kept: Any, name: str) -> list[Any]:
    """Return the arrays ``name0``, ``name1`` … of a file."""
    return [kept[f"{name}{place}"] for place in range(sum(key.startswith(name) for key in kept.files))]
