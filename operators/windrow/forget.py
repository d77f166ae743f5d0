"""Removing a person: the rows of some keys from table, rejects, run folders and predictions, with a receipt."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from windrow.duck import execute, literal, quoted
from windrow.errors import JobError
from windrow.job import Job
from windrow.receipt import utc_now
from windrow.sampling import samples_file
from windrow.schema import HASH
from windrow.store import Store, new_run_id
from windrow.warehouses import Warehouse, open_warehouse

__all__ = ["forget", "given_keys"]

_FILES = ("rows", "rejects", "gone")
"""Files of a run that hold keys."""


def forget(job: Job, keys: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Remove all that is held of some keys: table, rejects, run folders, and predictions of their texts.

    The store comes first, so that no run of this job brings back from it what has left the table. A run that holds one
    of the keys and is not published has to begin again from load. A prediction belongs to a text, not to a key: where
    others have the same text, it is scored again for them. What the source still holds comes back with the next run.

    Args:
        keys: For each person or row one text for each key column, compared as text.

    Returns:
        The receipt, also written to ``forgotten/`` in the store. It has counts and no key: ``rows`` of the table,
        ``rejects``, ``runs`` (unpublished ones that were dropped), ``run_files`` and ``prediction_files`` (written
        anew), ``predictions``, and ``unknown_texts``: rows whose run is no longer in the store, so that nobody can
        tell the predictions of their texts; ``windrow store --prune-older-than`` removes those by age.

    Raises:
        JobError: No key is given, or one has another number of parts.
        StoreError, WarehouseError: Something cannot be written; do it again.
    """
    columns = job.source.key
    if not keys or any(len(key) != len(columns) for key in keys):
        raise JobError(f"Each key has {len(columns)} parts: {', '.join(columns)}.", "give one value for each of them.")
    asked = pa.table({name: pa.array([key[n] for key in keys], pa.string()) for n, name in enumerate(columns)})
    store = Store(job.store_url)
    with open_warehouse(job) as warehouse:
        made_by = _runs_of(warehouse, columns, keys)
        with store.scratch() as folder, store.connect(folder) as con:
            cleaner = _Cleaner(store, con, folder, asked)
            files = [name for name, _, _ in store.listed(f"runs/{job.name}")]
            known = {name.split("/")[-2] for name in files if name.endswith("/rows.parquet")}
            for run in sorted({name.rpartition("/")[0] for name in files}):
                cleaner.clean_run(run)
            cleaner.clean_predictions()
        rows = warehouse.forget(asked)
    receipt = {
        "job": job.name, "table": job.warehouse.table, "keys": len(keys), "rows": rows.get("table", 0),
        "rejects": rows.get("rejects", 0), **cleaner.counts,
        "unknown_texts": sum(run_id not in known for run_id in made_by), "forgotten_at": utc_now().isoformat(),
    }  # fmt: skip
    store.write_json(f"forgotten/{new_run_id()}.json", receipt)
    return receipt


def _runs_of(warehouse: Warehouse, columns: Sequence[str], keys: Sequence[Sequence[str]]) -> list[str]:
    """Return the run that published each row of some keys."""
    asked = [{name: [text] for name, text in zip(columns, key, strict=True)} for key in keys]
    if len(columns) == 1:
        asked = [{columns[0]: [key[0] for key in keys]}]
    tables = [warehouse.read("table", each, ["windrow_run_id"]) for each in asked]
    return [row["windrow_run_id"] for table in tables for row in table.to_pylist()]


def given_keys(job: Job, values: Sequence[str], file: Path | None = None) -> list[tuple[str, ...]]:
    """Return the keys that a person gives: values in the order of the key columns, and a CSV file with their names.

    Raises:
        JobError: Values are left over, or the file cannot be read or lacks a column.
    """
    columns = job.source.key
    if len(values) % len(columns):
        fix = f"give --key once for each of {', '.join(columns)}, in this order."
        raise JobError(f"{len(values)} values are no whole number of keys.", fix)
    keys = [tuple(values[start : start + len(columns)]) for start in range(0, len(values), len(columns))]
    if file is None:
        return keys
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            keys += [tuple(line[name] for name in columns) for line in csv.DictReader(lines, strict=True)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise JobError(f"Keys in {str(file)!r} cannot be read: {error}.", "correct --keys.") from None
    except KeyError as error:
        raise JobError(
            f"File {str(file)!r} has no column {error}.", "name the key columns in its first line."
        ) from None
    if any(not isinstance(part, str) for key in keys for part in key):
        raise JobError(f"A line of {str(file)!r} is too short.", "give every key column a value.")
    return keys


class _Cleaner:
    """Rewrites files of a store without the rows of some keys, and without the predictions of their texts."""

    def __init__(self, store: Store, con: duckdb.DuckDBPyConnection, folder: Path, keys: pa.Table) -> None:
        self.store, self.con, self.folder = store, con, folder
        self.counts = {"runs": 0, "run_files": 0, "predictions": 0, "prediction_files": 0}
        con.register("windrow_asked", keys)
        con.register("windrow_no_hash", pa.schema([("windrow_hash", HASH)]).empty_table())
        con.execute("CREATE TABLE windrow_keys AS SELECT DISTINCT * FROM windrow_asked")
        con.execute("CREATE TABLE windrow_texts AS SELECT * FROM windrow_no_hash")
        self._same = " AND ".join(f"CAST(t.{quoted(n)} AS VARCHAR) = k.{quoted(n)}" for n in keys.column_names)

    def clean_run(self, run: str) -> None:
        """Take the keys out of one run's files; drop the run if it is not published, since its shards hold texts."""
        held = [f"{run}/{part}.parquet" for part in _FILES if self.store.exists(f"{run}/{part}.parquet")]
        hit = [name for name in held if self._count(name, self._keyed)]
        if not hit:
            return
        if f"{run}/rows.parquet" in hit:
            file = literal(self.store.path(f"{run}/rows.parquet"))
            execute(
                self.con,
                f"INSERT INTO windrow_texts SELECT windrow_hash FROM read_parquet({file}) AS t WHERE {self._keyed}",
            )
        if not self.store.exists(f"{run}/receipt.json"):
            self.store.remove([run])
            self.counts["runs"] += 1
            return
        self.store.remove([samples_file(run)])
        for name in hit:
            self._rewrite(name, self._keyed)
            self.counts["run_files"] += 1

    def clean_predictions(self) -> None:
        """Take the texts that were found out of all prediction files, those set aside as broken too."""
        where = "t.windrow_hash IN (SELECT windrow_hash FROM windrow_texts)"
        for name, _, _ in self.store.listed("predictions"):
            if count := self._count(name, where):
                self._rewrite(name, where)
                self.counts["predictions"] += count
                self.counts["prediction_files"] += 1
        self.store.remove(list(self._broken()))

    def _broken(self) -> Iterator[str]:
        """Yield prediction files that cannot be read, and so cannot be cleaned."""
        return (name for name, _, _ in self.store.listed("predictions", ".broken"))

    @property
    def _keyed(self) -> str:
        return f"EXISTS (FROM windrow_keys AS k WHERE {self._same})"

    def _count(self, name: str, where: str) -> int:
        query = f"SELECT count(*) FROM read_parquet({literal(self.store.path(name))}) AS t WHERE {where}"
        count: int = self.con.execute(query).fetchall()[0][0]
        return count

    def _rewrite(self, name: str, where: str) -> None:
        """Replace a file by one without some rows."""
        file = self.folder / "cleaned.parquet"
        query = f"SELECT t.* FROM read_parquet({literal(self.store.path(name))}) AS t WHERE NOT ({where})"
        execute(self.con, f"COPY ({query}) TO {literal(file)} (FORMAT parquet, COMPRESSION zstd)")
        self.store.put(file, name)
