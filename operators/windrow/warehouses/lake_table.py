"""One table of a lake, as the shared protocol sees it: versions, each committed only over the one it was made for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

__all__ = ["Conflict", "Head", "LakeFile", "LakeTable", "Owner"]


class Conflict(Exception):  # noqa: N818 (not a failure: read again, decide again)
    """Another commit came first; nothing of this one is in the table."""


@dataclass(frozen=True, slots=True)
class LakeFile:
    """A data file, in a table or staged for it.

    Attributes:
        path: What it is called; unlike that of any other file of the table, ever.
        partition: Value of ``windrow_partition`` in all its rows; None in the ledger.
        raw: What the lake's own library calls it.
    """

    path: str
    partition: str | None
    raw: Any = field(compare=False)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest version of a table.

    Attributes:
        version: Grows with every commit.
        schema: Columns as Arrow types, without what only says how values are laid out in memory.
        notes: What Windrow keeps with the version, JSON values; see `windrow.warehouses.lake`.
        raw: What the lake's own library calls it.
    """

    version: int
    schema: pa.Schema
    notes: Mapping[str, Any]
    raw: Any = field(compare=False)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who stages a file: the run, and the partition that it publishes."""

    partition: str
    run_id: str


class LakeTable(Protocol):
    """A table with one atomic commit; it may not exist yet."""

    name: str

    def head(self) -> Head | None:
        """Return the newest version; None if there is no table."""
        ...

    def fit(self, head: Head | None, schema: pa.Schema) -> None:
        """Create the table, or add and widen columns so that it has `schema`.

        Raises:
            Conflict: Someone else changed the table first.
        """
        ...

    def files(self, head: Head, equals: Mapping[str, Sequence[str]]) -> list[LakeFile]:
        """Return the data files that may hold rows whose columns have one of the texts given; all may do so."""
        ...

    def rows(self, head: Head, file: LakeFile, columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
        """Read columns of one file, as many at a time as fit into little memory; one that it lacks is left out."""
        ...

    def stage(self, head: Head, batches: Iterable[pa.RecordBatch], owner: Owner, partition: str) -> list[LakeFile]:
        """Write rows of one partition, aligned to the head's schema, into files that no reader sees yet."""
        ...

    def commit(self, head: Head, gone: Sequence[LakeFile], come: Sequence[LakeFile], notes: Mapping[str, Any]) -> int:
        """Make a new version from `head`, even if no file goes or comes; return its number.

        Raises:
            Conflict: `head` is not the newest version any more.
        """
        ...

    def discard(self, files: Iterable[LakeFile]) -> None:
        """Delete staged files that were not committed."""
        ...

    def purge(self) -> None:
        """Delete earlier versions and the files that only they hold."""
        ...
