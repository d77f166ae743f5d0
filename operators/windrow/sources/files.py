"""Files as record batches: Parquet, CSV, JSON Lines, Arrow IPC; local or any fsspec URL; globs."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import date
from importlib.resources import files as package_files
from pathlib import PurePosixPath
from typing import Any

import fsspec
import pyarrow as pa

from windrow.errors import SourceError, nearest
from windrow.filetimes import modified_s
from windrow.job import redacted
from windrow.sources.base import require_columns
from windrow.sources.formats import FORMATS
from windrow.sources.reading import Reading
from windrow.sources.since import Since

__all__ = ["FileSource", "sample_path"]

SAMPLE_DAYS = 7
SAMPLES = ("reviews", "abstracts", "chats", "films", "headlines", "notes")
_KINDS = (OSError, EOFError, ValueError, KeyError, pa.ArrowException, zlib.error, lzma.LZMAError, csv.Error)
_FIXES = {
    "conversion error": "name the column's type, for example source.types: {stars: string}.",
    "changed from": "name the column's type, for example source.types: {stars: float64}, or write one type.",
    "Failed to convert": "name the column's type, for example source.types: {stars: float64}.",
    "straddling": "close the quote that is open there, or keep rows under 4 MB.",
}


class FileSource:
    """All files that a path or glob names, in the order of their names.

    Args:
        path: File, glob or URL; ``windrow://reviews/2026-11-23.parquet`` is a bundled sample.
        types: Arrow types of CSV columns by name, where the first lines mislead.

    Raises:
        SourceError: Nothing is there, or an ending is of no known format.
    """

    def __init__(self, path: str, types: dict[str, str] | None = None) -> None:
        self.path = sample_path(path) if path.startswith("windrow://") else path
        self.reading = Reading(types or {})
        try:
            self.fs, root = fsspec.core.url_to_fs(self.path)
            self.names = self._found(root)
        except (OSError, ImportError, ValueError) as error:
            raise SourceError(f"{redacted(path)!r} cannot be read: {error}.", "correct source.path.") from None
        self.openers = [FORMATS[self._ending(name)] for name in self.names]

    def _found(self, root: str) -> list[str]:
        if any(letter in root for letter in "*?[") and not self.fs.exists(root):
            names = sorted(name for name in self.fs.glob(root) if self.fs.isfile(name))
            if not names:
                raise SourceError(f"No file matches {redacted(self.path)!r}.", "correct the glob in source.path.")
            return names
        if self.fs.isdir(root):
            raise SourceError(f"{redacted(self.path)!r} is a folder.", f"name its files, for example {root}/*.parquet.")
        if not self.fs.exists(root):
            near = nearest(PurePosixPath(root).name, self._beside(root))
            raise SourceError(f"File {redacted(self.path)!r} does not exist{near or '.'}", "correct source.path.")
        return [root]

    def _beside(self, root: str) -> list[str]:
        folder = str(PurePosixPath(root).parent)
        return [PurePosixPath(name).name for name in self.fs.ls(folder, detail=False)] if self.fs.isdir(folder) else []

    def _ending(self, name: str) -> str:
        endings = [end.lower() for end in PurePosixPath(name).suffixes]
        if endings and endings[-1] in {".gz", ".bz2", ".xz", ".zst"}:
            endings.pop()
        ending = endings[-1] if endings else ""
        if ending not in FORMATS:
            known = " ".join(FORMATS)
            raise SourceError(f"The format of {name!r} is not known by its ending {ending!r}.", f"use one of: {known}.")
        return ending

    def schema(self) -> pa.Schema:
        """Return the columns of all files, each with a type that holds the values of every file."""
        schemas = []
        for name, opener in zip(self.names, self.openers, strict=True):
            with _Told(name):
                schemas.append(opener(self.fs, name, None, self.reading).schema)
        told = [schema for schema in schemas if schema.names]
        return told[0] if len(told) == 1 else _common(told)

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows file by file, with the types of `schema`."""
        self.reading.wanted = since.expression() if since else None
        known = self.schema()
        if known.names:
            require_columns(known, columns, redacted(self.path))
        target = pa.schema([known.field(name).remove_metadata() for name in columns if known.names])
        for name, opener in zip(self.names, self.openers, strict=True):
            with _Told(name):
                opened = opener(self.fs, name, columns, self.reading)
                if not opened.schema.names:
                    continue
                require_columns(opened.schema, columns, f"file {name!r}")
                for batch in opened.batches:
                    rows = _cast(batch.select(list(columns)), target, name)
                    yield since.kept(rows) if since else rows

    def narrow(self, since_us: int | None) -> int:
        """Leave out the files that were last written before a moment.

        Args:
            since_us: Microseconds since 1970, by the clock of the file system; None leaves out nothing.

        Returns:
            The last moment at which any file was written, those left out included.

        Raises:
            SourceError: The file system does not tell when a file was written.
        """
        with _Told(redacted(self.path)):
            times = [int(modified_s(self.fs.info(name)) * 1_000_000) for name in self.names]
        if not all(times):
            raise SourceError(
                f"{redacted(self.path)!r} does not tell when its files were written.", "name a source.watermark column."
            )
        chosen = [place for place, time in enumerate(times) if since_us is None or time >= since_us]
        self.names = [self.names[place] for place in chosen]
        self.openers = [self.openers[place] for place in chosen]
        return max(times)

    def malformed(self) -> list[str]:
        """Return the lines of text files that are no rows."""
        return self.reading.malformed


def _common(schemas: list[pa.Schema]) -> pa.Schema:
    """Return every column once, with a type that holds those of all files; the first type where there is none."""
    found: dict[str, pa.Field] = {}
    for field in (field for schema in schemas for field in schema.remove_metadata()):
        held = found.setdefault(field.name, field)
        if held.type != field.type:
            with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
                both = [pa.schema([held.remove_metadata()]), pa.schema([field.remove_metadata()])]
                found[field.name] = pa.unify_schemas(both, promote_options="permissive").field(0)
    return pa.schema(list(found.values()))


class _Told:
    """Turns a reader's complaint into a `SourceError` that names the file."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, _KINDS):
            reason = getattr(error, "strerror", None) or str(error).split("\n")[0].rstrip(".")
            fix = next((fix for words, fix in _FIXES.items() if words in reason), "replace or remove the file.")
            raise SourceError(f"File {self.name!r} cannot be read: {reason}.", fix) from None


def _cast(batch: pa.RecordBatch, target: pa.Schema, name: str) -> pa.RecordBatch:
    if batch.schema.equals(target):
        return batch
    try:
        return batch.cast(target.remove_metadata())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        first = str(error).split("\n")[0]
        raise SourceError(
            f"File {name!r} has other column types than the files before it: {first}.",
            "write all files with the same types, or name the types of a CSV in source.types.",
        ) from None


def sample_path(url: str) -> str:
    """Return the file of a bundled sample; the samples are one week that repeats every week.

    >>> sample_path("windrow://reviews/2026-11-23.parquet") == sample_path("windrow://reviews/2026-11-30.parquet")
    True
    """
    name, _, day = url.removeprefix("windrow://").partition("/")
    folder = package_files("windrow.samples") / name
    if not folder.is_dir():
        raise SourceError(f"There is no bundled sample {name!r}.", f"use one of: {', '.join(SAMPLES)}.")
    try:
        number = date.fromisoformat(PurePosixPath(day).stem[:10]).toordinal() % SAMPLE_DAYS
    except ValueError:
        return str(folder / "day-*.parquet")
    return str(folder / f"day-{number}.parquet")
