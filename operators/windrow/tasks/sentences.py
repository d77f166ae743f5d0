"""Texts into sentences, none of them too long to be read at once; and words, in any script."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["LONGEST_WORDS", "count_words", "first_words", "sentences"]

LONGEST_WORDS = 80
_LONGEST_LETTERS = 2000
_BLOCK_LETTERS = 8000
_NO_BLANKS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_NO_BLANKS}]|[^\\s{_NO_BLANKS}]+")
_ENDS = ".!?\u061f\u2026", "\u3002\uff01\uff1f\u0964"
_END = re.compile(f"[{_ENDS[0]}][\"'\u201d\u2019)\\]]*\\s|[{_ENDS[1]}]|\\n\\s*\\n")
"""Where a sentence may end: western and Arabic marks before a blank, Asian ones anywhere, an empty line."""


def sentences(text: str) -> list[str]:
    """Split a text into sentences, in their order; line breaks and runs of blanks become one blank.

    What runs on without an end is cut every `LONGEST_WORDS` words, so that it can still be chosen.

    >>> sentences("It broke. Dr. Smith sent it back!")
    ['It broke.', 'Dr. Smith sent it back!']
    """
    from sentencex import segment

    found = (" ".join(part.split()) for block in _blocks(text) for part in segment("en", block))
    return [piece for part in found if part for piece in _pieces(part)]


def count_words(text: str) -> int:
    """Count words; in scripts that put no blanks between words, each letter counts as one.

    >>> count_words("It broke twice."), count_words("很好看。")
    (3, 4)
    """
    return sum(1 for _ in _WORD.finditer(text))


def first_words(text: str, count: int) -> str:
    """Return the beginning of a text up to so many words.

    >>> first_words("It broke twice.", 2)
    'It broke'
    """
    end = 0
    for number, word in enumerate(_WORD.finditer(text)):
        if number == count:
            return text[:end]
        end = word.end()
    return text


def _blocks(text: str) -> Iterator[str]:
    """Cut a very long text at sentence ends, since the splitter's time can grow with the square of the length."""
    start = 0
    while len(text) - start > _BLOCK_LETTERS:
        block = text[start : start + _BLOCK_LETTERS]
        ends = [end.end() for end in _END.finditer(block)]
        stop = ends[-1] if ends else block.rfind(" ") + 1 or _BLOCK_LETTERS
        yield block[:stop]
        start += stop
    yield text[start:]


def _pieces(sentence: str) -> list[str]:
    words = sentence.split(" ")
    if len(words) <= LONGEST_WORDS and len(sentence) <= _LONGEST_LETTERS:
        return [sentence]
    chunks = [" ".join(words[i : i + LONGEST_WORDS]) for i in range(0, len(words), LONGEST_WORDS)]
    return [chunk[i : i + _LONGEST_LETTERS] for chunk in chunks for i in range(0, len(chunk), _LONGEST_LETTERS)]
