"""What can go wrong, as a person reads it.

WindrowError                what happened, how to fix it, whether trying again helps
├── JobError                the job, its input or the call is wrong          exit 2
│   ├── SourceError         a file, query or column of the source            exit 2
│   ├── ModelError          the model's files, format or head                exit 2
│   │   └── ExportError     an engine cannot take the model; torch can       exit 2
│   ├── LimitError          the run would go beyond the job's hours or cost  exit 2
│   └── SchemaError         the table has a shape that the job cannot fill   exit 2
├── StoreError              runs and predictions cannot be read or written   exit 1, retryable
├── HubError                the Hugging Face Hub cannot be reached           exit 1, retryable
├── EngineError             the device or the model failed on every row      exit 1, retryable
├── WarehouseError          the warehouse cannot be reached or written       exit 1, retryable
│   └── FencedError         a later run of this partition has published      exit 1
├── AuditError              the audit refused to publish                     exit 3
│   └── ReviewError         a gate asks for a person's decision first        exit 3
└── Interrupted             a person or the system asked to stop             exit 130, retryable
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "AuditError",
    "EngineError",
    "ExportError",
    "FencedError",
    "HubError",
    "Interrupted",
    "JobError",
    "LimitError",
    "ModelError",
    "ReviewError",
    "SchemaError",
    "SourceError",
    "StoreError",
    "WarehouseError",
    "WindrowError",
    "nearest",
]


class WindrowError(Exception):
    """Root of all errors that Windrow raises on purpose.

    Args:
        problem: What happened, in a sentence.
        fix: What the reader can do about it.

    >>> print(WindrowError("Row 1 has 600 tokens.", "raise token_budget."))
    Row 1 has 600 tokens.
    Fix: raise token_budget.
    """

    retryable = False
    exit_code = 1

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\nFix: {self.fix}"


class JobError(WindrowError):
    """The job, its input or the call is wrong; trying again will not help."""

    exit_code = 2


class SourceError(JobError):
    """A file, a query or a column of the source is missing, broken or of the wrong type."""


class ModelError(JobError):
    """The model cannot be found, is incomplete, unsafe, or lacks the head that the task needs."""


class ExportError(ModelError):
    """An engine cannot take the model, or gives other outputs than PyTorch; `torch` runs it."""


class LimitError(JobError):
    """The run would take more hours or cost more than the job allows."""


class SchemaError(JobError):
    """The target table exists with a shape that the job cannot fill."""


class StoreError(WindrowError):
    """The store of runs and predictions cannot be read or written."""

    retryable = True


class HubError(WindrowError):
    """The Hugging Face Hub cannot be reached or is in trouble; the job may be fine."""

    retryable = True


class EngineError(WindrowError):
    """The device or the model failed on every row; the rows are not to blame."""

    retryable = True


class WarehouseError(WindrowError):
    """The warehouse cannot be reached, is locked, or refused a statement."""

    retryable = True


class FencedError(WarehouseError):
    """A later run of the same partition has already published; this one changed nothing."""

    retryable = False


class AuditError(WindrowError):
    """The audit refused to publish; the warehouse is as it was."""

    exit_code = 3


class ReviewError(AuditError):
    """A quality gate wants a person to decide; the run waits, and the warehouse is as it was."""


class Interrupted(WindrowError):  # noqa: N818 (a request, not a fault)
    """A person or the system asked to stop; the run can be resumed."""

    retryable = True
    exit_code = 130


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest choice, or an empty string.

    >>> nearest("modle", ["model", "task"])
    "; did you mean 'model'?"
    """
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
