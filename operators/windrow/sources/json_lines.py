"""JSON Lines as record batches: an object a line; lines that are none are set aside."""

from __future__ import annotations

import io
import json as text_json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import json

from windrow.errors import SourceError
from windrow.sources.reading import BLOCK_BYTES, NOTHING, Opened, Reading, started

__all__ = ["open_json_lines"]

_LONGEST_LINE_BYTES = 64 << 20


def open_json_lines(fs: Any, name: str, columns: Sequence[str] | None, reading: Reading) -> Opened:
    """Open a JSON Lines file; types are inferred from its first block unless `reading` names them.

    Raises:
        SourceError: No line of the first block is a JSON object, or a column changes its type.
    """
    file = started(fs, name)
    if file is None:
        return NOTHING
    blocks = _blocks(file, name)
    first = next(blocks)
    types = reading.arrow_types()
    named = pa.schema(list(types.items()))
    sample = _Lines(name, Reading(reading.types), named, "infer").table(first)
    if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[") or not sample.num_rows:
        raise SourceError(f"File {name!r} is not JSON Lines.", "write one object a line, without brackets or commas.")
    full = sample.schema
    if columns is None:
        return Opened(full, iter(()))
    known = pa.schema([field for field in full if field.name in columns])
    lines = _Lines(name, reading, known, "ignore")

    def batches() -> Iterator[pa.RecordBatch]:
        yield from lines.table(first).to_batches()
        for block in blocks:
            yield from lines.table(block).to_batches()

    return Opened(full, batches())


def _blocks(file: Any, name: str) -> Iterator[bytes]:
    """Yield the file in blocks of whole lines."""
    rest = b""
    while chunk := file.read(BLOCK_BYTES):
        rest += chunk
        end = rest.rfind(b"\n") + 1
        if end:
            yield rest[:end]
            rest = rest[end:]
        elif len(rest) > _LONGEST_LINE_BYTES:
            most = _LONGEST_LINE_BYTES >> 20
            raise SourceError(f"File {name!r} has a line of more than {most} MB.", "write one object a line.")
    if rest:
        yield rest


@dataclass(slots=True)
class _Lines:
    """Parses blocks of one file.

    Attributes:
        schema: Types of the columns that are known.
        others: What becomes of other columns: ``infer`` or ``ignore``.
        done: Lines in the blocks before.
    """

    name: str
    reading: Reading
    schema: pa.Schema
    others: str
    done: int = 0

    def table(self, block: bytes) -> pa.Table:
        """Return a block's rows; only if Arrow refuses the block, each of its lines is looked at."""
        try:
            table = self._parsed(block)
        except pa.ArrowInvalid:
            whole = b"\n".join(self._whole(block))
            table = self._parsed(whole) if whole else self.schema.empty_table()
        self.done += block.count(b"\n")
        return table

    def _parsed(self, block: bytes) -> pa.Table:
        read = json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        parse = json.ParseOptions(explicit_schema=self.schema, unexpected_field_behavior=self.others)
        return json.read_json(io.BytesIO(block), read_options=read, parse_options=parse)

    def _whole(self, block: bytes) -> Iterator[bytes]:
        """Yield the lines that are rows; set the others aside."""
        for number, line in enumerate(block.split(b"\n"), self.done + 1):
            if not line.strip():
                continue
            problem = self._problem(line)
            if problem is None:
                yield line
            else:
                self.reading.set_aside(self.name, number, problem, line.decode("utf-8", "replace"))

    def _problem(self, line: bytes) -> str | None:
        """Return why a line is no row: not JSON, a lone surrogate, not an object, no text where text must be."""
        try:
            row = text_json.loads(line.decode("utf-8-sig", "replace"))
            text_json.dumps(row, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            return "it has half of a surrogate pair"
        except (ValueError, RecursionError) as error:
            return f"it is not JSON ({error})"
        if not isinstance(row, dict):
            return "it is not a JSON object"
        for field in self.schema:
            value = row.get(field.name)
            if pa.types.is_string(field.type) and not (value is None or isinstance(value, str)):
                return f"{field.name} is not text"
        return None
