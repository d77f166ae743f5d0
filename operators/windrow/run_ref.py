"""Which run it is, and so where its files are."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from urllib.parse import quote

from windrow.receipt import utc_now

__all__ = ["RunRef", "new_run_id"]

_LONGEST_NAME = 160
_MOMENT = "%Y%m%dT%H%M%S%f"


def new_run_id(after: str = "") -> str:
    """Return a run id that sorts by the moment it was made, and in any case after the one given.

    >>> new_run_id() < new_run_id()
    True
    >>> new_run_id(after="20990101T000000000000Z-ffffff")[:23]
    '20990101T000000000001Z-'
    """
    made = utc_now()
    with suppress(ValueError):
        last = datetime.strptime(after.partition("Z-")[0], _MOMENT).replace(tzinfo=UTC)
        made = max(made, last + timedelta(microseconds=1))
    run_id = f"{made:{_MOMENT}}Z-{uuid.uuid4().hex[:6]}"
    return run_id if run_id > after else f"{after}-{run_id}"


@dataclass(frozen=True, slots=True)
class RunRef:
    """Where one run keeps its files: small enough for an XCom, and all that the next step needs."""

    job: str
    partition: str
    run_id: str

    @property
    def folder(self) -> str:
        """The run's folder, relative to the store; the partition is quoted as in a URL."""
        return f"runs/{self.job}/{_folder_name(self.partition)}/{self.run_id}"

    def to_dict(self) -> dict[str, str]:
        """Return the reference as plain strings."""
        return asdict(self)


def _folder_name(partition: str) -> str:
    """Return a partition as the name of one folder: quoted as in a URL, long ones shortened to a digest."""
    name = quote(partition, safe="")
    if set(name) <= {"."}:
        name = name.replace(".", "%2E")
    return name if len(name) <= _LONGEST_NAME else f"{name[:80]}-{sha256(name.encode()).hexdigest()[:32]}"
