"""What every reader of a file is told and reports back, and the opening of text files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyarrow import compute

from windrow.errors import SourceError, nearest

__all__ = ["BLOCK_BYTES", "NOTHING", "Opened", "Opener", "Reading", "started"]

BLOCK_BYTES = 4 << 20
"""Bytes of a text file that are parsed at once; column types are inferred from the first block."""

MALFORMED_MOST = 100_000
MALFORMED_SHOWN = 200


@dataclass(slots=True)
class Reading:
    """What a reader is told, and what it reports back.

    Attributes:
        types: Arrow types by column name.
        malformed: Lines that were no rows.
        wanted: A reader may leave out rows that do not meet it.
    """

    types: dict[str, str] = field(default_factory=dict)
    malformed: list[str] = field(default_factory=list)
    wanted: compute.Expression | None = None

    def arrow_types(self) -> dict[str, pa.DataType]:
        """Return `types` as Arrow types.

        Raises:
            SourceError: A type's name is not Arrow's.
        """
        found = {}
        for name, alias in self.types.items():
            try:
                found[name] = pa.type_for_alias(alias)
            except ValueError:
                known = ["string", "int64", "float64", "bool", "date32", "timestamp[us]", "binary"]
                hint = nearest(alias, known) or "."
                raise SourceError(
                    f"source.types: {alias!r} is no type{hint}", f"use one of: {', '.join(known)}."
                ) from None
        return found

    def set_aside(self, name: str, line: int | None, problem: str, text: str) -> None:
        """Note a line that is no row, shortened.

        Raises:
            SourceError: There are too many of them for the file to be of its format.
        """
        if len(self.malformed) >= MALFORMED_MOST:
            raise SourceError(
                f"File {name!r} has more than {MALFORMED_MOST:,} malformed lines: {problem}.",
                "check its format and its delimiter.",
            )
        shown = text if len(text) <= MALFORMED_SHOWN else text[:MALFORMED_SHOWN] + "…"
        self.malformed.append(f"{name}{f' line {line}' if line else ''}: {problem}: {shown}")


@dataclass(frozen=True, slots=True)
class Opened:
    """An open file: its columns, and its rows as record batches."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


NOTHING = Opened(pa.schema([]), iter(()))
Opener = Callable[[Any, str, Sequence[str] | None, Reading], Opened]
"""Takes file system, path, columns (None: only the schema is wanted, nothing is set aside) and `Reading`."""


def started(fs: Any, name: str) -> Any:
    """Open a text file for reading, or return None if it holds nothing."""
    file = fs.open(name, "rb", compression="infer")
    if not file.read(65536).strip():
        file.close()
        return None
    file.seek(0)
    return file
