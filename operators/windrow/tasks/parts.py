"""What tasks share that have a seq2seq model write: long texts in parts, what was read, and why a text failed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from windrow.engines.base import Decoding, Engine
from windrow.errors import JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens, Windows
from windrow.tasks.sentences import sentences

__all__ = [
    "Tally",
    "Written",
    "cut_into_parts",
    "parts_of",
    "read_generation_config",
    "room_for",
    "write_parts",
    "written_by",
]

_SPECIAL_TOKENS = 4
_LEAST_ROOM = 8
_EMPTY = ("empty_output", "the model wrote nothing")


@dataclass(slots=True)
class Tally:
    """What became of the texts of a shard.

    Attributes:
        read: Tokens that the model read of each text, shape ``(texts,)``.
        cut: Whether a text lost tokens, shape ``(texts,)``.
        failed: Reason code and detail by text.
    """

    read: npt.NDArray[np.int32]
    cut: npt.NDArray[np.bool_]
    failed: dict[int, tuple[str, str]]

    @classmethod
    def of(cls, texts: int) -> Self:
        """Return the tally of so many texts before anything is read."""
        return cls(np.zeros(texts, dtype=np.int32), np.zeros(texts, dtype=np.bool_), {})


def room_for(prefix: str, tokens: Tokens) -> int:
    """Return how many tokens of a text the model can read behind a prefix.

    Raises:
        JobError: The prefix leaves no room for a text.
    """
    room = tokens.max_tokens - _SPECIAL_TOKENS - int(tokens.count([prefix])[0])
    if room < _LEAST_ROOM:
        raise JobError(f"task.prefix leaves no room in the model's {tokens.max_tokens} tokens.", "shorten it.")
    return room


def cut_into_parts(texts: Sequence[str], tokens: Tokens, room: int) -> list[list[str]]:
    """Return each text as it is where it fits, else its parts of at most `room` tokens."""
    sizes = tokens.count(texts).tolist()
    return [[text] if size <= room else parts_of(text, room, tokens) for text, size in zip(texts, sizes, strict=True)]


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote of some parts.

    Attributes:
        windows: What it read; rows are parts.
        texts: What it wrote of each part.
        failed: Reason code and detail by part.
        cut: Parts of which it would have written more.
    """

    windows: Windows
    texts: list[str]
    failed: dict[int, tuple[str, str]]
    cut: tuple[int, ...] = ()


def written_by(
    engine: Engine, tokens: Tokens, parts: list[str], prefix: str, decoding: Decoding, longest: int | None = None
) -> Written:
    """Have a seq2seq model write about each part.

    Args:
        prefix: Put before each part.
        longest: Most tokens that the model writes of a part; one that reaches it is cut.
    """
    windows = tokens.windows(parts, truncate=True, prefix=prefix)
    outputs = engine.generate(windows, decoding)
    padding = tokens.tokenizer.pad_token_id
    sizes = [int((np.asarray(written[1:]) != padding).sum()) for written in outputs.values] if longest else []
    cut = tuple(part for part, size in enumerate(sizes) if longest and size >= longest)
    return Written(windows, tokens.decode(outputs.values), outputs.failed, cut)


def write_parts(open_: Mapping[int, list[str]], write: Callable[[list[str]], Written], tally: Tally) -> dict[int, str]:
    """Have a model write about all parts once; return what it wrote, joined with blanks, of texts that did not fail.

    Args:
        open_: Parts by text.
        write: Has the model write.
        tally: Receives tokens read (of the first call), cuts and failures.
    """
    owners = np.asarray([text for text, parts in open_.items() for _ in parts], dtype=np.intp)
    made = write([part for parts in open_.values() for part in parts])
    if not tally.read[owners].any():  # of later rounds, only the model's own words are read
        np.add.at(tally.read, owners, made.windows.tokens_per_row())
    tally.cut[owners[made.windows.truncated]] = True
    tally.cut[owners[list(made.cut)]] = True
    tally.failed.update({int(owners[part]): why for part, why in made.failed.items()})
    written: dict[int, list[str]] = {text: [] for text in open_ if text not in tally.failed}
    for owner, words in zip(owners.tolist(), made.texts, strict=True):
        if owner in written:
            written[owner].extend(words.replace("<n>", " ").split())
    tally.failed.update({text: _EMPTY for text, words in written.items() if not words})
    return {text: " ".join(words) for text, words in written.items() if words}


def read_generation_config(model: ResolvedModel) -> dict[str, Any]:
    """Return the checkpoint's ``generation_config.json``; nothing if it has none."""
    try:
        found = json.loads((model.folder / "generation_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def parts_of(text: str, room: int, tokens: Tokens) -> list[str]:
    """Cut a text at sentence ends into parts of at most `room` tokens, as even as they come.

    A sentence that does not fit is halved until its pieces do.
    """
    pieces = list(_fitting(sentences(text), room, tokens))
    sizes = tokens.count(pieces).tolist()
    even = math.ceil(sum(sizes) / max(1, math.ceil(sum(sizes) / room)))
    parts: list[list[str]] = [[]]
    filled = 0
    for piece, size in zip(pieces, sizes, strict=True):
        if parts[-1] and (filled + size > room or filled >= even):
            parts.append([])
            filled = 0
        parts[-1].append(piece)
        filled += size
    return [" ".join(part) for part in parts]


def _fitting(pieces: list[str], room: int, tokens: Tokens) -> Iterable[str]:
    """Yield pieces of text, halved until each fits."""
    for piece, size in zip(pieces, tokens.count(pieces).tolist(), strict=True):
        if size <= room or len(piece) < 2:
            yield piece
            continue
        middle = piece.rfind(" ", 1, len(piece) // 2 + 1)
        middle = middle if middle > 0 else len(piece) // 2
        yield from _fitting([piece[:middle].strip(), piece[middle:].strip()], room, tokens)
