"""Images of a source: read by path or URL, hashed by their bytes, and spooled until they become shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa

from windrow.errors import JobError, SourceError
from windrow.job import Job

__all__ = ["SHARD_BYTES", "SHARD_IMAGES", "Spool", "check_images"]

SHARD_IMAGES = 256
SHARD_BYTES = 64 << 20
PIECE_ROWS = 32
"""Rows whose images are in memory at once."""
_READERS = 8

Read = tuple[bytes | None, str | None, str | None]
"""Bytes, or why there are none: reason code and detail."""


class Spool:
    """The distinct images of a run, in a scratch file.

    Args:
        folder: Scratch folder; the file goes with it.
        job: Tells where relative paths start, and how large an image may be.

    Raises:
        JobError: The job names several columns.
    """

    def __init__(self, folder: Path, job: Job) -> None:
        if len(job.source.text) != 1:
            raise JobError("source.text names several columns, but the task takes one column of images.", "name one.")
        self.root = Path(job.folder or ".")
        self.most = job.limits.max_image_bytes
        self.file = (folder / "images").open("w+b")
        self.places: dict[bytes, tuple[int, int]] = {}
        self.end = 0

    def close(self) -> None:
        """Let the file go."""
        self.file.close()

    def taken(self, column: pa.Array) -> tuple[pa.Array, pa.Array, pa.Array]:
        """Take the images of a column in; return hash in hex, reason and detail of each row.

        Args:
            column: Bytes, paths or URLs, or structs with fields ``bytes`` and ``path`` as in Hugging Face datasets.
        """
        rows: list[tuple[str | None, str | None, str | None]] = []
        with ThreadPoolExecutor(_READERS, thread_name_prefix="windrow-images") as pool:
            for start in range(0, len(column), PIECE_ROWS):
                for data, reason, detail in pool.map(self._read, column.slice(start, PIECE_ROWS).to_pylist()):
                    rows.append((self._kept(data) if data is not None else None, reason, detail))
        hashes, reasons, details = zip(*rows, strict=True) if rows else ((), (), ())
        return pa.array(hashes, pa.string()), pa.array(reasons, pa.string()), pa.array(details, pa.string())

    def tables(self, hashes: Sequence[bytes]) -> Iterator[pa.Table]:
        """Yield the images of some hashes as tables of a shard each, in their order."""
        start = size = 0
        for stop, key in enumerate(hashes, start=1):
            size += self.places[key][1]
            if stop == len(hashes) or stop - start >= SHARD_IMAGES or size >= SHARD_BYTES:
                keys = hashes[start:stop]
                images = pa.array([self._image(key) for key in keys], pa.large_binary())
                yield pa.table({"windrow_hash": pa.array(keys, pa.binary()), "windrow_text": images})
                start, size = stop, 0

    def _image(self, key: bytes) -> bytes:
        place, size = self.places[key]
        self.file.seek(place)
        return self.file.read(size)

    def _kept(self, data: bytes) -> str:
        """Write an image unless it is there; return its hash in hex."""
        key = hashlib.sha256(data).digest()[:16]
        if key not in self.places:
            self.file.seek(self.end)
            self.file.write(data)
            self.places[key] = (self.end, len(data))
            self.end += len(data)
        return key.hex()

    def _read(self, value: Any) -> Read:
        """Return the bytes of one value."""
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if value is None:
            return None, "null_text", "the image is null"
        try:
            data = value if isinstance(value, bytes) else self._fetched(value)
        except Exception as error:  # what file systems can raise is open-ended
            words = getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
            return None, *_unreadable(f"{value}: {words}")
        if len(data) > self.most:
            return None, *_too_large(self.most)
        return (data, None, None) if data else (None, "empty_text", "the image has no bytes")

    def _fetched(self, path: str) -> bytes:
        """Read a file, no further than needed to know that it is too large."""
        import fsspec

        if not path.strip():
            raise ValueError("the path is empty")
        place = path if "://" in path else str(self.root / path)
        with fsspec.open(place, "rb") as file:
            data: bytes = file.read(self.most + 1)
            return data


def _unreadable(detail: str) -> tuple[str, str]:
    return "unreadable", f"it cannot be read: {detail[:300]}"


def _too_large(most: int) -> tuple[str, str]:
    return "too_large", f"more than {most} bytes; limits.max_image_bytes is {most}"


def check_images(column: pa.Array, name: str) -> pa.Array:
    """Return a column of images.

    Raises:
        SourceError: It holds neither bytes nor paths.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    raw = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    pair = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not (text or raw or pair or pa.types.is_null(kind)):
        raise SourceError(
            f"Column {name!r} has type {kind}: neither the bytes of images nor paths.",
            "name a column of bytes, paths or URLs in source.text.",
        )
    return column
