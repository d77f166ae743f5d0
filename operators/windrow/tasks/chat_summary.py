"""Summaries by a chat model: asked for in a prompt; long texts over parts, then over the parts' summaries."""

from __future__ import annotations

import math
from typing import Any

from windrow.engines.base import Decoding, Engine
from windrow.errors import JobError
from windrow.models.tokens import Tokens
from windrow.tasks.abstractive import Abstractive
from windrow.tasks.parts import Written
from windrow.tasks.prompts import Prompts, answers, asked, chat_windows, plain, prompt_ids, rendered

__all__ = ["ChatSummary"]

_TOKENS_PER_WORD = 2
_DEFAULT_TOKENS = 256
_LEAST_ROOM = 32
_MARGIN = 8


class ChatSummary(Abstractive):
    """A summary that a chat model writes, greedily; it is cut to `max_words` at a sentence end."""

    def __init__(self, max_words: int | None) -> None:
        self.max_words = max_words
        length = f"at most {max_words} words" if max_words else "a few sentences"
        self.question = f"Summarise the text below in {length}. Answer with the summary alone.\n\n"
        self.new_tokens = math.ceil(max_words * _TOKENS_PER_WORD) if max_words else _DEFAULT_TOKENS
        self.decoding = Decoding(self.new_tokens, {"do_sample": False})

    def parameters(self) -> dict[str, Any]:
        """Return question and lengths."""
        return {
            "style": "chat",
            "question": self.question,
            "max_words": self.max_words,
            "max_new_tokens": self.new_tokens,
        }

    def _room(self, tokens: Tokens) -> int:
        around = len(prompt_ids([rendered(asked(self.question), tokens)], tokens)[0])
        room = tokens.max_tokens - self.new_tokens - around - _MARGIN
        if room < _LEAST_ROOM:
            raise JobError(
                f"A summary of {self.new_tokens} tokens leaves no room for a text in the model's {tokens.max_tokens}.",
                "lower task.max_words, or use a model with a longer context.",
            )
        return room

    def _written(self, parts: list[str], engine: Engine, tokens: Tokens) -> Written:
        prompts: Prompts = chat_windows(
            [asked(self.question + part) for part in plain(parts, tokens)], tokens, self.new_tokens
        )
        outputs = engine.generate(prompts.windows, self.decoding)
        written = answers(outputs, prompts, tokens)
        rows = prompts.windows.rows
        failed = prompts.failed | {int(rows[window]): why for window, why in outputs.failed.items()}
        return Written(prompts.windows, [written.get(part, "") for part in range(len(parts))], failed)
