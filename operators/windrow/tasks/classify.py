"""Labels of a person's own choosing: by a chat model's next token, or by an NLI checkpoint; nothing is trained."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from windrow.errors import ModelError
from windrow.models.resolve import ResolvedModel
from windrow.tasks.base import Task
from windrow.tasks.classification import label_names

__all__ = ["ClassifyParameters", "classify"]


class ClassifyParameters(BaseModel):
    """Parameters of ``task: classify``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] = Field(min_length=2, description="The labels to choose from; exactly one is chosen")
    hypothesis: str = Field(
        "This text is about {}.", description="NLI checkpoints: the sentence that a label makes true; {} stands for it"
    )
    question: str = Field(
        "Which label fits the text best?", description="Chat models: what is asked, above the list of labels"
    )

    @field_validator("labels")
    @classmethod
    def _once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        names = [label.strip() for label in labels]
        if not all(names):
            raise ValueError("a label is empty")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"the label {twice!r} stands there twice")
        return tuple(names)

    @field_validator("hypothesis")
    @classmethod
    def _has_place(cls, hypothesis: str) -> str:
        if hypothesis.count("{}") != 1:
            raise ValueError("the sentence needs {} once, where the label is to stand")
        return hypothesis


def classify(model: ResolvedModel, **parameters: Any) -> Task:
    """Make the classifier that fits the model.

    Raises:
        ModelError: The model is neither a chat model nor an NLI checkpoint.
    """
    from windrow.tasks.choosing import Choosing
    from windrow.tasks.entailment import Entailment

    asked = ClassifyParameters(**parameters)
    if model.is_causal and model.outputs is None:
        return Choosing(asked.labels, asked.question)
    if model.has_head("ForSequenceClassification") or model.adapter:
        names = label_names(model, None)
        entails = next((place for place, name in enumerate(names) if name.lower().startswith("entail")), None)
        if entails is not None:
            return Entailment(model, asked.labels, asked.hypothesis, len(names), entails)
        raise ModelError(
            f"Model {model.name!r} has labels of its own ({', '.join(names[:4])}), none of them entailment.",
            "use task sentiment, which gives its own labels; or a chat model, or an NLI checkpoint.",
        )
    declared = ", ".join(model.architectures) or "no architecture"
    raise ModelError(
        f"Model {model.name!r} cannot choose among labels: it declares {declared}.",
        "use a chat model (Llama, Qwen …) or an NLI checkpoint (bart-large-mnli …).",
    )
