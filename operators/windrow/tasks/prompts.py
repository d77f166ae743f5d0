"""Prompts for models that write: a chat through the tokenizer's template, or plain text; never cut.

A task that asks a chat model builds `Message` lists with `asked`, turns them into windows with `chat_windows`,
and reads what the engine generated with `answers`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from windrow.engines.base import Outputs
from windrow.errors import ModelError
from windrow.models.tokens import Tokens, Windows, ragged

__all__ = [
    "Message",
    "Prompts",
    "answers",
    "asked",
    "chat_windows",
    "has_template",
    "plain",
    "prompt_ids",
    "rendered",
    "within",
]

Message = dict[str, str]
"""``role`` (system, user or assistant) and ``content``."""

_THOUGHT_ENDS = "</think>"
_FIXED_DATE = (
    '{%- macro strftime_now(format) -%}{{ {"%Y-%m-%d": "2024-07-26"}.get(format, "26 Jul 2024") }}{%- endmacro -%}'
)
"""Put before a template that asks for today's date: equal texts must get equal prompts on every day."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Prompts as the engine takes them.

    Attributes:
        windows: Those that the model can read; `rows` is the index of the conversation.
        failed: Reason and detail of the others.
    """

    windows: Windows
    failed: dict[int, tuple[str, str]] = field(default_factory=dict)

    def of(self, owners: Sequence[int], texts: int) -> Prompts:
        """Return the same prompts as those of the texts `owners`, out of so many texts."""
        owned = np.asarray(owners, dtype=np.int32)[self.windows.rows]
        windows = replace(self.windows, rows=owned, truncated=np.zeros(texts, dtype=np.bool_))
        return Prompts(windows, {owners[row]: why for row, why in self.failed.items()})


def asked(question: str, system: str | None = None) -> list[Message]:
    """Return the conversation that asks one question."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": question}]


def chat_windows(conversations: Sequence[Sequence[Message]], tokens: Tokens, new_tokens: int) -> Prompts:
    """Turn conversations into windows of a decoder; one that does not fit is a failure, ``too_long``.

    Args:
        conversations: Each a list of messages, the last one the user's.
        tokens: The model's tokenizer.
        new_tokens: Most tokens of the answer, which share the context with the prompt.
    """
    pieces = prompt_ids([rendered(conversation, tokens) for conversation in conversations], tokens)
    return within(pieces, tokens.max_tokens - new_tokens, tokens, new_tokens)


def prompt_ids(prompts: Sequence[str], tokens: Tokens) -> list[list[int]]:
    """Return the token ids of rendered prompts, special tokens once and no end token behind them, never cut."""
    pieces = tokens.whole(prompts, special=not has_template(tokens))
    end = tokens.tokenizer.eos_token_id
    plain_ends = not has_template(tokens)
    return [ids[:-1] if plain_ends and len(ids) > 1 and ids[-1] == end else ids for ids in pieces]


def has_template(tokens: Tokens) -> bool:
    """Tell whether the model's tokenizer has a chat template."""
    return _template(tokens) is not None


def within(pieces: Sequence[list[int]], room: int, tokens: Tokens, new_tokens: int = 0) -> Prompts:
    """Keep the prompts of at most `room` tokens; the others fail as ``too_long``, with the counts."""
    rows = [row for row, ids in enumerate(pieces) if len(ids) <= room]
    answer = f" and {new_tokens} for the answer" if new_tokens else ""
    failed = {
        row: ("too_long", f"{len(ids)} tokens with its prompt{answer}; the model reads {tokens.max_tokens}")
        for row, ids in enumerate(pieces)
        if len(ids) > room
    }
    windows = ragged([pieces[row] for row in rows], rows, np.zeros(len(pieces), dtype=np.bool_))
    return Prompts(windows, failed)


def rendered(conversation: Sequence[Message], tokens: Tokens) -> str:
    """Return a conversation as the text that the model reads, up to where its answer begins.

    Without a chat template the messages stand one after another, an empty line between them. A template that
    takes no system message gets it in front of the first question; one that can think is told not to.

    Raises:
        ModelError: The chat template is broken.
    """
    template = _template(tokens)
    if template is None:
        return "\n\n".join(message["content"] for message in conversation)
    fixed = _FIXED_DATE + template if "strftime_now" in template else template
    try:
        return _applied(conversation, tokens, fixed)
    except Exception as error:  # what a template can raise is its author's choice
        if conversation[0]["role"] == "system":
            return rendered(_merged(conversation), tokens)
        raise ModelError(
            f"The model's chat template cannot be used: {str(error).strip().partition(chr(10))[0]}",
            "correct chat_template.jinja, or use another checkpoint.",
        ) from None


def plain(texts: Sequence[str], tokens: Tokens) -> list[str]:
    """Return the texts without control tokens of the model: each gets a blank after its first letter.

    So a row cannot end its turn of a chat and start another.
    """
    controls = sorted(_control_tokens(tokens), key=len, reverse=True)
    if not controls:
        return list(texts)
    pattern = re.compile("|".join(map(re.escape, controls)))
    return [pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) for text in texts]


def answers(outputs: Outputs, prompts: Prompts, tokens: Tokens) -> dict[int, str]:
    """Return what was generated for each conversation that did not fail; what a model thought first is left out."""
    decoded = tokens.decode(outputs.values)
    rows = prompts.windows.rows.tolist()
    return {
        row: text.rpartition(_THOUGHT_ENDS)[2].strip()
        for window, (row, text) in enumerate(zip(rows, decoded, strict=True))
        if window not in outputs.failed
    }


def _applied(conversation: Sequence[Message], tokens: Tokens, template: str) -> str:
    text: str = tokens.tokenizer.apply_chat_template(
        list(conversation),
        chat_template=template,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
        date_string="26 Jul 2024",
    )
    return text


def _merged(conversation: Sequence[Message]) -> list[Message]:
    """Return the conversation with its system message in front of the first question."""
    system, first, *rest = conversation
    return [{"role": "user", "content": f"{system['content']}\n\n{first['content']}"}, *rest]


def _template(tokens: Tokens) -> str | None:
    """Return the chat template of the tokenizer, if it has one."""
    if not tokens.tokenizer.chat_template:
        return None
    template: Any = tokens.tokenizer.get_chat_template()
    return str(template)


def _control_tokens(tokens: Tokens) -> list[str]:
    """Return the special tokens, and the added ones that the chat template writes."""
    template = _template(tokens) or ""
    added = tokens.backend.get_added_tokens_decoder().values()
    return [one.content for one in added if len(one.content) > 1 and (one.special or one.content in template)]
