"""What turns a shard's inputs into a model's: its tokenizer, or its image processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from windrow.models.resolve import ResolvedModel

if TYPE_CHECKING:
    from windrow.tasks.base import Task

__all__ = ["open_reader"]


def open_reader(model: ResolvedModel, task: Task) -> Any:
    """Return the tokenizer (`Tokens`) of a task's model, or its image processor (`Pictures`) where it reads images.

    Raises:
        ModelError: It is missing or broken.
    """
    if task.head == "image":
        from windrow.models.pictures import Pictures

        return Pictures(model)
    from windrow.models.tokens import Tokens

    return Tokens(model, getattr(task, "source_lang", None))
