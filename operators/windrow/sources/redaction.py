"""Names, dates, numbers and addresses taken out of a source's texts, before anything of them is written anywhere.

By pattern, so it finds what is written as people write such things, and no more: a name without a title, or a place,
stays. It is no proof of anonymity.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
from pyarrow import compute

from windrow.errors import JobError, nearest
from windrow.job import Source

__all__ = ["PATTERNS", "Redaction"]

_MONTH = "(?:January|February|March|April|June|July|August|September|October|November|December)"
_COUNT = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|hundred|thousand|first|second|third|"
    r"fourth|fifth|sixth|seventh|eighth|ninth|tenth|\w+teenth|twelfth|eleventh|twentieth|thirtieth|O|oh|"
    r"\d{1,2}(?:st|nd|rd|th)?|\d{4}|'\d\d)\b"
)
_YEAR = r"(?:19|20)\d\d"
_SPELT_YEAR = "(?:nineteen|two thousand)(?:[ -](?:and )?" + _COUNT + "){1,3}"

PATTERNS = {
    "dates": (
        r"(?i)\b\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4}\b|\b\d{1,2}/\d{2,4}\b"
        rf"|\b(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? )?{_MONTH}(?:,? (?:of |the )*{_COUNT}(?:[ -]{_COUNT})*)*"
        rf"|\b(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? )?May,? (?:the )?{_COUNT}(?:,?[ -]{_COUNT})*"
        rf"|\b{_YEAR}\b|\b{_SPELT_YEAR}"
    ),
    "emails": r"(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "names": (
        r"\b(?:(?i:dr|mr|mrs|ms|miss|mister|missus|doctor|professor|prof|nurse))\.?[ \t]+"
        r"(?:[A-Z]\.[ \t]+)*[A-Z][\w'-]+(?:[ \t](?:[A-Z]\.|[A-Z][a-z'-]+))*"
    ),
    "phones": r"(?:\+\d{1,3}[ .-]?)?\(?\b\d{3}\)?[ .-]\d{3}[ .-]?\d{4}\b|\b\d{3}[.-]\d{4}\b",
    "numbers": r"\b\d{3}-\d{2}-\d{4}\b|\b[A-Z]{0,3}-?\d{5,}\b",
}
"""What can be named in `source.redact`, and what is replaced; in the syntax of RE2."""

_ORDER = ("emails", "numbers", "phones", "dates", "names")


class Redaction:
    """Replaces what matches in the texts of a source: ``[DATE]``, ``[NAME]`` and so on in its place.

    >>> Redaction(Source(path="x", text="t", key="k", redact=["names", "dates"])).text("Dr. Kumar, 3/14/2008")
    '[NAME], [DATE]'
    """

    def __init__(self, source: Source) -> None:
        self.columns = frozenset((*source.text, *source.keep)) - frozenset(source.key)
        self.patterns = dict(_chosen(source.redact))

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return a record batch whose columns of text are redacted; keys, numbers and dates are left."""
        if not self.patterns:
            return batch
        arrays = [
            self._array(array, name) if name in self.columns else array
            for name, array in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)

    def text(self, text: str) -> str:
        """Return one text, redacted."""
        redacted: str = self._array(pa.array([text], pa.string()), "")[0].as_py()
        return redacted

    def _array(self, array: pa.Array, name: str) -> pa.Array:
        kind = array.type
        if pa.types.is_dictionary(kind):
            values = self._array(array.dictionary, name)
            return pa.DictionaryArray.from_arrays(array.indices, values, ordered=kind.ordered)
        if pa.types.is_string_view(kind):
            return self._array(array.cast(pa.large_string()), name).cast(kind)
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise JobError(
                f"Column {name!r} has type {kind}, in which source.redact cannot look for names and dates.",
                "leave it out of source.keep, or make a text of it in the source.",
            )
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            return array
        for label, pattern in self.patterns.items():
            try:
                array = compute.replace_substring_regex(array, pattern, f"[{label}]")
            except pa.ArrowInvalid as error:
                raise JobError(
                    f"source.redact: the pattern of {label!r} is not valid: {str(error).splitlines()[0]}",
                    "write it in the syntax of RE2: no look-around, no references to groups.",
                ) from None
        return array


def _chosen(redact: tuple[str, ...] | Mapping[str, str]) -> list[tuple[str, str]]:
    """Return labels and patterns, in an order in which none takes a part of another's match.

    Raises:
        JobError: A name is not known.
    """
    if isinstance(redact, Mapping):
        return list(redact.items())
    for name in redact:
        if name not in PATTERNS:
            known = ", ".join(PATTERNS)
            raise JobError(
                f"source.redact knows no {name!r}{nearest(name, PATTERNS) or '.'}",
                f"use some of: {known}; or give patterns of your own, by label.",
            )
    return [(name.removesuffix("s").upper(), PATTERNS[name]) for name in _ORDER if name in redact]
