"""The files in docker/, taken apart for their tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["DOCKER", "IMAGES", "Step", "compose", "helm", "stages", "strings"]

DOCKER = Path(__file__).resolve().parents[1] / "docker"
IMAGES = ("Dockerfile", "Dockerfile.gpu")


@dataclass(frozen=True, slots=True)
class Step:
    """An instruction of a Dockerfile, for example ``RUN`` and what it runs."""

    word: str
    value: str

    @property
    def variables(self) -> dict[str, str]:
        """What an ``ENV`` sets."""
        return dict(pair.split("=", 1) for pair in shlex.split(self.value))


def steps(image: str) -> list[Step]:
    """Return the instructions of a Dockerfile in order, continued lines joined."""
    lines = (DOCKER / image).read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stages(image: str) -> list[list[Step]]:
    """Return the instructions of each stage of a Dockerfile."""
    found: list[list[Step]] = []
    for step in steps(image):
        if step.word == "FROM":
            found.append([])
        found[-1].append(step)
    return found


def compose() -> dict[str, Any]:
    """Return the compose file, its merges done and its variables as they are written."""
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


def helm() -> dict[str, Any]:
    """Return the values for the Helm chart."""
    return yaml.safe_load((DOCKER / "helm/values-gpu.yaml").read_text(encoding="utf-8"))


def strings(value: Any) -> Iterator[str]:
    """Yield every text in a nest of dicts and lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)
