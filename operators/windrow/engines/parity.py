"""Tells whether two ways of running a model give the same outputs."""

from __future__ import annotations

import torch

__all__ = ["disagreement"]

_TOLERANCE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_NEARER = 0.5
"""Outputs must be so many times nearer to the expected ones than those with all positions moved by one."""


def disagreement(
    expected: torch.Tensor, got: torch.Tensor, shifted: torch.Tensor | None, dtype: torch.dtype
) -> str | None:
    """Return in words how outputs differ beyond the rounding of their dtype; None if they do not.

    A tolerance alone would let a wrong numbering of positions pass in bf16, since its effect may be small. So
    outputs with all positions moved by one are made on purpose, and the right ones must be clearly nearer.

    Args:
        expected: Outputs of the ordinary way, shape ``(rows, values)``.
        got: Outputs of the other way.
        shifted: Those of the other way with positions moved; None where positions are relative.
        dtype: In which the model computes.
    """
    if got.shape != expected.shape:
        return f"outputs have shape {tuple(got.shape)}, not {tuple(expected.shape)}"
    if not bool(torch.isfinite(expected).all()) or not bool(torch.isfinite(got).all()):
        return "outputs are not finite numbers"
    error = float((got - expected).abs().max())
    bound = _TOLERANCE.get(dtype, 1e-4) * float(expected.abs().max())
    if error > bound:
        return f"outputs differ by {error:.2g}, more than {bound:.2g}"
    if shifted is not None and error > _NEARER * float((shifted - expected).abs().max()):
        return "outputs are no nearer than with all positions moved by one"
    return None
