"""Where rows come from: files, Hugging Face datasets, SQL queries; all as Arrow record batches."""

from __future__ import annotations

from windrow.connections import located_url, url_of
from windrow.errors import SourceError
from windrow.job import Job
from windrow.sources.base import RowSource, require_columns

__all__ = ["RowSource", "filled", "open_source", "require_columns"]


def open_source(job: Job, partition: str | None) -> RowSource:
    """Open the source of a job, with ``{partition}`` filled in.

    Raises:
        SourceError: The source needs a partition and none is given, or it is of no known kind.
    """
    source = job.source
    place = source.path or source.hub or source.query or ""
    if partition is None and needs_partition(job):
        raise SourceError(
            "The source contains {partition}, but the run names none.", "add --partition, for example a day."
        )
    if source.path:
        from windrow.sources.files import FileSource

        return FileSource(
            job.located(filled(place, partition)), {**dict.fromkeys(source.text, "string"), **source.types}
        )
    if source.hub:
        from windrow.sources.hub import HubSource

        split = filled(source.split, partition)
        return HubSource(filled(place, partition), split, job.located, job.hub_connection)
    from windrow.sources.sql import open_query

    literal = "'" + (partition or "").replace("'", "''") + "'"
    query = place.replace("'{partition}'", "{partition}").replace("{partition}", literal)
    return open_query(query, located_url(job, url_of(source.url, source.connection)))


def needs_partition(job: Job) -> bool:
    """Tell whether the source reads another place for each partition."""
    source = job.source
    return any("{partition}" in (text or "") for text in (source.path, source.hub, source.split, source.query))


def filled(place: str, partition: str | None) -> str:
    """Put the partition into a path, so that it can name nothing outside its folder."""
    if "{partition}" not in place:
        return place
    value = partition or ""
    if "/" in value or "\\" in value or value in {".", ".."} or any(letter in value for letter in "*?["):
        raise SourceError(f"Partition {value!r} cannot stand in a path.", "use letters, digits, '-', '_', ':' and '.'.")
    return place.replace("{partition}", value)
