"""Summaries: extractive with an encoder, abstractive with a seq2seq checkpoint or a chat model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from windrow.errors import JobError, ModelError
from windrow.models.resolve import ResolvedModel
from windrow.tasks.base import Task

__all__ = ["SummariseParameters", "summarise"]


class SummariseParameters(BaseModel):
    """Parameters of ``task: summarise``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["auto", "extractive", "abstractive"] = Field("auto", description="auto: by the model")
    max_words: int | None = Field(None, ge=3, description="Most words of a summary (extractive: 60 unless told)")
    prefix: str | None = Field(None, description="Put before each text; T5's comes from its configuration")
    num_beams: int | None = Field(None, ge=1, description="Beams of the search; unless told, the checkpoint's")
    redundancy: float = Field(0.7, ge=0, le=1, description="Extractive: weight of being central against being new")


def summarise(model: ResolvedModel, **parameters: Any) -> Task:
    """Make the summariser that fits the model.

    Raises:
        ModelError: An abstractive summary is asked of a model that cannot write.
    """
    from windrow.tasks.abstractive import Abstractive
    from windrow.tasks.extractive import Extractive

    asked = SummariseParameters(**parameters)
    writes = model.is_seq2seq or model.is_causal
    style = asked.style if asked.style != "auto" else "abstractive" if writes else "extractive"
    if style == "abstractive" and model.is_causal:
        return _by_chat(asked)
    if style == "extractive" and not writes:
        return Extractive(asked.max_words or 60, asked.redundancy)
    if style == "abstractive" and model.is_seq2seq:
        return Abstractive(model, asked.max_words, asked.prefix, asked.num_beams)
    able = "a seq2seq checkpoint (BART, T5, Pegasus …) or a chat model"
    able = "an encoder (BERT, MiniLM …)" if style == "extractive" else able
    raise ModelError(f"Model {model.name!r} cannot make {style} summaries.", f"use {able}, or leave out task.style.")


def _by_chat(asked: SummariseParameters) -> Task:
    from windrow.tasks.chat_summary import ChatSummary

    for name in ("prefix", "num_beams"):
        if getattr(asked, name) is not None:
            raise JobError(
                f"task.{name} is for seq2seq checkpoints; a chat model has none.",
                "leave it out, or write a prompt of your own with task generate.",
            )
    return ChatSummary(asked.max_words)
