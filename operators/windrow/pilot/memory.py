"""What pilots found, kept in the store: the numerics for all machines, the engine for each.

<store>/choices/<model and task>/numerics.json     one precision, held by every machine
<store>/choices/<model and task>/<machine>.json    the choice with its trials
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from windrow.engines.device import granted_cores
from windrow.errors import StoreError
from windrow.models.resolve import ResolvedModel
from windrow.receipt import versions
from windrow.store import Store
from windrow.tasks import Task, fingerprint

__all__ = ["Memory", "machine_id"]

_VERSION = 1


class Memory:
    """The choices made for one model and task on one kind of device."""

    def __init__(self, store: Store, model: ResolvedModel, task: Task, device: str) -> None:
        self.store = store
        self.folder = f"choices/{fingerprint(task, model, 'any')[:32]}"
        self.file = f"{self.folder}/{machine_id(device)}.json"

    def numerics(self) -> str | None:
        """Return the precision that this store holds to, if a pilot has found one."""
        found = self._read(f"{self.folder}/numerics.json")
        return str(found["precision"]) if found else None

    def choice(self) -> dict[str, Any] | None:
        """Return what was chosen on this machine, if it was."""
        found: dict[str, Any] | None = self._read(self.file)
        return found

    def keep(self, choice: dict[str, Any]) -> None:
        """Write down a choice; the numerics that are there already stay."""
        self.store.write_json(self.file, choice)
        if self.numerics() is None:
            self.store.write_json(f"{self.folder}/numerics.json", {"precision": choice["precision"]})

    def _read(self, name: str) -> Any:
        """Return a file's content; a broken one counts as none, since it can be measured anew."""
        try:
            return self.store.read_json(name) if self.store.exists(name) else None
        except StoreError:
            return None


def machine_id(device: str) -> str:
    """Return a short digest of what makes measurements on two machines comparable: processor, cores, libraries."""
    facts = [_VERSION, device, platform.machine(), granted_cores(), _processor(), versions()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _processor() -> str:
    """Return the processor's name and abilities, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(next((line for line in lines if line.startswith(key)), "") for key in ("model name", "flags"))
