"""Connections that one step leaves to the next.

A step opens its warehouse for what it does there; in one process (`windrow run`, `windrow backfill`) the next step
takes the same connection, if it still answers. One that has met an error is closed, and so is one that nobody took
for a minute: none is held while texts are scored for long. SQLAlchemy's pool does the rest.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.pool import QueuePool

__all__ = ["IDLE_S", "answers", "close_idle", "let_go", "pooled"]

IDLE_S = 60.0
"""Seconds after which a connection that nobody takes is closed."""
_MOST = 4
"""How many kinds of connections one process keeps; the one kept longest makes room."""
_CLOSING_S = 3.0
"""How long closing is waited for: a server that is gone may keep a driver trying."""
_FRESH_S = 0.5
"""Seconds for which a connection that was just left is believed to be alive."""

logging.getLogger("sqlalchemy.pool.impl.QueuePool.windrow").setLevel(logging.CRITICAL)
"""It would log, with a traceback, what cannot be closed, which is gone anyway."""

_pools: dict[Hashable, QueuePool] = {}
_timers: dict[Hashable, threading.Timer] = {}
_inherited: list[object] = []
_lock = threading.RLock()


def pooled(key: Hashable, connect: Callable[[], Any], is_alive: Callable[[Any], bool]) -> Any:
    """Return a connection, one that was let go before if it still answers; give it back by `let_go`.

    Args:
        key: What connections must share to stand for each other: url and settings.
        connect: Makes one.
        is_alive: Asks one a question that changes nothing.

    Raises:
        Exception: What `connect` raises.
    """
    from sqlalchemy import event, exc
    from sqlalchemy.pool import QueuePool

    def look(connection: Any, record: Any, _: Any) -> None:
        left = record.info.pop("left", None)
        if left is not None and time.monotonic() - left > _FRESH_S and not is_alive(connection):
            raise exc.DisconnectionError

    def leave(_: Any, record: Any) -> None:
        record.info["left"] = time.monotonic()
        _close_later(key)

    with _lock:
        pool = _pools.get(key)
        if pool is None:
            for other in list(_pools)[: 1 - _MOST]:
                _close_idle(other)
            pool = QueuePool(connect, pool_size=1, max_overflow=-1, reset_on_return=None, logging_name="windrow")
            _pools[key] = pool
            event.listen(pool, "checkout", look)
            event.listen(pool, "checkin", leave)
        return pool.connect()


def let_go(connection: Any, is_sound: bool) -> None:
    """Leave a connection to the next step, or close it if anything went wrong with it."""
    with suppress(Exception):  # the connection may be what broke
        if is_sound:
            connection.close()
        else:
            connection.invalidate()


def answers(connection: Any) -> bool:
    """Tell whether a connection answers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
    except Exception:
        return False
    return True


def close_idle() -> None:
    """Close all that no step uses just now, as a task does at its end: its process may end without a word."""
    for key in list(_pools):
        _close_idle(key)


def _close_later(key: Hashable) -> None:
    with _lock:
        if earlier := _timers.pop(key, None):
            earlier.cancel()
        timer = _timers[key] = threading.Timer(IDLE_S, _close_idle, [key])
        timer.daemon = True
        timer.start()


def _close_idle(key: Hashable) -> None:
    with _lock:
        pool = _pools.get(key)
        if pool is not None and not pool.checkedout():
            del _pools[key]
            closing = threading.Thread(target=pool.dispose, daemon=True)
            closing.start()
            closing.join(_CLOSING_S)


def _leave_to_parent() -> None:
    """Forget in a forked process what belongs to its parent, without closing it: both hold the same sockets."""
    global _lock, _pools, _timers
    _inherited.append((_pools, _timers))
    _lock, _pools, _timers = threading.RLock(), {}, {}


atexit.register(close_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
