"""What must hold before publish."""

from __future__ import annotations

from windrow.quality.audit import audit

__all__ = ["audit"]
