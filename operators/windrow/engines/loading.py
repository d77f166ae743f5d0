"""Weights into a PyTorch model with the head that a task needs; no part of it may be newly made."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from windrow.engines.base import EnginePlan
from windrow.engines.spread import placement
from windrow.errors import ModelError
from windrow.models.resolve import ResolvedModel

__all__ = ["DTYPES", "load_model"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.float32}
_CLASSES: dict[str, Any] = {
    "classify": AutoModelForSequenceClassification,
    "pairs": AutoModelForSequenceClassification,
    "tag": AutoModelForTokenClassification,
    "embed": AutoModel,
    "image": AutoModelForImageClassification,
    "generate": AutoModelForSeq2SeqLM,
    "next": AutoModelForCausalLM,
}


def load_model(plan: EnginePlan, model: ResolvedModel) -> Any:
    """Load a checkpoint with the head of the plan, its adapter merged, in the plan's precision.

    A base is loaded in fp32, so that its adapter is merged without rounding. Where the plan names several devices,
    its layers are spread over them.

    Raises:
        ModelError: The files are broken, or a part of the model has no weights.
    """
    placed = placement(plan.device, model)
    try:
        loaded, told = _class_of(plan.head, model).from_pretrained(
            str(model.folder),
            dtype=torch.float32 if model.adapter else DTYPES[plan.precision],
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=model.adapter is not None,
            **({"num_labels": plan.labels} if plan.labels else {}),
            **placed,
        )
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelError(
            f"Model {model.name!r} cannot be loaded for {plan.head}: {reason}.",
            "check that its files are whole and that its architecture has this head.",
        ) from None
    lost = {*told["missing_keys"], *(key for key, *_ in told["mismatched_keys"])} - _brought(model)
    lost -= {f"{name}.weight" for name, part in loaded.named_modules() if "Sinusoidal" in type(part).__name__}
    if plan.head == "embed":
        lost = {key for key in lost if not key.startswith("pooler.")}
    if lost:
        shown = ", ".join(sorted(lost)[:4])
        raise ModelError(
            f"Model {model.name!r} has no weights for {shown}: it lacks the head for {plan.head}.",
            "use a checkpoint that was trained for this task, or name an `adapter` that brings the head.",
        )
    return _adapted(loaded, model).to(DTYPES[plan.precision]) if model.adapter else loaded


def _class_of(head: str, model: ResolvedModel) -> Any:
    """Return the class that loads a head; a decoder alone writes with its own."""
    return AutoModelForCausalLM if head == "generate" and not model.is_seq2seq else _CLASSES[head]


def _brought(model: ResolvedModel) -> set[str]:
    """Return the names of the weights that the adapter has as a whole, such as its head."""
    if not model.adapter:
        return set()
    with safe_open(model.adapter / "adapter_model.safetensors", framework="pt") as file:
        return {key.removeprefix("base_model.model.") for key in file.keys()}  # noqa: SIM118 (it is no dict)


def _adapted(base: Any, model: ResolvedModel) -> Any:
    """Merge a PEFT adapter into its base."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("error", message=".*missing adapter keys")
            return PeftModel.from_pretrained(base, str(model.adapter), torch_device="cpu").merge_and_unload()
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, UserWarning) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")[:300]
        raise ModelError(
            f"Adapter {str(model.adapter)!r} does not fit model {model.name!r}: {reason}.",
            "use the base it was trained on.",
        ) from None
