"""Drivers of databases: imported, or named where they are missing; their connections, tried again for some seconds."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from windrow.errors import JobError

__all__ = ["connected", "driver_of"]

T = TypeVar("T")

_WAIT_S = 3.0
"""Long enough for a server that restarts or a network that blinks; a wrong address is still told in seconds."""


def driver_of(module: str, product: str, extra: str) -> Any:
    """Return a driver's module.

    Args:
        module: Its dotted name.
        product: Whose driver it is, for the error.
        extra: Of Windrow, that brings it.

    Raises:
        JobError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        raise JobError(f"The {product} driver is not installed.", f"pip install 'windrow[{extra}]'.") from None


def connected(connect: Callable[[], T], may_pass: Callable[[Exception], bool]) -> T:
    """Return what `connect` returns, trying again with back-off for some seconds; nothing has been asked so far.

    Args:
        connect: Makes a connection, and does nothing else.
        may_pass: Whether an error may be gone a moment later: a server out of reach, not one that refuses.

    Raises:
        Exception: The last that `connect` raised.
    """
    deadline, pause_s = time.monotonic() + _WAIT_S, 0.25
    while True:
        try:
            return connect()
        except Exception as error:
            if not may_pass(error) or time.monotonic() + pause_s > deadline:
                raise
        time.sleep(pause_s * random.uniform(0.5, 1))
        pause_s *= 2
