"""load: the source as rows with keys and text hashes, rejects with reasons, and shards of texts not yet predicted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath

import duckdb
import pyarrow as pa

from windrow.duck import execute, first_line, literal, quoted
from windrow.engines import check_engine
from windrow.engines.device import choose_device
from windrow.errors import JobError, LimitError, SchemaError, SourceError
from windrow.faults import reach
from windrow.fitting import carried_columns, check_table
from windrow.images import Spool
from windrow.incremental import open_rows
from windrow.job import Job
from windrow.manifest import Manifest
from windrow.models import resolve
from windrow.pilot import Ask, Choice, choose, estimate, hours_allowed, refuse_beyond
from windrow.pilot.rehearsal import measured
from windrow.predictions import Predictions
from windrow.quality.measure import check_gates
from windrow.receipt import utc_now
from windrow.shards import cut, write_shards
from windrow.sources import RowSource, needs_partition
from windrow.staging import file_schema, stage
from windrow.store import RunRef, Store, new_run_id
from windrow.tasks import Task, build_task, fingerprint

__all__ = ["DEFAULT_PARTITION", "load", "partition_of"]

DEFAULT_PARTITION = "all"
SHARD_TEXTS = int(os.environ.get("WINDROW_SHARD_TEXTS", "4096"))
_READ_TEXTS = 2048
_GROUP_BYTES = 8 << 20
"""Of rows in a run's file: kept columns may be wide, and memory is bounded."""


def partition_of(job: Job, partition: str | None) -> str:
    """Return the partition that a run owns: the one named, or ``all``.

    Raises:
        SourceError: The source reads another place for each partition, and none is named.
    """
    if partition is None and needs_partition(job):
        raise SourceError(
            "The source contains {partition}, but the run names none.", "add --partition, for example a day."
        )
    if partition == "":
        raise JobError("The partition is an empty text.", "name one, for example a day, or leave it out.")
    if partition and partition.encode("utf-8", "replace").decode() != partition:
        raise JobError("The partition is not UTF-8 text.", "name it in UTF-8.")
    return DEFAULT_PARTITION if partition is None else partition


def load(
    job: Job,
    partition: str | None = None,
    *,
    limit: int | None = None,
    full: bool = False,
    run_id: str | None = None,
    spends: bool = True,
) -> Manifest:
    """Read the source of one partition and write rows, rejects and shards into a new run folder.

    Nothing is scored and the warehouse is only looked at.

    Args:
        limit: Read at most so many rows of the source.
        full: Read the whole source, whatever `source.since` says.
        run_id: Id of the run; a new one unless given.
        spends: Whether the run is to be scored, so that it has to keep `max_hours` and `max_cost`.

    Raises:
        JobError: Job, source, model or table do not fit together.
        LimitError: Scoring would take more hours or cost more than the job allows.
        StoreError: The store cannot be written.
    """
    began, started_at = time.monotonic(), utc_now()
    ref = RunRef(job.name, partition_of(job, partition), run_id or new_run_id())
    check_engine(job.engine)
    model = resolve(job)
    task = build_task(job, model)
    check_gates(job.quality, task)
    device = choose_device(job.device)
    source = open_rows(job, partition, full)
    carried = carried_columns(job, source, task)
    store = Store(job.store_url)
    with store.scratch() as folder, store.connect(folder) as con, _spool(folder, job, task) as images:
        source.spool_to(folder)
        _stage(con, job, source, carried, model.english_only, limit, images)
        untyped = tuple(f.name for f in carried if pa.types.is_null(f.type))
        files = _copied(con, folder, carried.names, job)
        published = check_table(job, task, file_schema(con, files["rows"], carried.names), untyped, ref)
        ref = ref if run_id else _after_all(store, ref, published)
        _keep(store, ref, files | ({"gone": gone} if (gone := source.gone()) else {}))
        distinct = _find_distinct(con)
        choice, pilot_s = _chosen(con, Ask(job, model, task, device, store), distinct)
        mark = fingerprint(task, model, choice.precision)
        predictions = Predictions(store, mark, task.columns)
        predictions.compact()
        reused = _drop_predicted(con, predictions)
        shards = tuple(write_shards(_tables(con, images), store, ref, folder))
        reach("load.shards")
        rows_in, rejected = con.execute("SELECT count(*), count(windrow_reason) FROM staged").fetchall()[0]
    manifest = Manifest(
        ref, started_at.isoformat(), model.name, model.revision, mark, choice.engine, device, choice.precision,
        rows_in, rejected, distinct, reused, time.monotonic() - began, untyped, shards, choice.to_dict(), pilot_s,
        source.since, source.reached() if limit is None else None, source.rows_deleted,
    )  # fmt: skip
    manifest.write(store)
    reach("load.manifest")
    if spends:
        _keep_limits(job, manifest, store)
    return manifest


def _keep_limits(job: Job, manifest: Manifest, store: Store) -> None:
    """Refuse a run that would go beyond its hours or cost; its folder goes with it."""
    if hours_allowed(job.limits, job.price_per_hour) is None or not manifest.texts_to_score:
        return
    timing, tokens, _ = measured(job, manifest, store)
    try:
        refuse_beyond(job, estimate(job, tokens, manifest.rows_in, timing))
    except LimitError:
        store.remove([manifest.ref.folder])
        raise


def _chosen(con: duckdb.DuckDBPyConnection, ask: Ask, distinct: int) -> tuple[Choice, float]:
    """Choose engine and numerics for the staged texts; tell how many seconds that took, too."""
    began = time.monotonic()
    ours = "SELECT {} FROM staged WHERE windrow_row IN (SELECT windrow_row FROM wanted {})"

    def sample(texts: int) -> list[str]:
        """Take texts as their hashes fall: at random over the partition, yet the same ones each time."""
        query = ours.format("windrow_text", f"ORDER BY windrow_hash LIMIT {texts}")
        return [text for (text,) in con.execute(query).fetchall()]

    def size_bytes() -> int:
        total: int = con.execute(ours.format("coalesce(sum(strlen(windrow_text)), 0)::BIGINT", "")).fetchall()[0][0]
        return total

    return choose(ask, sample, distinct, size_bytes), time.monotonic() - began


def _spool(folder: Path, job: Job, task: Task) -> AbstractContextManager[Spool | None]:
    """Open a place for images where the task takes them."""
    return closing(Spool(folder, job)) if task.head == "image" else nullcontext()


def _stage(
    con: duckdb.DuckDBPyConnection,
    job: Job,
    source: RowSource,
    carried: pa.Schema,
    english_only: bool,
    limit: int | None,
    images: Spool | None,
) -> None:
    """Stage the source, and say which column DuckDB cannot hold."""
    try:
        stage(con, job, source, carried, english_only, limit, images)
    except (duckdb.ConversionException, duckdb.NotImplementedException, duckdb.InvalidInputException) as error:
        raise SchemaError(
            f"A column has a type or a value that cannot be carried: {first_line(error)}.",
            "leave it out of source.keep, or cast it in the source.",
        ) from None


def _after_all(store: Store, ref: RunRef, published: list[str]) -> RunRef:
    """Return a reference whose run id is later than all of its partition, even if the clock was set back since."""
    known = [*published, *store.folders(str(PurePosixPath(ref.folder).parent))]
    last = max(known, default="")
    return ref if ref.run_id > last else replace(ref, run_id=new_run_id(after=last))


def _copied(con: duckdb.DuckDBPyConnection, folder: Path, names: list[str], job: Job) -> dict[str, Path]:
    """Write ``rows.parquet`` (key, kept columns, hash) and ``rejects.parquet`` (key, reason) as scratch files."""
    kept, keys = (", ".join(map(quoted, part)) for part in (names, job.source.key))
    parts = {
        "rows": f"SELECT {kept}, windrow_hash FROM staged WHERE windrow_reason IS NULL",
        "rejects": f"SELECT {keys}, windrow_reason, windrow_detail FROM staged WHERE windrow_reason IS NOT NULL",
    }
    files = {part: folder / f"{part}.parquet" for part in parts}
    con.execute("SET preserve_insertion_order = false")  # or row groups could not be bounded in bytes
    for part, query in parts.items():
        options = f"(FORMAT parquet, ROW_GROUP_SIZE_BYTES {_GROUP_BYTES})"
        execute(con, f"COPY ({query}) TO {literal(files[part])} {options}")
    con.execute("SET preserve_insertion_order = true")
    return files


def _keep(store: Store, ref: RunRef, files: dict[str, Path]) -> None:
    """Put scratch files into the run's folder."""
    reach("load.begun")
    for part, file in files.items():
        store.put(file, f"{ref.folder}/{part}.parquet")
        reach(f"load.{part}")


def _find_distinct(con: duckdb.DuckDBPyConnection) -> int:
    """Make table `wanted` of the distinct texts; return how many there are."""
    execute(
        con,
        "CREATE TABLE wanted AS SELECT windrow_hash, min(windrow_row) AS windrow_row "
        "FROM staged WHERE windrow_reason IS NULL GROUP BY windrow_hash",
    )
    return _count_wanted(con)


def _drop_predicted(con: duckdb.DuckDBPyConnection, predictions: Predictions) -> int:
    """Leave in `wanted` the texts without a prediction; return how many have one."""
    distinct = _count_wanted(con)
    predictions.select(con, "wanted", "predicted", columns=[])
    execute(con, "DELETE FROM wanted WHERE windrow_hash IN (SELECT windrow_hash FROM predicted)")
    return distinct - _count_wanted(con)


def _count_wanted(con: duckdb.DuckDBPyConnection) -> int:
    count: int = con.execute("SELECT count(*) FROM wanted").fetchall()[0][0]
    return count


def _tables(con: duckdb.DuckDBPyConnection, images: Spool | None) -> Iterator[pa.Table]:
    """Give the wanted texts or images in the order of the source, a table for each shard."""
    wanted = "FROM staged WHERE windrow_row IN (SELECT windrow_row FROM wanted)"
    if images:
        return images.tables([row[0] for row in execute(con, f"SELECT windrow_hash {wanted}").fetchall()])
    return cut(execute(con, f"SELECT windrow_hash, windrow_text {wanted}").to_arrow_reader(_READ_TEXTS), SHARD_TEXTS)
