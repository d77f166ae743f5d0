"""Free text or JSON from a prompt and each text: by a chat model, a plain decoder or a seq2seq checkpoint."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from windrow.engines.base import Decoding, Engine
from windrow.errors import JobError, ModelError, nearest
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens
from windrow.tasks.base import Scored
from windrow.tasks.prompts import Message, Prompts, answers, asked, chat_windows, plain, within
from windrow.tasks.structured import InvalidAnswerError, Shape

__all__ = ["Generate", "GenerateParameters", "check_writes"]

_EMPTY = ("empty_output", "the model wrote nothing")
_DETAIL_LETTERS = 300
_ASK_FOR_JSON = "Answer with JSON alone, valid under this JSON schema:\n"
_ASK_AGAIN = "That is not valid: {wrong}. Answer again with the corrected JSON alone."


class GenerateParameters(BaseModel):
    """Parameters of ``task: generate``."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    prompt: str = Field(description="What to ask of each text; {text} stands for it, {{ and }} for braces")
    system: str | None = Field(None, description="System message of the chat")
    max_new_tokens: int = Field(256, ge=1, description="Most tokens of an answer")
    shape: dict[str, Any] | str | None = Field(
        None, alias="schema", description="JSON schema of the answers, or a JSON file that holds it"
    )
    retries: int = Field(1, ge=0, le=10, description="With schema: times an invalid answer is asked again")

    @field_validator("shape", mode="before")
    @classmethod
    def _of_class(cls, value: Any) -> Any:
        return value.model_json_schema() if hasattr(value, "model_json_schema") else value

    @field_validator("prompt")
    @classmethod
    def _has_text(cls, prompt: str) -> str:
        names = placeholders(prompt)
        for name in names:
            if name != "text":
                hint = nearest(name, ["text"]) or "; only {text} is known"
                raise ValueError(f"the prompt has a placeholder {{{name}}}{hint} (write {{{{ and }}}} for braces)")
        if not names:
            raise ValueError("the prompt lacks {text}, where the text is to stand")
        return prompt


@dataclass(slots=True)
class _Round:
    """Conversations of one round of asking, by index of the text."""

    open: dict[int, list[Message]]
    prompts: Prompts


class Generate:
    """One answer a text, greedily decoded: equal texts have equal answers.

    An answer that did not end within `max_new_tokens` is marked as truncated.

    Raises:
        ModelError: The model does not write.
        JobError: The schema is broken.
    """

    name = "generate"
    head = "generate"
    version = 1
    columns = pa.schema([("output", pa.string())])
    labels: int | None = None

    def __init__(self, model: ResolvedModel, **parameters: Any) -> None:
        self.asked = GenerateParameters(**parameters)
        check_writes(model)
        self.is_chat = not model.is_seq2seq
        self.shape = Shape(self.asked.shape) if self.asked.shape is not None else None
        self.decoding = Decoding(self.asked.max_new_tokens, {"do_sample": False})

    def parameters(self) -> dict[str, Any]:
        """Return prompt, lengths and schema."""
        schema = self.shape.schema if self.shape else None
        return {**self.asked.model_dump(exclude={"shape"}), "schema": schema}

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> _Round:
        """Put each text into the prompt.

        Raises:
            JobError: The answer leaves no room for a prompt.
        """
        if self.is_chat and self.asked.max_new_tokens >= tokens.max_tokens:
            raise JobError(
                f"task.max_new_tokens ({self.asked.max_new_tokens}) leaves no room in the model's {tokens.max_tokens} "
                "tokens.",
                "lower it.",
            )
        tail = f"\n\n{_ASK_FOR_JSON}{self.shape.text()}" if self.shape else ""
        questions = (filled(self.asked.prompt, text) + tail for text in plain(texts, tokens))
        return self._round({row: asked(question, self.asked.system) for row, question in enumerate(questions)}, tokens)

    def score(self, prepared: _Round, engine: Engine, tokens: Tokens) -> Scored:
        """Generate, and ask again what is not valid under the schema."""
        texts = len(prepared.open)
        found: dict[int, str] = {}
        failed: dict[int, tuple[str, str]] = {}
        read, cut = np.zeros(texts, dtype=np.int32), np.zeros(texts, dtype=np.bool_)
        now = prepared
        for turn in range(self.asked.retries + 1):
            outputs = engine.generate(now.prompts.windows, self.decoding)
            rows = now.prompts.windows.rows
            np.add.at(read, rows, now.prompts.windows.lengths.astype(np.int32))
            cut[rows] = [self._is_cut(ids, tokens) for ids in outputs.values]
            if turn == 0:  # a second question that does not fit leaves the first answer's fault standing
                failed |= now.prompts.failed
            failed |= {int(rows[window]): why for window, why in outputs.failed.items()}
            wrong = self._sorted(answers(outputs, now.prompts, tokens), found, failed)
            if not wrong or turn == self.asked.retries:
                break
            now = self._round({row: self._again(now.open[row], *what) for row, what in wrong.items()}, tokens, texts)
        values = pa.array([found.get(row, "") for row in range(texts)], pa.string())
        return Scored({"output": values}, read, cut & ~np.isin(np.arange(texts), list(failed)), failed)

    def _sorted(
        self, written: dict[int, str], found: dict[int, str], failed: dict[int, tuple[str, str]]
    ) -> dict[int, tuple[str, str]]:
        """Put answers into `found` or `failed`; return what was written for the invalid ones, and what is wrong."""
        wrong: dict[int, tuple[str, str]] = {}
        for row, answer in written.items():
            failed.pop(row, None)
            if not answer:
                failed[row] = _EMPTY
                continue
            try:
                found[row] = self.shape.read(answer) if self.shape else answer
            except InvalidAnswerError as fault:
                failed[row] = ("invalid_answer", f"{fault}; the model wrote: {answer[:_DETAIL_LETTERS]}")
                wrong[row] = (answer, str(fault))
        return wrong

    def _round(self, open_: dict[int, list[Message]], tokens: Tokens, texts: int | None = None) -> _Round:
        """Tokenise conversations; the windows' rows are the texts' indices."""
        conversations = list(open_.values())
        if self.is_chat:
            made = chat_windows(conversations, tokens, self.asked.max_new_tokens)
        else:
            whole = ["\n\n".join(message["content"] for message in conversation) for conversation in conversations]
            made = within(tokens.whole(whole, special=True), tokens.max_tokens, tokens)
        return _Round(open_, made.of(list(open_), len(open_) if texts is None else texts))

    def _again(self, conversation: list[Message], answer: str, wrong: str) -> list[Message]:
        told = {"role": "user", "content": _ASK_AGAIN.format(wrong=wrong)}
        return [*conversation, {"role": "assistant", "content": answer}, told]

    def _is_cut(self, ids: Any, tokens: Tokens) -> bool:
        """Tell whether an answer filled all its room without an end."""
        return len(ids) >= self.asked.max_new_tokens and int(ids[-1]) not in tokens.tokenizer.all_special_ids


def check_writes(model: ResolvedModel) -> None:
    """Raise a `ModelError` if a model does not write."""
    if not model.is_seq2seq and not model.is_causal:
        declared = ", ".join(model.architectures) or "no architecture"
        raise ModelError(
            f"Model {model.name!r} does not write: it declares {declared}.",
            "use a chat model (Llama, Qwen …) or a seq2seq checkpoint (T5, BART …).",
        )


def placeholders(prompt: str) -> list[str]:
    """Return the names in braces of a prompt, in their order.

    Raises:
        ValueError: A brace is open or single.

    >>> placeholders("Is {text} {{good}}?")
    ['text']
    """
    try:
        parts = list(string.Formatter().parse(prompt))
    except ValueError as error:
        raise ValueError(f"the prompt has a brace too many or too few ({error}); write {{{{ and }}}}") from None
    marks = ((name, f"!{turn}" if turn else "", f":{how}" if how else "") for _, name, how, turn in parts)
    return ["".join((name, turn, how)) for name, turn, how in marks if name is not None]


def filled(prompt: str, text: str) -> str:
    """Return the prompt with the text in it; braces in the text are left alone.

    >>> filled("Q: {text} {{x}}", "{y}")
    'Q: {y} {x}'
    """
    return "".join(before + (text if name == "text" else "") for before, name, _, _ in string.Formatter().parse(prompt))
