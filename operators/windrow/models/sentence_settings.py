"""What a Sentence Transformers folder tells beside the weights: pooling, normalisation, prompt, window."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windrow.errors import ModelError
from windrow.models.resolve import ResolvedModel

__all__ = ["POOLINGS", "SentenceSettings", "sentence_settings"]

POOLINGS = ("mean", "cls", "max", "lasttoken")
"""In the order in which an exported encoder gives them."""
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Pooling modes by the older configuration's flags."""


@dataclass(frozen=True, slots=True)
class SentenceSettings:
    """How a model makes a text's vector.

    Attributes:
        pooling: ``mean``, ``cls``, ``max`` or ``lasttoken``.
        normalize: Whether vectors have length one.
        prefix: The default prompt, put before each text.
        pools_prompt: Whether the prompt's tokens take part in the pooling.
        max_tokens: Most tokens of a window, if it is told.
        lower: Whether texts are put into lower case first.
    """

    pooling: str = "mean"
    normalize: bool = True
    prefix: str = ""
    pools_prompt: bool = True
    max_tokens: int | None = None
    lower: bool = False


def sentence_settings(model: ResolvedModel) -> SentenceSettings:
    """Read ``modules.json`` and the files that it names; without it, mean pooling and unit length.

    Raises:
        ModelError: A file is broken, or the model has a layer or a pooling that Windrow does not do.
    """
    modules = _read(model.folder / "modules.json", model, [])
    if not modules:
        return SentenceSettings()
    named = [module for module in modules if isinstance(module, dict)]
    kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in named}
    unknown = [kind for kind in kinds if kind not in {"Transformer", "Pooling", "Normalize"}]
    if unknown or "Pooling" not in kinds:
        raise ModelError(
            f"Model {model.name!r} makes its vectors with {', '.join(unknown) or 'no pooling'}, "
            "which is not done here.",
            "use a model of Transformer, Pooling and Normalize alone.",
        )
    pooling = _read(model.folder / kinds["Pooling"] / "config.json", model, {})
    if not pooling:
        raise ModelError(
            f"Model {model.name!r} lacks {kinds['Pooling']}/config.json, which its modules.json names.",
            "complete the folder, or download the model again.",
        )
    reading = _read(model.folder / "sentence_bert_config.json", model, {})
    told = _read(model.folder / "config_sentence_transformers.json", model, {})
    prompts = told.get("prompts")
    most = reading.get("max_seq_length")
    return SentenceSettings(
        _pooling(pooling, model),
        "Normalize" in kinds,
        str(prompts.get(told.get("default_prompt_name")) or "") if isinstance(prompts, dict) else "",
        bool(pooling.get("include_prompt", True)),
        most if isinstance(most, int) and most > 0 else None,
        bool(reading.get("do_lower_case")),
    )


def _pooling(config: dict[str, Any], model: ResolvedModel) -> str:
    flags = [mode for flag, mode in _FLAGS.items() if config.get(flag)] or ["mean"]
    told = config.get("pooling_mode", flags)
    modes = [told] if isinstance(told, str) else list(told)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelError(
            f"Model {model.name!r} pools by {' and '.join(map(str, modes))}, which is not done here.",
            f"use a model that pools by one of: {', '.join(POOLINGS)}.",
        )
    return str(modes[0])


def _read(file: Path, model: ResolvedModel, empty: Any) -> Any:
    """Return a JSON file of the type of `empty`, or `empty` where there is none."""
    if not file.exists():
        return empty
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, type(empty)):
        raise ModelError(f"{file.name} of model {model.name!r} is broken.", "download or save the model again.")
    return found
