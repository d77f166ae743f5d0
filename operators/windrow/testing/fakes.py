"""A fake of each seam, for tests of one part alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from windrow.engines.base import Decoding, Engine, EnginePlan, Outputs
from windrow.models.pictures import Pixels
from windrow.models.tokens import Tokens, Windows
from windrow.sources.base import require_columns
from windrow.sources.since import Since
from windrow.tasks.base import Scored

__all__ = ["FakeEngine", "FakeSource", "FakeTask"]


class FakeEngine:
    """An engine without a model: outputs are what `answer` makes of each window's token ids.

    Args:
        answer: Returns a vector (classify, embed), a vector for each token or one for all (tag), or token ids
            (generate) for a window; an exception that it raises becomes a failed window.
    """

    def __init__(self, answer: Callable[[npt.NDArray[np.int32]], Any]) -> None:
        self.plan = EnginePlan("fake", "classify", "cpu", "fp32")
        self.answer = answer
        self.windows_seen = 0

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return the answers as rows, float32, shape ``(windows, labels)``."""
        answers, failed = self._answers(windows)
        width = max((len(a) for a in answers if a is not None), default=0)
        rows = [np.zeros(width) if a is None else a for a in answers]
        return Outputs(np.asarray(rows, dtype=np.float32).reshape(len(rows), width), failed)

    def tag(self, windows: Windows) -> Outputs:
        """Return the answers as logits, float32, shape ``(tokens, labels)`` for each window."""
        answers, failed = self._answers(windows)
        found = [np.atleast_2d(np.asarray([] if a is None else a, dtype=np.float32)) for a in answers]
        sizes = windows.lengths.tolist()
        return Outputs([np.broadcast_to(a, (size, a.shape[1])) for a, size in zip(found, sizes, strict=True)], failed)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:  # noqa: ARG002
        """Return the answers as rows, like `classify`."""
        return self.classify(windows)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:  # noqa: ARG002
        """Return the answers as token ids, one array a window."""
        answers, failed = self._answers(windows)
        return Outputs([np.asarray([] if a is None else a, dtype=np.int32) for a in answers], failed)

    def close(self) -> None:
        """Do nothing."""

    def _answers(self, windows: Windows | Pixels) -> tuple[list[Any], dict[int, tuple[str, str]]]:
        answers: list[Any] = []
        failed: dict[int, tuple[str, str]] = {}
        for index in range(len(windows.rows)):
            self.windows_seen += 1
            try:
                seen = windows.values[index] if isinstance(windows, Pixels) else windows.window(index)
                answers.append(self.answer(seen))
            except (RuntimeError, ValueError) as error:
                failed[index] = ("model_error", str(error))
                answers.append(None)
        return answers, failed


class FakeSource:
    """A source over a table in memory.

    Args:
        table: Its rows.
        malformed: Lines that could not be read as rows.
        batch_rows: Most rows in a record batch.
    """

    def __init__(self, table: pa.Table, malformed: Sequence[str] = (), batch_rows: int = 1024) -> None:
        self.table, self.lines, self.batch_rows = table, list(malformed), batch_rows

    def schema(self) -> pa.Schema:
        """Return the table's columns."""
        return self.table.schema

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the table's rows."""
        require_columns(self.table.schema, columns, "the fake source")
        for batch in self.table.select(list(columns)).to_batches(self.batch_rows):
            yield since.kept(batch) if since else batch

    def malformed(self) -> list[str]:
        """Return the lines that it was given."""
        return self.lines


class FakeTask:
    """A task that needs no model: its only column, ``answer``, is what `answer` makes of each text.

    Args:
        answer: Returns a text's value; an exception that it raises becomes a reject.
    """

    name = "fake"
    head = "classify"
    version = 1
    columns = pa.schema([("answer", pa.string())])
    labels: int | None = None

    def __init__(self, answer: Callable[[str], str]) -> None:
        self.answer = answer

    def parameters(self) -> dict[str, Any]:
        """Return nothing: a fake has no parameters."""
        return {}

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> list[str]:  # noqa: ARG002
        """Return the texts as they are."""
        return list(texts)

    def score(self, prepared: list[str], engine: Engine, tokens: Tokens) -> Scored:  # noqa: ARG002
        """Ask `answer`, text by text; each counts one token a word."""
        values: list[str | None] = []
        failed: dict[int, tuple[str, str]] = {}
        for index, text in enumerate(prepared):
            try:
                values.append(self.answer(text))
            except (RuntimeError, ValueError) as error:
                failed[index] = ("model_error", str(error))
                values.append(None)
        read = np.asarray([len(text.split()) for text in prepared], dtype=np.int32)
        return Scored({"answer": pa.array(values, pa.string())}, read, np.zeros(len(prepared), dtype=np.bool_), failed)
