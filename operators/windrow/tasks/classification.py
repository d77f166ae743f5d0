"""Sentiment and any other sequence classification: one label a text, with its probability."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from windrow.engines.base import Engine
from windrow.errors import JobError, ModelError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens, Windows
from windrow.tasks.base import Scored

__all__ = ["Classification", "ClassificationParameters", "label_names"]


class ClassificationParameters(BaseModel):
    """Parameters of ``task: sentiment``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] | None = Field(None, description="Other names for the model's labels, in its order")
    truncate: bool = Field(False, description="Read only the first window of a long text, and mark the row")


class Classification:
    """Label and probability from a sequence-classification checkpoint.

    Long texts are read in windows; their probabilities are averaged, weighted by tokens. What becomes of the
    logits is as in the text-classification pipeline of Transformers: softmax, or the sigmoid for several labels
    at once and for a single one, or nothing for a regression.
    """

    name = "sentiment"
    head = "classify"
    version = 1
    columns = pa.schema([("label", pa.string()), ("score", pa.float32())])

    def __init__(self, model: ResolvedModel, **parameters: Any) -> None:
        self.asked = ClassificationParameters(**parameters)
        if not model.adapter and not model.has_head("ForSequenceClassification"):
            declared = ", ".join(model.architectures)
            raise ModelError(
                f"Model {model.name!r} has no classification head: it is a {declared}.",
                "use a checkpoint that was trained for classification, or name an `adapter`.",
            )
        self.names = label_names(model, self.asked.labels)
        self.labels: int | None = len(self.names)
        self.problem = str(model.config.get("problem_type") or "")

    def parameters(self) -> dict[str, Any]:
        """Return label names and whether long texts are cut."""
        return {"labels": list(self.names), "truncate": self.asked.truncate}

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> Windows:
        """Cut the texts into windows of tokens."""
        return tokens.windows(texts, truncate=self.asked.truncate)

    def score(self, prepared: Windows, engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Average the windows' probabilities and take the most probable label."""
        outputs = engine.classify(prepared)
        failed = {int(prepared.rows[window]): why for window, why in outputs.failed.items()}
        if outputs.values.shape[1:] not in {(len(self.names),), (0,)}:
            raise ModelError(
                f"The model gives {outputs.values.shape[1]} scores a text, but has {len(self.names)} labels.",
                "correct id2label in its config.json, or task.labels in the job.",
            )
        probabilities = self._per_text(outputs.values, prepared)
        best = probabilities.argmax(axis=1)
        names = pa.array(self.names).take(pa.array(best))
        scores = pa.array(probabilities[np.arange(len(best)), best], type=pa.float32())
        return Scored({"label": names, "score": scores}, prepared.tokens_per_row(), prepared.truncated, failed)

    def _per_text(self, logits: npt.NDArray[np.float32], windows: Windows) -> npt.NDArray[np.float64]:
        """Return probabilities of each text, shape ``(texts, labels)``."""
        texts = len(windows.truncated)
        summed = np.zeros((texts, len(self.names)))
        if not logits.size:
            return summed
        weights = windows.lengths.astype(np.float64)
        np.add.at(summed, windows.rows, self._probabilities(logits.astype(np.float64)) * weights[:, None])
        total = np.bincount(windows.rows, weights=weights, minlength=texts)
        return np.nan_to_num(summed / np.maximum(total, 1)[:, None])

    def _probabilities(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        with np.errstate(all="ignore"):
            if self.problem == "regression":
                return logits
            if self.problem == "multi_label_classification" or len(self.names) == 1:
                return np.asarray(1 / (1 + np.exp(-logits)))
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def label_names(model: ResolvedModel, renamed: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the labels in the order of the model's outputs.

    They come from the adapter's ``labels.json``, else from ``id2label`` of the configuration; outputs that
    nobody named are called ``LABEL_0``, ``LABEL_1`` …, as in Transformers.

    Raises:
        ModelError: The model declares other than one label for each output, or one twice.
        JobError: The job renames another number of labels, or gives a name twice.
    """
    declared = _declared(model)
    count = model.outputs or len(declared) or model.config.get("num_labels") or len(renamed or ()) or 2
    if declared and len(declared) != count:
        raise ModelError(
            f"Model {model.name!r} gives {count} scores, but names {len(declared)} labels: {', '.join(declared)}.",
            "correct id2label of its config.json, or of the adapter's labels.json.",
        )
    own = declared or tuple(f"LABEL_{number}" for number in range(count))
    if renamed is not None and len(renamed) != len(own):
        raise JobError(
            f"task.labels has {len(renamed)} names, but model {model.name!r} has {len(own)} labels: {', '.join(own)}.",
            f"give {len(own)} names, in that order.",
        )
    names = renamed or own
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        if renamed:
            raise JobError(f"task.labels has {twice!r} twice.", "give each label a name of its own.")
        raise ModelError(f"Model {model.name!r} has label {twice!r} twice.", "rename the labels with task.labels.")
    return names


def _declared(model: ResolvedModel) -> tuple[str, ...]:
    """Return the labels that the adapter names, else those of the model if its head is the one in use."""
    file = model.adapter / "labels.json" if model.adapter else None
    try:
        if file and file.exists():
            return _ordered(json.loads(file.read_text(encoding="utf-8"))["id2label"])
        own = _ordered(model.config.get("id2label") or {})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ModelError(f"id2label of model {model.name!r} is no list of labels by number.", "correct it.") from None
    return () if model.adapter and len(own) != model.outputs else own


def _ordered(named: Any) -> tuple[str, ...]:
    """Return labels by number; the numbers are text in JSON and start at 0 without a gap."""
    pairs = dict(enumerate(named)) if isinstance(named, list) else {int(key): label for key, label in named.items()}
    return tuple(str(pairs[number]) for number in range(len(pairs)))
