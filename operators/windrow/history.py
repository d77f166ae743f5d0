"""Where a value comes from: its run, model bytes, engine, text hash and partition, from ledger and store."""

from __future__ import annotations

from typing import Any

from windrow.duck import literal, quoted
from windrow.errors import JobError
from windrow.job import Job
from windrow.store import RunRef, Store
from windrow.warehouses import TableName, Warehouse, open_warehouse

__all__ = ["explain_row"]

_TOLD = ("started_at", "finished_at", "revision", "engine", "device", "precision", "task")
"""Of the ledger row that belongs to a row."""
_PAST = ("run_id", "finished_at", "model", "revision", "fingerprint", "rows_in", "rows_published", "rows_rejected")


def explain_row(job: Job, key: list[str]) -> dict[str, Any]:
    """Find the published and rejected rows of a key, what made each, and who wrote its partition before.

    Args:
        key: One text for each key column.

    Returns:
        Under ``rows`` and ``rejects`` the rows, each with facts of the run that published it; a row also with
        ``windrow_hash`` (hexadecimal; the first 128 bits of the text's SHA-256) and ``windrow_scored_by`` (the run
        that scored the text, perhaps an earlier one), both None if the store has been pruned. Under ``history`` the
        ledger's rows of their partitions, the newest first.

    Raises:
        JobError: The key has another number of parts, or no row has it.
    """
    columns = job.source.key
    if len(key) != len(columns):
        raise JobError(
            f"The key has {len(columns)} columns ({', '.join(columns)}), but {len(key)} values were given.",
            "give --key once for each.",
        )
    asked = {name: [value] for name, value in zip(columns, key, strict=True)}
    with open_warehouse(job, writes=False) as warehouse:
        rows = warehouse.read("table", asked).to_pylist()
        rejects = warehouse.read("rejects", asked).to_pylist()
        if not rows and not rejects:
            fix = "check the key; it is compared as text."
            raise JobError(f"No row of {job.warehouse.table} has the key {', '.join(key)}.", fix)
        run_ids = sorted({row["windrow_run_id"] for row in (*rows, *rejects)})
        runs = warehouse.read("ledger", {"run_id": run_ids}, ["run_id", *_TOLD]).to_pylist()
        history = _history(warehouse, job, sorted({row["windrow_partition"] for row in (*rows, *rejects)}))
    made_by = {run["run_id"]: run for run in runs}
    for row in (*rows, *rejects):
        row |= {name: made_by.get(row["windrow_run_id"], {}).get(name) for name in _TOLD}
    store = Store(job.store_url)
    for row in rows:
        row |= _origin(store, job, row, asked)
    return {"job": job.name, "table": job.warehouse.table, "rows": rows, "rejects": rejects, "history": history}


def _history(warehouse: Warehouse, job: Job, partitions: list[str]) -> list[dict[str, Any]]:
    """Return the ledger's rows of some partitions of the job's table, the newest first."""
    table = TableName.parse(job.warehouse.table)
    runs = warehouse.read("ledger", {"partition": partitions}, ["table", "partition", *_PAST]).to_pylist()
    ours = [run for run in runs if TableName.parse(run.pop("table")).matches(table)]
    return sorted(ours, key=lambda run: str(run["run_id"]), reverse=True)


def _origin(store: Store, job: Job, row: dict[str, Any], asked: dict[str, list[str]]) -> dict[str, str | None]:
    """Return a row's text hash, and the run that scored the text, as far as the store still knows."""
    ref = RunRef(job.name, row["windrow_partition"], row["windrow_run_id"])
    name = f"{ref.folder}/rows.parquet"
    found: dict[str, str | None] = {"windrow_hash": None, "windrow_scored_by": None}
    if not store.exists(name):
        return found
    same = " AND ".join(f"CAST({quoted(column)} AS VARCHAR) = ?" for column in asked)
    with store.scratch() as folder, store.connect(folder) as con:
        query = f"SELECT windrow_hash FROM read_parquet({literal(store.path(name))}) WHERE {same}"
        hashes = con.execute(query, [texts[0] for texts in asked.values()]).fetchall()
        if not hashes:
            return found
        found["windrow_hash"] = hashes[0][0].hex()
        files = [file for file, _, _ in store.listed(f"predictions/{row['windrow_fingerprint']}")]
        if files:
            listed = ", ".join(literal(store.path(file)) for file in files)
            query = f"SELECT min_by(windrow_scored_by, windrow_scored_at) FROM read_parquet([{listed}]) "
            found["windrow_scored_by"] = con.execute(f"{query} WHERE windrow_hash = ?", list(hashes[0])).fetchall()[0][
                0
            ]
    return found
