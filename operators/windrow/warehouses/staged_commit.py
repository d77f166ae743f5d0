"""One transaction of SQL statements, and a commit whose answer may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from windrow.receipt import Receipt
from windrow.warehouses.staged_tables import LostCommitError

__all__ = ["committed", "transaction"]

Run = Callable[[str], object]


@contextmanager
def transaction(run: Run) -> Iterator[None]:
    """Begin a transaction, which the block commits; roll back if it does not end well."""
    run("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        with suppress(Exception):  # the connection may be what broke
            run("ROLLBACK")
        raise


def committed(
    run: Run,
    receipt: Receipt,
    errors: type[Exception] | tuple[type[Exception], ...],
    is_lost: Callable[[Exception], bool],
) -> None:
    """Commit what publishes a run.

    Args:
        run: Runs a statement.
        receipt: Of the run.
        errors: What the driver raises.
        is_lost: Whether one of them means that the connection is gone.

    Raises:
        LostCommitError: It went while the commit was under way.
    """
    try:
        run("COMMIT")
    except errors as error:
        if is_lost(error):
            raise LostCommitError(receipt, error) from None
        raise
