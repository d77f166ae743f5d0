"""CTranslate2 on a CPU: seq2seq models in a runtime of their own, one translator a core."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from windrow.engines.base import Decoding, EnginePlan, Outputs
from windrow.engines.ctranslate2_export import exported
from windrow.engines.ctranslate2_options import Options, options_of, refused
from windrow.engines.device import bytes_saturate, granted_cores
from windrow.engines.halving import run_all
from windrow.engines.packing import pack
from windrow.errors import JobError
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["CTranslate2Engine"]

_TOKEN_BUDGETS = {"int8": 2048}
_TOKEN_BUDGET = 4096
"""Measured on a Marian and two cores: in int8, 2,048 is 1.13 times as fast as 4,096; in fp32, 4,096 is best."""
_PADDING = 1.2
"""About how many tokens a padded micro-batch has for each that is meant."""
_TYPES = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}


class CTranslate2Engine:
    """One seq2seq model, converted and loaded for this processor.

    Each granted core translates micro-batches of its own. Weights are stored in fp32 and turned into the plan's
    precision when they are loaded; for int8 on processors where sums of bytes saturate, they are stored in seven bits.

    Raises:
        JobError: The device, the head or the precision is not one that this engine runs.
        ExportError: The model cannot be converted, writes something else once it is, or is to decode in a way
            that this engine does not have.
    """

    def __init__(self, plan: EnginePlan, model: ResolvedModel) -> None:
        if plan.device != "cpu" or plan.head != "generate" or plan.precision not in _TYPES or not model.is_seq2seq:
            raise JobError(
                f"Engine 'ctranslate2' runs seq2seq models on a CPU in {', '.join(_TYPES)}, "
                f"not {plan.head} in {plan.precision} on {plan.device}.",
                "set `engine: torch`, or leave engine out.",
            )
        import ctranslate2

        kind = _TYPES[plan.precision]
        if kind not in ctranslate2.get_supported_compute_types("cpu"):
            raise refused(model, f"it does not compute in {plan.precision} on this processor")
        self.plan, self.model = plan, model
        if plan.decoding:
            options_of(model, plan.decoding)
        self.export = exported(model, is_narrow=plan.precision == "int8" and bytes_saturate())
        self.workers = granted_cores()
        self.token_budget = _TOKEN_BUDGETS.get(plan.precision, _TOKEN_BUDGET)
        threads = {"inter_threads": self.workers, "intra_threads": 1}
        self.translator: Any = ctranslate2.Translator(str(self.export.folder), "cpu", compute_type=kind, **threads)

    def classify(self, windows: Windows) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine only writes."""
        raise JobError("Engine 'ctranslate2' does not classify.", "set `engine: torch`, or leave engine out.")

    def tag(self, windows: Windows) -> Outputs:
        """Raise a `JobError`: this engine only writes."""
        return self.classify(windows)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:  # noqa: ARG002
        """Raise a `JobError`: this engine only writes."""
        return self.classify(windows)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return generated token ids, one int32 array a window, the decoder's first token included.

        Raises:
            ExportError: An option of the decoding is not one that CTranslate2 has.
        """
        options = options_of(self.model, decoding)
        outputs = Outputs([np.zeros(0, dtype=np.int32)] * len(windows.rows))

        def forward(rows: list[int]) -> list[npt.NDArray[np.int32]]:
            return self._written([windows.window(row) for row in rows], options)

        share = int(_PADDING * sum(windows.lengths) / self.workers)  # of each core, where that is less than a budget
        batches = pack(windows.lengths, min(self.token_budget, share))
        for rows, written in run_all(batches, forward, outputs.failed, self._relieve, self.workers):
            for row, tokens in zip(rows, written, strict=True):
                outputs.values[row] = tokens
        return outputs

    def close(self) -> None:
        """Release the model."""
        self.translator.unload_model()
        del self.translator

    def _written(self, sources: list[npt.NDArray[np.int32]], options: Options) -> list[npt.NDArray[np.int32]]:
        """Translate one micro-batch.

        Raises:
            IndexError: A token is not in the vocabulary; CTranslate2 would read it as another.
        """
        highest = max(int(source.max(initial=0)) for source in sources)
        if highest >= self.export.vocabulary:
            raise IndexError(f"token {highest} is not in the model's vocabulary of {self.export.vocabulary}")
        prefix = [[str(token) for token in options.prefix]] * len(sources) if options.prefix else None
        results = self.translator.translate_batch(
            [[str(token) for token in source.tolist()] for source in sources], prefix,
            max_input_length=0, return_end_token=True, **options.given,
        )  # fmt: skip
        return [self._row([int(token) for token in result.hypotheses[0]], options) for result in results]

    def _row(self, tokens: list[int], options: Options) -> npt.NDArray[np.int32]:
        """Put the decoder's first token before a row, and the forced one at its end if it reached the limit."""
        if options.last is not None and len(tokens) >= options.given["max_decoding_length"]:
            tokens[-1] = options.last
        return np.asarray([self.export.start, *tokens], dtype=np.int32)

    def _relieve(self) -> None:
        """After a lack of memory: send less at once from now on."""
        self.token_budget = max(256, self.token_budget // 2)
