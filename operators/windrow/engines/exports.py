"""An encoder in another runtime's format: made once from the PyTorch model, held against it, and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from windrow.engines.base import EnginePlan
from windrow.engines.first_token import shorten_last_layer
from windrow.engines.loading import load_model
from windrow.engines.pooling import pooled_in_all_ways
from windrow.errors import ExportError
from windrow.job import windrow_home
from windrow.models.resolve import ResolvedModel

__all__ = ["Export", "Format", "exported", "far_off", "is_near", "probes"]

log = logging.getLogger("windrow")
_VERSION = 4
_TOLERANCE = 2e-3
_NEAR = 0.5
"""Eight-bit products may be off by a part of the largest output; what is off by half of it is not a rounding."""
_PROBES = ((3, 24), (1, 7), (5, 40))
"""Rows and tokens; from the second row on, a part of each is padding."""


_ANSWERS = "answers.npz"


@dataclass(frozen=True, slots=True)
class Format:
    """How one runtime keeps and runs a model.

    Attributes:
        name: As its makers write it.
        engine: The engine that reads it.
        version: Of the runtime; another one makes its own export.
        file: The file to open, in the export's folder.
        write: Writes the encoder into a folder, given an example of its inputs.
        opened: Opens the file and returns a function of ids and mask, in fp32.
    """

    name: str
    engine: str
    version: str
    file: str
    write: Callable[[Any, tuple[torch.Tensor, torch.Tensor], Path], None]
    opened: Callable[[Path], Callable[[Any, Any], Any]]


@dataclass(frozen=True, slots=True)
class Export:
    """A model in a file: ``input_ids`` and ``attention_mask`` in, one tensor out.

    Attributes:
        file: The file.
        answers: What PyTorch says of the probes, in fp32.
        pad_id: The token that fills a row.
        vocabulary: Token ids are below this.
    """

    file: Path
    answers: Path
    pad_id: int
    vocabulary: int


def exported(plan: EnginePlan, model: ResolvedModel, form: Format) -> Export:
    """Return the export of a model, made now if there is none yet.

    It lies under ``$WINDROW_HOME/exports``, by the digests of model, head and versions, in fp32; the
    precision is chosen when it is opened.

    Raises:
        ExportError: The runtime cannot take the model, or its outputs differ from PyTorch's.
        ModelError: The checkpoint does not fit, or lacks the head.
    """
    facts = [model.digest, plan.head, plan.labels, _VERSION, form.name, form.version, torch.__version__]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = windrow_home() / "exports" / name
    if not (folder / "facts.json").exists():
        _make(folder, plan, model, form)
    told = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Export(folder / form.file, folder / _ANSWERS, told["pad_id"], told["vocabulary"])


def is_near(export: Export, run: Callable[[Any, Any], Any]) -> bool:
    """Tell whether a way of running an export, in rounded numbers, gives about what PyTorch gives in fp32.

    Some kernels for eight-bit products give nonsense for some shapes on some processors, without an error.

    Args:
        export: The model.
        run: Takes ids and mask, both int64, and returns an array.
    """
    with np.load(export.answers) as kept:
        wanted = [kept[name] for name in kept.files]
    found = [run(ids, mask) for ids, mask in probes(export.vocabulary)]
    return all(
        np.isfinite(have).all() and np.abs(have - want).max() <= _NEAR * np.abs(want).max()
        for have, want in zip(found, wanted, strict=True)
    )


def probes(vocabulary: int) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return made-up token ids below `vocabulary` and their masks, padded in part, of shapes ``(rows, tokens)``."""
    seeded = torch.Generator().manual_seed(0)
    made = []
    for rows, tokens in _PROBES:
        mask = np.ones((rows, tokens), dtype=np.int64)
        for row in range(1, rows):
            mask[row, tokens - 3 * row :] = 0
        made.append((torch.randint(5, max(6, vocabulary), (rows, tokens), generator=seeded).numpy(), mask))
    return made


def far_off(model: ResolvedModel, form: Format) -> ExportError:
    """Return the error of a model whose outputs in int8 are not near those in fp32."""
    return ExportError(
        f"Model {model.name!r} gives other outputs in int8 than in fp32 with {form.name} on this processor.",
        "set `precision: bf16` or `precision: fp32`, or leave precision out.",
    )


def _make(folder: Path, plan: EnginePlan, model: ResolvedModel, form: Format) -> None:
    """Export the model, hold it against PyTorch, and keep it; of two at once, one stays."""
    loaded = load_model(EnginePlan("torch", plan.head, "cpu", "fp32", plan.labels), model).eval()
    facts: dict[str, Any] = {
        "pad_id": int(getattr(loaded.config, "pad_token_id", None) or 0),
        "vocabulary": int(loaded.get_input_embeddings().weight.shape[0]),
        "model": model.name,
    }
    encoder = _Encoder(loaded, plan.head)
    whole = [_answer(encoder, *probe) for probe in probes(facts["vocabulary"])]
    if plan.head == "classify":
        shorten_last_layer(loaded)
    made = folder.with_name(f"making-{uuid.uuid4().hex[:12]}")
    try:
        made.mkdir(parents=True)
        _write(encoder, facts, whole, made, form)
        made.rename(folder)
    except OSError as error:
        if not (folder / "facts.json").exists():
            raise ExportError(
                f"The export of model {model.name!r} cannot be written under {str(folder.parent)!r}: "
                f"{str(error).strip().splitlines()[0][:200]}",
                "free some space there, or set `engine: torch`.",
            ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    log.info("Exported %s to %s, once.", model.name, form.name)


def _write(encoder: Any, facts: dict[str, Any], whole: list[Any], folder: Path, form: Format) -> None:
    """Write the export and its facts, and hold it against the whole model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ids, mask = probes(facts["vocabulary"])[0]
            form.write(encoder, (torch.from_numpy(ids), torch.from_numpy(mask)), folder)
        _compare(form.opened(folder / form.file), facts["vocabulary"], whole)
        np.savez(folder / _ANSWERS, *whole)
    except OSError:
        raise
    except Exception as error:  # each exporter has kinds of errors of its own
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"Model {facts['model']!r} cannot be exported to {form.name}: {words[0][:200]}",
            "set `engine: torch`, or leave engine out.",
        ) from None
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


class _Encoder(torch.nn.Module):
    """Token ids and mask in, logits or vectors out; these pooled in all ways, since the task chooses later."""

    def __init__(self, model: Any, head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        made = self.model(input_ids=input_ids, attention_mask=attention_mask)
        if self.head != "embed":
            logits: torch.Tensor = made.logits
            return logits
        return pooled_in_all_ways(made.last_hidden_state, attention_mask)


def _answer(encoder: Any, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Any:
    with torch.inference_mode():
        return encoder(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()


def _compare(run: Callable[[Any, Any], Any], vocabulary: int, expected: list[Any]) -> None:
    """Raise a `ValueError` if the export says something else than the model."""
    for (ids, mask), wanted in zip(probes(vocabulary), expected, strict=True):
        found = run(ids, mask)
        if found.shape != wanted.shape or not np.allclose(found, wanted, atol=_TOLERANCE, rtol=_TOLERANCE):
            raise ValueError("its outputs differ from PyTorch's")
