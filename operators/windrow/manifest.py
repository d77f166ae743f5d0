"""What load found out, for the steps after it: small, in the run's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from windrow.store import RunRef, Store

__all__ = ["LaneReport", "Manifest", "Shard"]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of texts to score: the unit that is checkpointed."""

    name: str
    texts: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """A loaded run: its identity, its numerics, its counts and its shards."""

    ref: RunRef
    started_at: str
    model: str
    revision: str
    fingerprint: str
    engine: str
    device: str
    precision: str
    rows_in: int
    rows_rejected: int
    texts_distinct: int
    texts_reused: int
    load_s: float
    untyped: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = field(default=())

    @property
    def texts_to_score(self) -> int:
        """Texts in the shards."""
        return self.texts_distinct - self.texts_reused

    def write(self, store: Store) -> None:
        """Write ``run.json`` into the run's folder."""
        store.write_json(f"{self.ref.folder}/run.json", asdict(self))

    @classmethod
    def read(cls, store: Store, ref: RunRef) -> Self:
        """Read ``run.json`` of a run.

        Raises:
            StoreError: The run has not been loaded, or its folder has been pruned.
        """
        fields: dict[str, Any] = store.read_json(f"{ref.folder}/run.json")
        shards = tuple(Shard(**shard) for shard in fields["shards"])
        return cls(**{**fields, "ref": ref, "shards": shards, "untyped": tuple(fields["untyped"])})


@dataclass(frozen=True, slots=True)
class LaneReport:
    """What one lane of infer did."""

    lane: int
    texts: int
    tokens: int
    seconds: float
    engine: str
    device: str
    precision: str

    def write(self, store: Store, ref: RunRef) -> None:
        """Write the report into the run's folder."""
        store.write_json(f"{ref.folder}/lanes/{self.lane}.json", asdict(self))

    @classmethod
    def read_all(cls, store: Store, ref: RunRef) -> list[Self]:
        """Read the reports of all lanes of a run."""
        names = [name for name, _, _ in store.listed(f"{ref.folder}/lanes", ".json")]
        return [cls(**store.read_json(name)) for name in names]
