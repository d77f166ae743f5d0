"""Exports an encoder from PyTorch into another runtime's format, and holds it against PyTorch."""

from __future__ import annotations

import json
import logging
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from windrow.engines.base import EnginePlan
from windrow.engines.exports import ANSWERS, FACTS, Format, Ids
from windrow.engines.first_token import shorten_last_layer
from windrow.engines.loading import load_model
from windrow.engines.pooling import pooled_in_all_ways
from windrow.errors import ExportError
from windrow.models.resolve import ResolvedModel

__all__ = ["export", "probes"]

log = logging.getLogger("windrow")
_TOLERANCE = 2e-3
_PROBES = ((3, 24), (1, 7), (5, 40))
"""Rows and tokens; from the second row on, a part of each is padding."""


def export(folder: Path, plan: EnginePlan, model: ResolvedModel, form: Format) -> None:
    """Export a model into a folder, held against PyTorch; of two that do so at once, one stays.

    Raises:
        ExportError: The runtime cannot take the model, its outputs differ from PyTorch's, or the disk is full.
        ModelError: The checkpoint does not fit, or lacks the head.
    """
    loaded = load_model(EnginePlan("torch", plan.head, "cpu", "fp32", plan.labels), model).eval()
    facts: dict[str, Any] = {
        "pad_id": int(getattr(loaded.config, "pad_token_id", None) or 0),
        "vocabulary": int(loaded.get_input_embeddings().weight.shape[0]),
        "model": model.name,
    }
    encoder = _Encoder(loaded, plan.head)
    tried = probes(facts["vocabulary"])
    answers = [_answer(encoder, *probe) for probe in tried]
    if plan.head == "classify":
        shorten_last_layer(loaded)
    made = folder.with_name(f"making-{uuid.uuid4().hex[:12]}")
    try:
        made.mkdir(parents=True)
        _write(encoder, facts, tried, answers, made, form)
        made.rename(folder)
    except OSError as error:
        if not (folder / FACTS).exists():
            raise ExportError(
                f"The export of model {model.name!r} cannot be written under {str(folder.parent)!r}: "
                f"{str(error).strip().splitlines()[0][:200]}",
                "free some space there, or set `engine: torch`.",
            ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    log.info("Exported %s to %s, once.", model.name, form.name)


def probes(vocabulary: int) -> list[tuple[Ids, Ids]]:
    """Return made-up token ids below `vocabulary` and their masks, padded in part, of shapes ``(rows, tokens)``."""
    seeded = torch.Generator().manual_seed(0)
    made = []
    for rows, tokens in _PROBES:
        mask = np.ones((rows, tokens), dtype=np.int64)
        for row in range(1, rows):
            mask[row, tokens - 3 * row :] = 0
        made.append((torch.randint(5, max(6, vocabulary), (rows, tokens), generator=seeded).numpy(), mask))
    return made


def _write(
    encoder: Any, facts: dict[str, Any], tried: list[tuple[Ids, Ids]], answers: list[Any], folder: Path, form: Format
) -> None:
    """Write the export and its facts, and hold it against the whole model."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ids, mask = tried[0]
            form.write(encoder, (torch.from_numpy(ids), torch.from_numpy(mask)), folder)
        if form.opened:
            _compare(form.opened(folder / form.file), tried, answers)
        kept: dict[str, Any] = {
            f"{name}{place}": array
            for place, ((ids, mask), values) in enumerate(zip(tried, answers, strict=True))
            for name, array in (("ids", ids), ("mask", mask), ("values", values))
        }
        np.savez(folder / ANSWERS, **kept)
    except OSError:
        raise
    except Exception as error:  # each exporter has kinds of errors of its own
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise ExportError(
            f"Model {facts['model']!r} cannot be exported to {form.name}: {words[0][:200]}",
            "set `engine: torch`, or leave engine out.",
        ) from None
    sizes = {file.name: file.stat().st_size for file in folder.iterdir()}
    (folder / FACTS).write_text(json.dumps({**facts, "sizes": sizes}), encoding="utf-8")


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


def _answer(encoder: Any, ids: Ids, mask: Ids) -> Any:
    with torch.inference_mode():
        return encoder(torch.from_numpy(ids), torch.from_numpy(mask)).float().numpy()


def _compare(run: Callable[[Any, Any], Any], tried: list[tuple[Ids, Ids]], expected: list[Any]) -> None:
    """Raise a `ValueError` if the export says something else than the model."""
    for (ids, mask), wanted in zip(tried, expected, strict=True):
        found = run(ids, mask)
        if found.shape != wanted.shape or not np.allclose(found, wanted, atol=_TOLERANCE, rtol=_TOLERANCE):
            raise ValueError("its outputs differ from PyTorch's")
