"""The files of a model's folder: which count, whether they are whole, and what their headers tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from windrow.errors import ModelError

__all__ = ["adapter_files", "head_outputs", "read_config", "tensor_shapes", "tokenizer_files", "weight_files"]

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
)
_BESIDE = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "preprocessor_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
_HEADS = ("classifier", "classifier.out_proj", "classification_head.out_proj", "score", "logits_proj")
_ADAPTED = "base_model.model."


def weight_files(folder: Path, name: str) -> list[Path]:
    """Return the files that Transformers loads: ``model.safetensors``, or the shards of its index.

    Raises:
        ModelError: One is missing or broken, or the weights are not in safetensors.
    """
    if (folder / _WEIGHTS).exists():
        found = [folder / _WEIGHTS]
    elif (folder / _INDEX).exists():
        found = [folder / file for file in sorted(set(_index(folder, name).values()))]
    else:
        raise _no_weights(folder, name)
    lost = [file.name for file in found if not file.exists()]
    if lost:
        raise ModelError(
            f"Model {name!r} lacks {', '.join(lost)}.", "complete the folder, or download the model again."
        )
    for file in found:
        tensor_shapes(file)
    return found


def tokenizer_files(folder: Path, name: str) -> list[Path]:
    """Return the files of the tokenizer, or of the image processor, and of decoding.

    Raises:
        ModelError: There is neither.
    """
    if not any((folder / file).exists() for file in (*_TOKENIZERS, "preprocessor_config.json")):
        raise ModelError(
            f"Model {name!r} lacks its tokenizer (tokenizer.json).", "save the tokenizer into the same folder."
        )
    return [folder / file for file in (*_TOKENIZERS, *_BESIDE) if (folder / file).exists()]


def adapter_files(adapter: Path) -> list[Path]:
    """Return the files of a PEFT adapter and, if there are any, its labels.

    Raises:
        ModelError: One is missing or broken.
    """
    files = [adapter / "adapter_config.json", adapter / "adapter_model.safetensors"]
    lost = [file.name for file in files if not file.exists()]
    if lost:
        raise ModelError(
            f"Adapter {str(adapter)!r} lacks {', '.join(lost)}.", "name a folder that PEFT's save_pretrained wrote."
        )
    tensor_shapes(files[1])
    return [*files, *(file for file in [adapter / "labels.json"] if file.exists())]


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return ``config.json``.

    Raises:
        ModelError: It is missing or broken, or the folder holds an adapter instead of a model.
    """
    if (folder / "adapter_config.json").exists():
        base = _read(folder / "adapter_config.json", name).get("base_model_name_or_path") or "its base"
        raise ModelError(f"Model {name!r} is an adapter over {base}.", f"set model: {base} and adapter: {name}.")
    if not (folder / "config.json").exists():
        raise ModelError(f"Model {name!r} lacks config.json.", "complete the folder, or download the model again.")
    return _read(folder / "config.json", name)


def head_outputs(weights: list[Path], adapter: Path | None) -> int | None:
    """Return how many scores the classification head gives: the adapter's, else the model's; None if none is found."""
    if adapter:
        found = _outputs(tensor_shapes(adapter / "adapter_model.safetensors"), _ADAPTED)
        if found:
            return found
    sizes = (_outputs(tensor_shapes(file), "") for file in weights)
    return next((size for size in sizes if size), None)


def _outputs(shapes: dict[str, list[int]], prefix: str) -> int | None:
    heads = (shapes.get(f"{prefix}{head}.weight") for head in _HEADS)
    return next((shape[0] for shape in heads if shape and len(shape) == 2), None)


def tensor_shapes(file: Path) -> dict[str, list[int]]:
    """Return the shape of each tensor; only the header is read.

    Raises:
        ModelError: The file is cut short or is no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as opened:
            return {key: opened.get_slice(key).get_shape() for key in opened.keys()}  # noqa: SIM118 (it is no dict)
    except (SafetensorError, OSError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelError(f"Weights {str(file)!r} are broken: {reason}.", "download or save the model again.") from None


def _index(folder: Path, name: str) -> dict[str, str]:
    shards = _read(folder / _INDEX, name).get("weight_map")
    if not isinstance(shards, dict) or not all(
        isinstance(file, str) and Path(file).name == file for file in shards.values()
    ):
        raise ModelError(f"{_INDEX} of model {name!r} names no weights.", "download or save the model again.")
    return shards


def _read(file: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(
            f"{file.name} of model {name!r} is not a valid JSON object.", "download or save the model again."
        )
    return found


def _no_weights(folder: Path, name: str) -> ModelError:
    others = sorted(file.name for file in folder.iterdir() if file.suffix in (*_PICKLED, ".safetensors"))
    what = f"has no {_WEIGHTS}" + (f" (only {', '.join(others)})" if others else "")
    return ModelError(
        f"Model {name!r} {what}.",
        "convert it with save_pretrained, which writes safetensors; pickled weights can run code.",
    )
