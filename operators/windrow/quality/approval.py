"""A person's yes to what a gate asks about: once for a run, kept in its folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

from windrow.receipt import utc_now
from windrow.store import RunRef, Store

if TYPE_CHECKING:
    from windrow.job import Job

__all__ = ["Approval", "approve"]


@dataclass(frozen=True, slots=True)
class Approval:
    """Who said that a run may be published, and when (ISO 8601)."""

    by: str
    at: str

    @classmethod
    def read(cls, store: Store, ref: RunRef) -> Self | None:
        """Return the approval of a run, if there is one."""
        name = _file(ref)
        return cls(**store.read_json(name)) if store.exists(name) else None


def approve(job: Job, ref: RunRef, by: str) -> Approval:
    """Let a run be published whatever its gates ask; it is not asked about again.

    Gates that fail are not asked about, and stay closed.

    Args:
        by: Who decided; the receipt tells it.
    """
    store = Store(job.store_url)
    approval = Approval.read(store, ref) or Approval(by, utc_now().isoformat())
    store.write_json(_file(ref), asdict(approval))
    return approval


def _file(ref: RunRef) -> str:
    return f"{ref.folder}/approval.json"
