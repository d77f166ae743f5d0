"""Entities: the spans of a text that a token-classification checkpoint names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from windrow.engines.base import Engine, Outputs
from windrow.errors import JobError, ModelError, nearest
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Spans, Tokens
from windrow.tasks.base import Scored
from windrow.tasks.classification import label_names
from windrow.tasks.spans import Aggregation, Found, Tagged, aggregated, scheme

__all__ = ["ENTITY", "Entities", "EntitiesParameters"]

OUTSIDE = "O"
ENTITY = pa.struct(
    [
        ("text", pa.string()),
        ("label", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("score", pa.float32()),
    ]
)
"""One entity: its words, its label, where it stands (in Unicode code points, the end exclusive), its probability."""


class EntitiesParameters(BaseModel):
    """Parameters of ``task: entities``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aggregation: Aggregation = Field("simple", description="How tokens become entities, as in Transformers")
    labels: tuple[str, ...] | None = Field(None, description="Keep the entities of these labels only", min_length=1)
    min_score: float = Field(0.0, ge=0, le=1, description="Leave out entities with a lower score")
    truncate: bool = Field(False, description="Read only the first window of a long text, and mark the row")


@dataclass(frozen=True, slots=True)
class _Prepared:
    texts: Sequence[str]
    spans: Spans


class Entities:
    """A list of entities a text, in their order; empty where there are none.

    Tokens become entities as in the token-classification pipeline of Transformers. Long texts are read in windows
    that share an eighth of their tokens: a shared token takes the logits of the window where it stands further from
    the edge, and entities are made from all tokens of the text, so that no window's edge tears one.
    """

    name = "entities"
    head = "tag"
    version = 1
    columns = pa.schema([("entities", pa.list_(ENTITY))])

    def __init__(self, model: ResolvedModel, **parameters: Any) -> None:
        self.asked = EntitiesParameters(**parameters)
        if not model.adapter and not model.has_head("ForTokenClassification"):
            declared = ", ".join(model.architectures)
            raise ModelError(
                f"Model {model.name!r} has no head for tokens: it is a {declared}.",
                "use a checkpoint that was trained for token classification, or name an `adapter`.",
            )
        self.names = label_names(model, None)
        self.labels: int | None = len(self.names)
        self.kinds, self.starts, self.ends = scheme(self.names)
        shown = self.names if self.asked.aggregation == "none" else self.kinds
        self.shown = tuple(dict.fromkeys(name for name in shown if name != OUTSIDE))
        for name in self.asked.labels or ():
            if name not in self.shown:
                hint = nearest(name, self.shown) or "."
                raise JobError(f"task.labels: the model has no label {name!r}{hint}", f"use {', '.join(self.shown)}.")

    def parameters(self) -> dict[str, Any]:
        """Return the model's labels, the aggregation and what is left out."""
        return {
            "names": list(self.names),
            "aggregation": self.asked.aggregation,
            "labels": sorted(self.asked.labels) if self.asked.labels else None,
            "min_score": self.asked.min_score,
            "truncate": self.asked.truncate,
        }

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> _Prepared:
        """Cut the texts into windows that overlap, and note where their tokens stand."""
        return _Prepared(texts, tokens.spans(texts, tokens.max_tokens // 8, self.asked.truncate))

    def score(self, prepared: _Prepared, engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Tag all tokens and join those of one entity."""
        windows = prepared.spans.windows
        outputs = engine.tag(windows)
        failed = {int(windows.rows[window]): why for window, why in outputs.failed.items()}
        tagged = self._tagged(prepared.spans, outputs, failed)
        found = self._kept(aggregated(tagged, self.asked.aggregation, self.kinds, self.starts, self.ends))
        entities = _lists(found, prepared.texts, self.names if self.asked.aggregation == "none" else self.kinds)
        return Scored({"entities": entities}, windows.tokens_per_row(), windows.truncated, failed)

    def _tagged(self, spans: Spans, outputs: Outputs, failed: dict[int, tuple[str, str]]) -> Tagged:
        """Return the tokens that count, in the order of the texts, with their probabilities."""
        windows, nothing = spans.windows, np.zeros((0, len(self.names)), dtype=np.float32)
        rows = np.repeat(windows.rows, windows.lengths)
        use = spans.counted & ~np.isin(rows, list(failed))
        sizes = windows.lengths.tolist()
        logits = [
            values if window not in outputs.failed else np.zeros((size, len(self.names)), dtype=np.float32)
            for window, (values, size) in enumerate(zip(outputs.values, sizes, strict=True))
        ]
        if any(values.shape[1] != len(self.names) for values in logits):
            raise ModelError(
                f"The model gives other than {len(self.names)} scores a token.", "correct id2label in its config.json."
            )
        joined = np.concatenate([nothing, *logits])[use].astype(np.float64)
        powers = np.exp(joined - joined.max(axis=1, keepdims=True, initial=-np.inf))
        shares = powers / powers.sum(axis=1, keepdims=True)
        return Tagged(rows[use], spans.starts[use], spans.ends[use], spans.words[use], shares)

    def _kept(self, found: Found) -> Found:
        """Leave out what is outside, of another label or too uncertain."""
        names = np.asarray(self.names if self.asked.aggregation == "none" else self.kinds, dtype=object)
        wanted = np.isin(names, list(self.asked.labels or self.shown))
        return found.where(wanted[found.labels] & (found.scores >= self.asked.min_score))


def _lists(found: Found, texts: Sequence[str], names: Sequence[str]) -> pa.Array:
    """Return one list of entities a text; blanks at the edges of a span are left out, and spans of blanks alone."""
    spans = zip(found.rows.tolist(), found.starts.tolist(), found.ends.tolist(), strict=True)
    wholes = [texts[row][start:end] for row, start, end in spans]
    filled = np.asarray([bool(whole.strip()) for whole in wholes], dtype=np.bool_)
    found, wholes = found.where(filled), [whole for whole in wholes if whole.strip()]
    words = [whole.strip() for whole in wholes]
    starts = found.starts + np.asarray([len(whole) - len(whole.lstrip()) for whole in wholes], dtype=np.int32)
    ends = starts + np.asarray([len(word) for word in words], dtype=np.int32)
    counts = np.bincount(found.rows, minlength=len(texts))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    parts: list[npt.ArrayLike] = [words, [names[label] for label in found.labels.tolist()], starts, ends, found.scores]
    arrays = [pa.array(part, kind.type) for part, kind in zip(parts, ENTITY, strict=True)]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(arrays, fields=list(ENTITY)))
