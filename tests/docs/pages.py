"""The pages of the documentation, taken apart: blocks of code, tables, links, headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
_GLOBS = ("*.md", "docs/**/*.md", "docker/*.md", "operators/windrow/**/*.md")
TRANSLATION = REPOSITORY / "README.zh-CN.md"
"""Holds the README's code once more; see `test_chinese`."""
PAGES = [page for glob in _GLOBS for page in sorted(REPOSITORY.glob(glob)) if page != TRANSLATION]
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and where it stands."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def blocks(language: str, pages: list[Path] = PAGES) -> list[Block]:
    """Return all blocks of one language."""
    return [block for page in pages for block in _blocks(page) if block.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        yield Block(page, text.count("\n", 0, found.start()) + 1, found[1], found[2])


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def section(page: Path, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    found = re.search(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found, f"{page.name} has no heading {heading!r}"
    return found[1]


def first_column(text: str) -> list[str]:
    """Return the names in code marks in the first column of the tables in a text."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """Return the targets of a page's links that are no web addresses."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target]


def commands() -> list[str]:
    """Return every ``windrow …`` in a block of shell lines or in code marks."""
    lines = [line.strip().removeprefix(".venv/bin/") for block in blocks("bash") for line in block.text.splitlines()]
    marked = [code for page in PAGES for code in re.findall(r"`(windrow [^`]+)`", prose(page))]
    return sorted({line for line in [*lines, *marked] if line.startswith("windrow ")})
