"""Image classification: one label an image, with its probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from windrow.engines.base import Engine
from windrow.errors import ModelError
from windrow.models.pictures import Pictures, Pixels
from windrow.models.resolve import ResolvedModel
from windrow.tasks.base import Scored
from windrow.tasks.classification import Classification, label_names

__all__ = ["ImageClassification", "ImageParameters"]


class ImageParameters(BaseModel):
    """Parameters of ``task: image_classify``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] | None = Field(None, description="Other names for the model's labels, in its order")


class ImageClassification(Classification):
    """Label and probability from an image-classification checkpoint, as in the pipeline of Transformers."""

    name = "image_classify"
    head = "image"
    version = 1
    columns = pa.schema([("label", pa.string()), ("score", pa.float32())])

    def __init__(self, model: ResolvedModel, **parameters: Any) -> None:
        asked = ImageParameters(**parameters)
        if not model.has_head("ForImageClassification"):
            declared = ", ".join(model.architectures)
            raise ModelError(
                f"Model {model.name!r} has no head for images: it is a {declared}.",
                "use a checkpoint that was trained for image classification.",
            )
        self.names = label_names(model, asked.labels)
        self.labels: int | None = len(self.names)
        self.problem = str(model.config.get("problem_type") or "")

    def parameters(self) -> dict[str, Any]:
        """Return label names."""
        return {"labels": list(self.names)}

    def prepare(self, texts: Sequence[bytes], tokens: Pictures) -> Pixels:  # type: ignore[override]
        """Decode the images, each given as the bytes of its file."""
        return tokens.pixels(texts)

    def score(self, prepared: Pixels, engine: Engine, tokens: Pictures) -> Scored:  # type: ignore[override]
        """Take the most probable label; what cannot be decoded is a reject, whatever the model says of it."""
        images = len(prepared.values)
        if len(prepared.failed) == images:
            columns = {field.name: pa.nulls(images, field.type) for field in self.columns}
            return Scored(columns, prepared.tokens_per_row(), prepared.truncated, prepared.failed)
        scored = super().score(prepared, engine, tokens)  # type: ignore[arg-type]
        scored.failed = scored.failed | prepared.failed
        return scored
