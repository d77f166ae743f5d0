"""SQL names taken apart."""

from __future__ import annotations

import re

from windrow.errors import JobError

__all__ = ["split_name"]

_PART = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".]+))\s*')


def split_name(text: str) -> list[str]:
    """Split ``schema.table``, each part perhaps quoted.

    Raises:
        JobError: It is no such name.
    """
    parts: list[str] = []
    at = 0
    while found := _PART.match(text, at):
        parts.append(found[1].replace('""', '"') if found[1] else found[2].strip())
        at = found.end()
        if at == len(text) or text[at] != ".":
            break
        at += 1
    if at != len(text) or not 1 <= len(parts) <= 2 or not all(parts) or "\0" in text:
        raise JobError(
            f"warehouse.table {text!r} is no table name.",
            "write table or schema.table; quote odd names: 'schema.\"odd.name\"'.",
        )
    return parts
