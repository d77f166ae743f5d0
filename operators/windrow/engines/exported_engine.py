"""What engines share that run an exported encoder on a CPU: each granted core runs micro-batches of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.base import Decoding, EnginePlan, Outputs
from windrow.engines.device import granted_cores
from windrow.engines.encoding import encoded, padded, tagged, to_unit_length
from windrow.engines.exports import Format, exported
from windrow.engines.packing import CACHED_TOKENS, pack, shared_budget, stepped
from windrow.errors import JobError
from windrow.models.pictures import Pixels
from windrow.models.resolve import ResolvedModel
from windrow.models.sentence_settings import POOLINGS
from windrow.models.windows import Windows

__all__ = ["HEADS", "ExportedEngine"]

_FIX = "set `engine: torch`, or leave engine out."
HEADS = {"classify", "tag", "embed"}


class ExportedEngine:
    """One encoder, exported once; a subclass opens the file and runs it.

    Args:
        plan: What to run.
        model: The resolved model.
        form: The format of the export.
        precisions: Numerics classes that the engine has.

    Raises:
        JobError: The device, the head or the precision is not one that this engine runs.
        ExportError: The model cannot be exported, or says something else once it is.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel, form: Format, precisions: tuple[str, ...]) -> None:
        if plan.device != "cpu" or plan.head not in HEADS or plan.precision not in precisions:
            raise JobError(
                f"Engine {form.engine!r} runs encoders on a CPU in {' or '.join(precisions)}, "
                f"not {plan.head} in {plan.precision} on {plan.device}.",
                "set `engine: torch`, or leave engine out.",
            )
        self.plan, self.form = plan, form
        self.export = exported(plan, model, form)
        self.workers = granted_cores()
        self.token_budget = plan.token_budget or self.own_budget()
        self.pad_id, self.vocabulary = self.export.pad_id, self.export.vocabulary

    def own_budget(self) -> int:
        """Return the token budget where neither the job nor a pilot names one."""
        return CACHED_TOKENS

    def run(self, ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Run one micro-batch; ids and mask are of shape ``(rows, longest)``."""
        raise NotImplementedError

    def warm_up(self) -> None:
        """Run two tokens on this thread alone, before others begin; a subclass calls it once its model is open.

        OpenVINO's binding (2026.4) makes its table of types when it is first called; two threads that call it first
        at the same moment wait for each other forever. ONNX Runtime is spared the question.
        """
        self.run(np.full((1, 2), self.pad_id, dtype=np.int64), np.ones((1, 2), dtype=np.int64))

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``."""
        if isinstance(windows, Pixels):
            raise JobError(
                f"Engine {self.form.engine!r} does not read images.", "set `engine: torch`, or leave engine out."
            )
        return self._gathered(windows, np.asarray)

    def tag(self, windows: Windows) -> Outputs:
        """Return logits of every token: a list of float32 arrays ``(tokens, labels)``, one a window."""
        return self._gathered(windows, np.asarray, tagged)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:
        """Return one vector a window, float32, shape ``(windows, size)``."""
        place = POOLINGS.index(pooling)

        def fetch(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            vectors = np.split(values, len(POOLINGS), axis=1)[place]
            return to_unit_length(vectors) if unit else vectors

        return self._gathered(windows, fetch)

    def _gathered(
        self,
        windows: Windows,
        fetch: Callable[[Any], npt.NDArray[np.float32]],
        gather: Callable[..., Outputs] = encoded,
    ) -> Outputs:
        """Run micro-batches of stepped lengths, so that few shapes are compiled."""
        sizes = stepped(windows.lengths)
        forward = self._forward(windows, sizes)

        def cut(_: object, budget: int) -> Iterator[list[int]]:
            return pack(sizes, budget if self.plan.token_budget else shared_budget(sizes, budget, self.workers))

        return gather(
            windows,
            self.token_budget,
            forward,
            fetch,
            self._relieve,
            self.workers,
            cut,
        )

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine does not write."""
        raise JobError(
            f"Engine {self.form.engine!r} does not generate text.", "set `engine: torch`, or leave engine out."
        )

    def close(self) -> None:
        """Release the model."""

    def _forward(self, windows: Windows, sizes: npt.NDArray[np.int64]) -> Any:
        def forward(rows: list[int]) -> npt.NDArray[np.float32]:
            ids, inside = padded(windows, rows, self.pad_id, self.vocabulary, int(sizes[rows].max()))
            return self.run(ids, inside.astype(np.int64))

        return forward

    def _relieve(self) -> None:
        """After a lack of memory: send less at once from now on."""
        self.token_budget = max(256, self.token_budget // 2)
