"""How a command ends: well, with an error told in a few lines, or by a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import typer

from windrow.console import show_error
from windrow.errors import Interrupted, JobError, WindrowError
from windrow.job import windrow_home

__all__ = ["end_with"]

_stopping = threading.Event()


def end_with(command: Callable[[], int | None]) -> NoReturn:
    """Run a command and end the process; every failure becomes a few lines and an exit code.

    Args:
        command: Returns its exit code; None is 0.
    """
    _stopping.clear()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = command() or 0
        if code == Interrupted.exit_code:
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:
        code = _told(error)
    sys.stdout.flush()
    sys.stderr.flush()
    if code == Interrupted.exit_code:
        os._exit(code)
    sys.exit(code)


def _told(error: Exception | KeyboardInterrupt) -> int:
    """Show what ended the command and return its exit code; after a signal, that is the reason for all that fails."""
    if _stopping.is_set() or isinstance(error, KeyboardInterrupt | typer.Abort):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        error = Interrupted("Interrupted; nothing was half published.", "run the same command again: it resumes.")
    if isinstance(error, typer.Exit):
        return int(error.exit_code)
    if isinstance(error, WindrowError):
        show_error(error)
        return error.exit_code
    return _unforeseen(error)


def _unforeseen(error: Exception) -> int:
    """Tell about a wrong call or an error that nobody foresaw; the traceback is kept for a report."""
    if hasattr(error, "format_message"):
        show_error(JobError(error.format_message(), "windrow --help lists commands and options."))
        return 2
    import traceback

    folder = windrow_home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "last-error.txt"
        file.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        where = f"report it with {file}"
    except OSError:
        where = "report it"
    show_error(
        WindrowError(
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}",
            f"this is a fault of Windrow; {where}.",
        )
    )
    return 1


def _stop(*_: int | FrameType | None) -> None:
    _stopping.set()
    raise KeyboardInterrupt
