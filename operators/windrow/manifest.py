"""What load found out, for the steps after it: small, in the run's folder."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from windrow.engines.base import EnginePlan
from windrow.models.tokens import Tokens
from windrow.store import RunRef, Store
from windrow.tasks.base import Task, engine_plan

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
    choice: dict[str, Any] = field(default_factory=dict)
    pilot_s: float = 0.0
    since: str | None = None
    watermark: str | None = None
    rows_deleted: int = 0

    @property
    def texts_to_score(self) -> int:
        """Texts in the shards."""
        return self.texts_distinct - self.texts_reused

    def choice_as_run(self, lanes: list[LaneReport]) -> dict[str, Any]:
        """Return the choice, with what the lanes planned and could not run as ``fallbacks``, each once."""
        return {**self.choice, "fallbacks": list(dict.fromkeys(note for lane in lanes for note in lane.fallbacks))}

    def engine_plan(self, task: Task, tokens: Tokens) -> EnginePlan:
        """Return how the run's model is to be run."""
        plan = engine_plan(task, tokens, self.engine, self.device, self.precision)
        return replace(plan, token_budget=self.choice.get("token_budget"))

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
    """What one lane of infer did; `fallbacks` says what was planned and did not run, and why."""

    lane: int
    texts: int
    tokens: int
    seconds: float
    engine: str
    device: str
    precision: str
    fallbacks: list[str] = field(default_factory=list)

    def write(self, store: Store, ref: RunRef) -> None:
        """Write the report into the run's folder."""
        store.write_json(f"{ref.folder}/lanes/{self.lane}.json", asdict(self))

    @classmethod
    def read_all(cls, store: Store, ref: RunRef) -> list[Self]:
        """Read the reports of all lanes of a run."""
        names = [name for name, _, _ in store.listed(f"{ref.folder}/lanes", ".json")]
        return [cls(**store.read_json(name)) for name in names]
