"""Which bytes: a model's folder and adapter, pinned, verified, safetensors only."""

from __future__ import annotations

from windrow.models.resolve import ResolvedModel, resolve

__all__ = ["ResolvedModel", "resolve"]
