"""Labels by natural language inference: does the text entail "This text is about …"? (Yin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from windrow.engines.base import Engine
from windrow.errors import JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens
from windrow.tasks.base import Scored
from windrow.tasks.zero_shot import COLUMNS, Parts, labelled, parts_within, softmax

__all__ = ["Entailment"]

_LEAST_ROOM = 8


class Entailment:
    """The label whose hypothesis the text entails most.

    The entailment logits of all labels go through a softmax, as in Transformers' zero-shot pipeline with
    ``multi_label=False``: exactly one label is chosen, and the scores of all add up to one. Long texts are cut into
    parts at sentence ends, each is paired with every hypothesis, and the parts' probabilities are averaged.
    """

    name = "classify"
    version = 1
    columns = COLUMNS

    def __init__(
        self, model: ResolvedModel, choices: Sequence[str], hypothesis: str, outputs: int, entails: int
    ) -> None:
        self.choices, self.hypothesis, self.entails = tuple(choices), hypothesis, entails
        self.types = int(model.config.get("type_vocab_size") or 0) > 1
        self.head = "pairs" if self.types else "classify"
        self.labels: int | None = outputs

    def parameters(self) -> dict[str, Any]:
        """Return labels and hypothesis."""
        return {"labels": list(self.choices), "by": "entailment", "hypothesis": self.hypothesis}

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> Parts:
        """Pair each part of each text with every hypothesis.

        Raises:
            JobError: A hypothesis leaves no room for a text.
        """
        hypotheses = [self.hypothesis.replace("{}", choice) for choice in self.choices]
        room = tokens.pair_room(hypotheses)
        if room < _LEAST_ROOM:
            raise JobError(
                f"task.hypothesis with its longest label leaves no room in the model's {tokens.max_tokens} tokens.",
                "shorten them.",
            )
        types = self.types and "token_type_ids" in tokens.tokenizer.model_input_names
        parts, owners, weights = parts_within(texts, room, tokens)
        return Parts(len(texts), owners, weights, tokens.pairs(parts, hypotheses, types), {})

    def score(self, prepared: Parts, engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Compare the entailment of all labels."""
        outputs = engine.classify(prepared.windows)
        failed = {int(prepared.windows.rows[window]): why for window, why in outputs.failed.items()}
        shape = (len(prepared.owners), len(self.choices))
        logits = outputs.values[:, self.entails].reshape(shape) if outputs.values.size else np.zeros(shape)
        return labelled(self.choices, softmax(logits.astype(np.float64)), prepared, failed)
