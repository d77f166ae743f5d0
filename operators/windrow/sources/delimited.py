"""CSV and TSV as record batches; lines with too few or too many fields are set aside."""

from __future__ import annotations

import csv as text_csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from windrow.errors import SourceError
from windrow.sources.reading import BLOCK_BYTES, NOTHING, Opened, Reading, started

__all__ = ["open_delimited"]

_NULLS = ["", "NULL", "null", "NaN", "nan", "N/A", "NA", "#N/A"]
_LONGEST_FIELD = 1 << 30
_END = "windrow-end-of-file"


def open_delimited(fs: Any, name: str, columns: Sequence[str] | None, reading: Reading) -> Opened:
    """Open a CSV or TSV file; types are inferred from its first block unless `reading` names them.

    Raises:
        SourceError: The header is not UTF-8, or a quoted value is never closed.
    """
    from pyarrow import csv

    def ragged(row: csv.InvalidRow) -> str:
        if columns is not None:
            problem = f"{row.actual_columns} fields, expected {row.expected_columns}"
            reading.set_aside(name, row.number, problem, row.text)
        return "skip"

    delimiter = "\t" if ".tsv" in PurePosixPath(name).name.lower() else ","
    header = _header(fs, name, delimiter)
    file = started(fs, name)
    if file is None:
        return NOTHING
    counted = _Quotes(file)
    reader = csv.open_csv(
        counted,
        read_options=csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=ragged),
        convert_options=csv.ConvertOptions(
            check_utf8=False,
            include_columns=[column for column in header if columns is None or column in columns],
            column_types={c: t for c, t in reading.arrow_types().items() if c in header},
            null_values=_NULLS,
            strings_can_be_null=False,
        ),
    )
    missing = [pa.field(column, pa.null()) for column in header if column not in reader.schema.names]

    def batches() -> Iterator[pa.RecordBatch]:
        yield from reader
        if counted.is_odd:
            _check_closed(fs, name, delimiter)

    return Opened(pa.schema([*reader.schema, *missing]), batches())


def _header(fs: Any, name: str, delimiter: str) -> list[str]:
    """Return the column names of a CSV file, from its first line."""
    with fs.open(name, "rb", compression="infer") as raw:
        first = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")
        header = next(text_csv.reader(first, delimiter=delimiter), [])
    try:
        "".join(header).encode("utf-8")
    except UnicodeEncodeError:
        raise SourceError(f"The header of file {name!r} is not UTF-8.", "convert the file to UTF-8.") from None
    return header


class _Quotes(io.RawIOBase):
    """A file that counts the quotes in what is read of it: an odd number may mean one that is never closed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.is_odd = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self.is_odd ^= bool(data.count(b'"') % 2)
        return data


def _check_closed(fs: Any, name: str, delimiter: str) -> None:
    """Refuse a file whose last quoted value runs to its end: it would swallow all rows after the quote.

    Raises:
        SourceError: With the line on which that value's row starts.
    """
    limit = text_csv.field_size_limit(_LONGEST_FIELD)
    try:
        with fs.open(name, "rb", compression="infer") as raw:
            lines = io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="")
            reader = text_csv.reader(chain(lines, ["\n", _END]), delimiter=delimiter)
            start, line, last = 1, 0, [_END]
            for row in reader:
                start, line, last = line + 1, reader.line_num, row
    finally:
        text_csv.field_size_limit(limit)
    if last != [_END]:
        raise SourceError(
            f"File {name!r} has a quote that is never closed, in the row that starts at line {start}.",
            'close it, or double a quote that is part of the text ("").',
        )
