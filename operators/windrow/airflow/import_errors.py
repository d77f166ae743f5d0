"""Import errors under the path of a job file, told to the importer that is reading the Dag file at this moment.

Airflow lists one import error a path, and gives a Dag file that is being read no way to report one for another
path. Its importer has such a list, though, which it has opened further up in the stack: there the errors are put.
So every reader of Dag files sees them: the Dag processor and its page, ``airflow dags list-import-errors``, and
``DagBag.import_errors`` in tests.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["tell_airflow"]


def tell_airflow(problems: Mapping[Path, str]) -> bool:
    """Add import errors by file to what is being imported; return whether somebody is importing.

    Args:
        problems: What is wrong, by absolute path.
    """
    for frame in _frames():
        found = frame.f_locals
        owner: Any = found.get("self")
        if type(found.get("result")).__name__ == "DagImportResult" and "bundle_path" in found:
            from airflow.dag_processing.importers import DagImportError

            for file, text in problems.items():
                path = _relative(file, found["bundle_path"])
                found["result"].errors.append(DagImportError(file_path=path, message=text, error_type="windrow"))
            return True
        if isinstance(getattr(owner, "import_errors", None), dict) and hasattr(owner, "bag_dag"):
            bundle = getattr(owner, "bundle_path", None)  # before Airflow 3.3
            owner.import_errors.update({_relative(file, bundle): text for file, text in problems.items()})
            return True
    return False


def _relative(file: Path, bundle: Any) -> str:
    """Return a file's path in its bundle, as Airflow names Dag files; the whole path where there is no bundle."""
    return str(file.relative_to(bundle)) if bundle and file.is_relative_to(bundle) else str(file)


def _frames() -> Iterator[FrameType]:
    """Yield the frames of this call, innermost first."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
