"""README.zh-CN.md says what README.md says: the same sections, code, numbers, names, links and tables.

A failure tells the section and, under ``English`` and ``Chinese``, what only one of the two has.
"""

import re
from collections import Counter

import pytest

from docs.pages import REPOSITORY, TRANSLATION

ENGLISH = REPOSITORY / "README.md"
FENCE = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)


def sections(page):
    """Return the sections of a page in order, each with its heading's level; a comment in code begins none."""
    text = page.read_text(encoding="utf-8")
    code = FENCE.findall(text)
    parts = re.split(r"^(#+) .+$", FENCE.sub("@@", text), flags=re.MULTILINE)[1:]
    waiting = iter(code)
    return [
        (level, re.sub("@@", lambda _: next(waiting), body))
        for level, body in zip(parts[::2], parts[1::2], strict=True)
    ]


PAIRS = [*zip(sections(ENGLISH), sections(TRANSLATION), strict=False)]
NAMES = re.findall(r"^#+ (.+)$", FENCE.sub("", ENGLISH.read_text(encoding="utf-8")), re.MULTILINE)


def outside(text):
    """Return a section without its blocks of code."""
    return FENCE.sub("", text)


def numbers(text):
    shown = re.sub(r"`[^`]*`|\]\([^)]*\)", "", outside(text))
    return re.findall(r"\d+(?:[.,]\d+)*", shown)


def names(text):
    return re.findall(r"`[^`]+`", outside(text))


def links(text):
    found = re.findall(r"\]\(([^)]+)\)", outside(text))
    return [link for link in found if link[0] != "#" and not link.startswith("README")]


def rows(text):
    return [f"{line.count(' | ') + 1} columns" for line in outside(text).splitlines() if line.startswith("|")]


def points(text):
    return ["point" for line in outside(text).splitlines() if line.startswith("- ")]


FACTS = {
    "blocks of code": FENCE.findall,
    "numbers": numbers,
    "names in code marks": names,
    "links": links,
    "rows of tables": rows,
    "points of lists": points,
}


def test_both_have_the_same_sections():
    assert [level for level, _ in sections(TRANSLATION)] == [level for level, _ in sections(ENGLISH)]


@pytest.mark.parametrize("what", [*FACTS])
@pytest.mark.parametrize(("name", "pair"), [*zip(NAMES, PAIRS, strict=False)], ids=NAMES[: len(PAIRS)])
def test_a_section_holds_the_same(name, pair, what):
    english, chinese = (Counter(FACTS[what](text)) for _, text in pair)
    differs = {"English": dict(english - chinese), "Chinese": dict(chinese - english)}
    assert differs == {"English": {}, "Chinese": {}}, f"{what} under {name!r}: change README.zh-CN.md with README.md"


def test_each_leads_to_the_other():
    assert "](README.zh-CN.md)" in ENGLISH.read_text(encoding="utf-8")
    assert "](README.md)" in TRANSLATION.read_text(encoding="utf-8")
