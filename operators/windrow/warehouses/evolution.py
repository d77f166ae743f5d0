"""How a table's columns may change: added as nullable, widened, never narrowed."""

from __future__ import annotations

__all__ = ["can_hold", "widened"]

_INTEGERS = ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"]
_UNSIGNED = ["UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"]
_FLOATS = ["FLOAT", "DOUBLE"]
_CHAINS = (_INTEGERS, _UNSIGNED, _FLOATS)


def can_hold(table: str, asked: str) -> bool:
    """Tell whether a column of type `table` holds every value of type `asked` unchanged.

    >>> can_hold("BIGINT", "INTEGER"), can_hold("INTEGER", "BIGINT"), can_hold("VARCHAR", "INTEGER")
    (True, False, False)
    >>> can_hold("DOUBLE[]", "FLOAT[]")
    True
    """
    if table == asked:
        return True
    if table.endswith("[]") and asked.endswith("[]"):
        return can_hold(table[:-2], asked[:-2])
    for chain in _CHAINS:
        if table in chain and asked in chain:
            return chain.index(table) >= chain.index(asked)
    if table in _INTEGERS and asked in _UNSIGNED:
        return _INTEGERS.index(table) > _UNSIGNED.index(asked)
    mine, theirs = _decimal(table), _decimal(asked)
    if mine and theirs:
        return mine[1] >= theirs[1] and mine[0] - mine[1] >= theirs[0] - theirs[1]
    return False


def widened(table: str, asked: str) -> str | None:
    """Return the type that a column must become to hold `asked`; None if no widening can.

    >>> widened("INTEGER", "BIGINT"), widened("BIGINT", "VARCHAR"), widened("FLOAT[]", "DOUBLE[]")
    ('BIGINT', None, 'DOUBLE[]')
    """
    if can_hold(table, asked):
        return table
    if can_hold(asked, table):
        return asked
    if table.endswith("[]") and asked.endswith("[]"):
        inner = widened(table[:-2], asked[:-2])
        return f"{inner}[]" if inner else None
    mine, theirs = _decimal(table), _decimal(asked)
    if mine and theirs:
        scale = max(mine[1], theirs[1])
        width = max(mine[0] - mine[1], theirs[0] - theirs[1]) + scale
        return f"DECIMAL({width},{scale})" if width <= 38 else None
    return None


def _decimal(kind: str) -> tuple[int, int] | None:
    if not kind.startswith("DECIMAL("):
        return None
    width, scale = kind[8:-1].split(",")
    return int(width), int(scale)
