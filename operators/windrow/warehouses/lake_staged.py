"""Files that are written for a table of a lake, until a commit names them or they are deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from windrow.warehouses.lake_rows import Keys, aligned
from windrow.warehouses.lake_table import Conflict, Head, LakeFile, LakeTable, Owner

__all__ = ["Staged", "clean"]


@dataclass(slots=True)
class Staged:
    """What has been written for one table and is in no version of it yet."""

    table: LakeTable
    owner: Owner
    files: list[LakeFile] = field(default_factory=list)
    schema: pa.Schema | None = None
    rewritten: dict[str, tuple[int, list[LakeFile]]] = field(default_factory=dict)
    """By path of a file that was looked at: how many of its rows go, and the files with the others."""
    is_sure: bool = True
    """False while a commit may have succeeded without telling so."""

    def commit(self, head: Head, gone: Sequence[LakeFile], come: Sequence[LakeFile], notes: Mapping[str, Any]) -> int:
        """Commit, and delete what was staged in vain."""
        self.is_sure = False
        try:
            version = self.table.commit(head, gone, come, notes)
        except Conflict:
            self.is_sure = True
            raise
        self.is_sure = True
        self.discard(but=come)
        return version

    def discard(self, but: Sequence[LakeFile] = ()) -> None:
        """Delete what is staged, but for files that are in the table."""
        staged = [*self.files, *(file for _, files in self.rewritten.values() for file in files)]
        kept = {file.path for file in but}
        self.files, self.schema, self.rewritten = [], None, {}
        self.table.discard(file for file in staged if file.path not in kept)

    def rewrite(self, head: Head, files: Sequence[LakeFile], keys: Keys) -> list[LakeFile]:
        """Return the files that hold one of the keys, having written their other rows into new files."""
        unseen = [file for file in files if file.path not in self.rewritten]
        table = self.table
        looked = (
            (number, batch)
            for number, file in enumerate(unseen)
            for batch in aligned(table.rows(head, file, keys.schema.names), keys.schema)
        )
        found = keys.found(looked)
        for number, file in enumerate(unseen):
            made: list[LakeFile] = []
            if number in found:
                kept = keys.without(aligned(table.rows(head, file, head.schema.names), head.schema), head.schema)
                made = table.stage(head, aligned(kept, head.schema), self.owner, file.partition or "")
            self.rewritten[file.path] = (found.get(number, 0), made)
        return [file for file in files if self.rewritten[file.path][0]]


def clean(staged: Iterable[Staged]) -> None:
    """Delete what a publish that ends has staged in vain, where it is sure that no version names it."""
    for part in staged:
        if part.is_sure:
            with suppress(Exception):
                part.discard()
