"""Whether the files of a partition are there yet."""

from __future__ import annotations

import fsspec

from windrow.errors import JobError, SourceError
from windrow.job import Job, redacted
from windrow.sources import filled
from windrow.sources.files import sample_path

__all__ = ["is_there", "place_of"]


def place_of(job: Job, partition: str) -> str:
    """Return the file, glob or URL that a job reads for a partition.

    Raises:
        JobError: The source is no path.
    """
    if not job.source.path:
        raise JobError("Only a source that is a path can be waited for.", "wait for a table with a sensor of its own.")
    return job.located(filled(job.source.path, partition))


def is_there(place: str) -> bool:
    """Tell whether at least one file is at a place.

    Raises:
        SourceError: The place cannot be looked at.
    """
    path = sample_path(place) if place.startswith("windrow://") else place
    try:
        fs, root = fsspec.core.url_to_fs(path)
        fs.invalidate_cache()
        if any(letter in root for letter in "*?[") and not fs.exists(root):
            return any(fs.isfile(name) for name in fs.glob(root))
        return bool(fs.isfile(root))
    except (OSError, ImportError, ValueError) as error:
        raise SourceError(f"{redacted(place)!r} cannot be looked at: {error}.", "correct source.path.") from None
