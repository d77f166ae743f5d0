"""SQL to query what a run has published."""

from __future__ import annotations

import re

__all__ = ["statements"]


def statements(table: str, partition: str, run_id: str, has_labels: bool) -> list[tuple[str, str]]:
    r"""Return titles and statements, in SQL that all warehouses read.

    >>> print(statements("sales.reviews", "it's", "r1", has_labels=False)[0][1])
    SELECT *
    FROM sales.reviews
    WHERE windrow_partition = 'it''s'
    LIMIT 100;
    """
    name, rejects = _name(table), _name(f"{table}__rejects")
    ledger = _name(".".join([*table.split(".")[:-1], "windrow_runs"]))
    mine = f"WHERE windrow_partition = {_literal(partition)}"
    mix = (
        f"SELECT label, count(*) AS num_rows, avg(score) AS mean_score\nFROM {name}\n{mine}\n"
        "GROUP BY label\nORDER BY num_rows DESC;"
    )
    return [
        ("The rows of this partition", f"SELECT *\nFROM {name}\n{mine}\nLIMIT 100;"),
        *([("Its labels", mix)] if has_labels else []),
        ("Rows that could not be scored", f"SELECT *\nFROM {rejects}\n{mine}\nORDER BY reason\nLIMIT 100;"),
        ("The ledger's row of this run", f"SELECT *\nFROM {ledger}\nWHERE run_id = {_literal(run_id)};"),
    ]


def _name(table: str) -> str:
    """Quote the parts of a table's name that need it."""
    parts = table.split(".")
    return ".".join(part if re.fullmatch(r"[a-z_][a-z0-9_]*", part) else _quoted(part) for part in parts)


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'


def _literal(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
