"""An encoder as an OpenVINO file: made once from the PyTorch model, held against it, and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from windrow.engines.base import EnginePlan
from windrow.engines.first_token import shorten_last_layer
from windrow.engines.loading import load_model
from windrow.errors import ExportError
from windrow.job import windrow_home
from windrow.models.resolve import ResolvedModel

__all__ = ["Export", "exported"]

log = logging.getLogger("windrow")
_VERSION = 1
_TOLERANCE = 2e-3
_PROBES = ((3, 24), (1, 7), (5, 40))
"""Rows and tokens; from the second row on, a part of each is padding."""


@dataclass(frozen=True, slots=True)
class Export:
    """A model as OpenVINO reads it: ``input_ids`` and ``attention_mask`` in, one tensor out."""

    file: Path
    pad_id: int
    vocabulary: int


def exported(plan: EnginePlan, model: ResolvedModel) -> Export:
    """Return the export of a model, made now if there is none yet.

    It lies under ``$WINDROW_HOME/exports``, by the digests of model, head and versions, in fp32; the
    precision is chosen when it is compiled.

    Raises:
        ExportError: OpenVINO cannot take the model, or its outputs differ from PyTorch's.
        ModelError: The checkpoint does not fit, or lacks the head.
    """
    import openvino

    facts = [model.digest, plan.head, plan.labels, _VERSION, openvino.__version__, torch.__version__]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    folder = windrow_home() / "exports" / name
    if not (folder / "facts.json").exists():
        _make(folder, plan, model)
    told = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Export(folder / "model.xml", told["pad_id"], told["vocabulary"])


def _make(folder: Path, plan: EnginePlan, model: ResolvedModel) -> None:
    """Export the model, hold it against PyTorch, and keep it."""
    import openvino

    loaded = load_model(EnginePlan("torch", plan.head, "cpu", "fp32", plan.labels), model).eval()
    facts: dict[str, Any] = {
        "pad_id": int(getattr(loaded.config, "pad_token_id", None) or 0),
        "vocabulary": int(loaded.get_input_embeddings().weight.shape[0]),
        "model": model.name,
    }
    encoder = _Encoder(loaded, plan.head)
    whole = [_answer(encoder, *probe) for probe in _probes(facts["vocabulary"])]
    if plan.head == "classify":
        shorten_last_layer(loaded)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(encoder, example_input=_probes(facts["vocabulary"])[0])
        converted.reshape({0: [-1, -1], 1: [-1, -1]})
        _compare(converted, facts["vocabulary"], whole)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise ExportError(
            f"Model {model.name!r} cannot be exported to OpenVINO: {str(error).strip().splitlines()[0][:200]}",
            "set `engine: torch`, or leave engine out.",
        ) from None
    _keep(converted, facts, folder)
    log.info("Exported %s to OpenVINO, once.", model.name)


def _keep(converted: Any, facts: dict[str, Any], folder: Path) -> None:
    """Write the export under a temporary name, then rename; of two at once, one stays."""
    import openvino

    made = folder.with_name(f"making-{uuid.uuid4().hex[:12]}")
    try:
        made.mkdir(parents=True)
        openvino.save_model(converted, made / "model.xml", compress_to_fp16=False)
        (made / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        made.rename(folder)
    except (OSError, RuntimeError) as error:
        if not (folder / "facts.json").exists():
            raise ExportError(
                f"The export of model {facts['model']!r} cannot be written under {str(folder.parent)!r}: "
                f"{str(error).strip().splitlines()[0][:200]}",
                "free some space there, or set `engine: torch`.",
            ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


class _Encoder(torch.nn.Module):
    """Token ids and mask in, logits or pooled vectors out."""

    def __init__(self, model: Any, head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        made = self.model(input_ids=input_ids, attention_mask=attention_mask)
        if self.head == "classify":
            logits: torch.Tensor = made.logits
            return logits
        hidden = made.last_hidden_state * attention_mask.unsqueeze(-1).to(made.last_hidden_state.dtype)
        return torch.nn.functional.normalize(hidden.sum(dim=1), dim=-1)


def _probes(vocabulary: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return made-up inputs of several shapes, padded in part."""
    seeded = torch.Generator().manual_seed(0)
    made = []
    for rows, tokens in _PROBES:
        mask = torch.ones((rows, tokens), dtype=torch.int64)
        for row in range(1, rows):
            mask[row, tokens - 3 * row :] = 0
        made.append((torch.randint(5, max(6, vocabulary), (rows, tokens), generator=seeded), mask))
    return made


def _answer(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> Any:
    with torch.inference_mode():
        return encoder(ids, mask).float().numpy()


def _compare(converted: Any, vocabulary: int, expected: list[Any]) -> None:
    """Raise a `ValueError` if the export says something else than the model."""
    import openvino

    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for (ids, mask), wanted in zip(_probes(vocabulary), expected, strict=True):
        found = compiled([ids.numpy(), mask.numpy()])[0]
        if found.shape != wanted.shape or not np.allclose(found, wanted, atol=_TOLERANCE, rtol=_TOLERANCE):
            raise ValueError("its outputs differ from PyTorch's")
