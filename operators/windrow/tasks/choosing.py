"""Labels by a chat model: each label has a letter, and the letters' next-token scores are the classes.

One forward pass a text, and nothing is generated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from windrow.engines.base import Engine
from windrow.errors import JobError, ModelError
from windrow.models.tokens import Tokens
from windrow.tasks.base import Scored
from windrow.tasks.prompts import asked, has_template, plain, prompt_ids, rendered, within
from windrow.tasks.zero_shot import COLUMNS, Floats, Parts, labelled, parts_within, softmax

__all__ = ["Choosing"]

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LEADS = ["", " "]
"""What may stand before a letter where the answer begins; which of them the model writes depends on its tokenizer."""
_LEAST_ROOM = 8


class Choosing:
    """The label whose letter the model would most probably write next.

    A letter with and without a blank before it are different tokens in most tokenizers; their probabilities are
    added. Long texts are asked about in parts, and the parts' probabilities are averaged.
    """

    name = "classify"
    head = "next"
    version = 1
    columns = COLUMNS
    labels: int | None = None

    def __init__(self, choices: Sequence[str], question: str) -> None:
        self.choices, self.question = tuple(choices), question

    def parameters(self) -> dict[str, Any]:
        """Return labels and question."""
        return {"labels": list(self.choices), "by": "next token", "question": self.question}

    def candidates(self, tokens: Tokens) -> tuple[int, ...]:
        """Return the tokens that stand for the labels: all labels' first way of writing, then their second, if any.

        Raises:
            ModelError: No alphabet gives each label one token of its own.
        """
        return tuple(token for way in self._ways(tokens)[1] for token in way)

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> Parts:
        """Put each part of each text into the prompt.

        Raises:
            JobError: The labels leave no room for a text.
        """
        marks = self._ways(tokens)[0]
        room = tokens.max_tokens - len(prompt_ids([self._prompt("", marks, tokens)], tokens)[0])
        if room < _LEAST_ROOM:
            raise JobError(
                f"task.labels leave no room for a text in the model's {tokens.max_tokens} tokens.",
                "give fewer or shorter labels.",
            )
        parts, owners, weights = parts_within(plain(texts, tokens), room, tokens)
        conversations = [self._prompt(part, marks, tokens) for part in parts]
        prompts = within(prompt_ids(conversations, tokens), tokens.max_tokens, tokens)
        return Parts(len(texts), owners, weights, prompts.windows, prompts.failed)

    def score(self, prepared: Parts, engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Compare the scores of the letters."""
        outputs = engine.classify(prepared.windows)
        rows = prepared.windows.rows
        failed = prepared.failed | {int(rows[window]): why for window, why in outputs.failed.items()}
        probabilities = np.zeros((len(prepared.owners), len(self.choices)))
        if outputs.values.size:
            probabilities[rows] = self._probabilities(outputs.values.astype(np.float64))
        return labelled(self.choices, probabilities, prepared, failed)

    def _probabilities(self, logits: Floats) -> Floats:
        """Add up the ways to write a letter; return probabilities, shape ``(windows, labels)``."""
        return np.asarray(softmax(logits).reshape(len(logits), -1, len(self.choices)).sum(axis=1))

    def _ways(self, tokens: Tokens) -> tuple[list[str], list[tuple[int, ...]]]:
        """Return the labels' marks, and their tokens in each way that they may be written."""
        for marks in _alphabets(len(self.choices)):
            prompt = self._prompt("text", marks, tokens)
            ways = [_next_tokens(prompt, [lead + mark for mark in marks], tokens) for lead in _LEADS]
            fine = list(dict.fromkeys(way for way in ways if way and len(set(way)) == len(marks)))
            if fine:
                return marks, fine
        raise ModelError(
            f"The model's tokenizer has no single tokens to tell {len(self.choices)} labels apart.",
            f"give at most {len(_LETTERS)} labels, or use another model.",
        )

    def _prompt(self, text: str, marks: Sequence[str], tokens: Tokens) -> str:
        """Return what is asked about a text, as the model reads it."""
        kind = "number" if marks[0].isdigit() else "letter"
        listed = "\n".join(f"{mark}. {choice}" for mark, choice in zip(marks, self.choices, strict=True))
        question = f"Text:\n{text}\n\n{self.question}\n{listed}\nAnswer with its {kind} alone."
        return rendered(asked(question if has_template(tokens) else f"{question}\nAnswer:"), tokens)


def _alphabets(count: int) -> list[list[str]]:
    """Return the marks to try for so many labels."""
    letters = [list(alphabet[:count]) for alphabet in (_LETTERS, _LETTERS.lower()) if count <= len(alphabet)]
    return [*letters, [str(number) for number in range(1, count + 1)]]


def _next_tokens(prompt: str, marks: Sequence[str], tokens: Tokens) -> tuple[int, ...]:
    """Return the one token by which each mark goes on from a prompt; nothing if one takes more."""
    before, *after = prompt_ids([prompt, *(prompt + mark for mark in marks)], tokens)
    is_one = all(ids[:-1] == before for ids in after)
    return tuple(ids[-1] for ids in after) if is_one else ()
