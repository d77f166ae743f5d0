"""What must hold before publish: gates, what they find, and a person's decision where they ask for one."""

from __future__ import annotations

from windrow.quality.gates import Gates

__all__ = ["Gates"]
