"""Runs that are killed between any two effects, then finished: the tables are those of an unbroken run."""

from __future__ import annotations

import ast
import inspect
import itertools
import shutil
import signal
from dataclasses import astuple
from importlib import import_module
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import REPOSITORY
from faults.trials import THOROUGH, times_scored
from warehouses.places import BROKEN
from windrow.faults import POINTS
from windrow.warehouses import WAREHOUSES

pytestmark = pytest.mark.faults

OWN = {"publish.ledger", "publish.staged", "publish.claimed", "publish.table"}
"""Points within a warehouse's own way to commit, which its module has to name."""
PUTS = [f"store.put:{number}" for number in (range(1, 16) if THOROUGH else (2, 8, 15))]
MIDDLES = ["load.shard:3", "infer.scored:2", "infer.predictions:4"]
BEFORE_PUBLISH = (
    [point for point in POINTS if point.startswith(("load.", "infer.")) and point != "load.gone"] + PUTS[:-1] + MIDDLES
)
IN_PUBLISH = [point for point in POINTS if point.startswith("publish.")] + PUTS[-1:] + ["publish.rows.passed:2"]
SLOW = set() if THOROUGH else {"clickhouse"}
"""Warehouses whose runs take seconds, so that only what is their own is tried where time is short."""
_VARIANTS = itertools.cycle([0, 1])


def is_named(kind: str, point: str) -> bool:
    """Tell whether the modules of a warehouse reach a point."""
    module, _, name = WAREHOUSES[kind].partition(":")
    parts = getattr(import_module(module), name).__mro__[:-1]
    return any(f'reach("{point}")' in Path(inspect.getfile(part)).read_text(encoding="utf-8") for part in parts)


def killed_and_finished(site, point, resumed):
    """Kill a run at a point, look at the tables, finish it, and compare.

    Args:
        resumed: Whether infer and publish of the same run are tried again, as Airflow does; else it is a new run.
    """
    variant, store = next(_VARIANTS), site.folder / "store-killed"
    before, job = site.content(), site.job(variant, store)
    code, child = site.ended("run", job, kill_at=point)
    assert code == -signal.SIGKILL, child.told
    if not resumed:  # looking may mend what the next run has to stand
        seen, allowed = site.content(), (before, site.whole[variant])
        if is_named(site.kind, "publish.claimed"):  # tables that commit one by one: each is old or new
            assert all(part in parts for part, *parts in zip(astuple(seen), *map(astuple, allowed), strict=True))
        else:
            assert seen in allowed
    receipt = site.finished(job, child.ref if resumed else None)
    assert site.content() == site.whole[variant]
    assert set(times_scored(store)) == {1}
    assert site.owners() == {receipt["run_id"]} or site.mode == "upsert"
    assert site.ledger()[-1] == receipt["run_id"]
    shutil.rmtree(store)


def points(names, resumable):
    """Return the points with both ways of finishing; one after the other where time is short."""
    both = [(name, resumed) for name in names for resumed in ((True, False) if resumable(name) else (False,))]
    if THOROUGH:
        return both
    taken = {name: number % 2 == 1 for number, name in enumerate(names)}
    return [(name, resumed) for name, resumed in both if not resumable(name) or taken[name] == resumed]


def is_loaded(point: str) -> bool:
    return not point.startswith("load.") and point not in PUTS[: len(PUTS) // 2]


def reached_by(kind: str, names):
    """Return the points that a publish to a warehouse reaches; the others are not in its way to commit."""
    reached = [name for name in names if name not in OWN or is_named(kind, name)]
    return [name for name in reached if kind not in SLOW or name in {*OWN, "publish.committed"}]


@pytest.mark.parametrize(
    ("site", "point", "resumed"),
    [(kind, *each) for kind in BROKEN for each in points(reached_by(kind, IN_PUBLISH), lambda _: True)],
    indirect=["site"],
)
def test_a_run_killed_in_publish_and_finished_equals_an_unbroken_one(site, point, resumed):
    killed_and_finished(site, point, resumed)


@pytest.mark.parametrize("site", list(BROKEN) if THOROUGH else ["duckdb"], indirect=True)
@pytest.mark.parametrize(("point", "resumed"), points(BEFORE_PUBLISH, is_loaded))
def test_a_run_killed_before_publish_and_finished_equals_an_unbroken_one(site, point, resumed):
    killed_and_finished(site, point, resumed)


def test_predictions_that_were_being_merged_are_all_there(site):
    store = site.folder / "store-merged"
    job = site.job(0, store)
    site.finished(job)
    code, _ = site.ended("compact", job, kill_at="compact.merged")
    assert code == -signal.SIGKILL
    assert site.finished(job)["texts_scored"] == 0
    assert site.content() == site.whole[0]
    site.finished(site.job(1))


LATE = ("publish.rows.ended", "publish.table", "publish.ledger", "publish.committed", "publish.receipt")
APPENDED = [point for point in IN_PUBLISH if point.startswith("publish.")] if THOROUGH else LATE


@pytest.mark.parametrize(
    ("site", "point"),
    [(kind, point) for kind in BROKEN for point in reached_by(kind, APPENDED)],
    indirect=["site"],
)
def test_an_append_killed_in_publish_is_there_once(site, point):
    partition = f"append {point}"
    job = site.job(0, warehouse={"url": site.place.url, "table": "analytics.appended", "mode": "append"})
    number = ":2" if point == "publish.checked" else ""  # load looks too
    code, child = site.ended("run", job, kill_at=point + number, partition=partition)
    assert code == -signal.SIGKILL, child.told
    receipt = site.finished(job, child.ref)
    found = [row for row in site.place.rows("appended").to_pylist() if row["windrow_partition"] == partition]
    assert len({row["id"] for row in found}) == len(found) == receipt["rows_published"]
    assert receipt["run_id"] in site.ledger()
    left = site.place.names() if hasattr(site.place, "names") else []
    assert not [name for name in left if name.startswith("windrow_") and name != "windrow_runs"]


UPSERTED = APPENDED if THOROUGH else ("publish.rows.passed:2", "publish.table", "publish.ledger")


@pytest.mark.parametrize(
    ("site", "point"),
    [(kind, point) for kind in BROKEN for point in reached_by(kind, UPSERTED)],
    indirect=["site"],
)
def test_an_upsert_killed_in_publish_and_finished_equals_an_unbroken_one(site, point):
    def job(table, variant):
        warehouse = {"url": site.place.url, "table": f"analytics.{table}", "mode": "upsert"}
        return site.job(variant, warehouse=warehouse)

    for variant in (1, 0) if not site.rows("unbroken")[0] else ():
        site.finished(job("unbroken", variant), partition=f"p{variant}")
    site.finished(job("upserted", 1), partition="p1")
    killed = job("upserted", 0)
    code, child = site.ended("run", killed, kill_at=point, partition="p0")
    assert code == -signal.SIGKILL, child.told
    site.finished(killed, child.ref)
    assert site.rows("upserted") == site.rows("unbroken")


@pytest.mark.parametrize("site", ["duckdb"], indirect=True)
def test_keys_that_the_source_deleted_go_though_the_run_that_noted_them_was_killed(site):
    file = site.folder / "deleting.parquet"

    def write(deleted):
        ids = list(range(60))
        rows = {"id": ids, "body": [f"good film {number}" for number in ids], "gone": [i in deleted for i in ids]}
        parquet.write_table(pa.table(rows), file)

    def job(table):
        source = {"path": str(file), "text": "body", "key": "id", "deleted": "gone"}
        return site.job(
            source=source, warehouse={"url": site.place.url, "table": f"analytics.{table}", "mode": "upsert"}
        )

    whole, killed = job("deleted_whole"), job("deleted_killed")
    write(())
    site.finished(whole), site.finished(killed)
    write(range(0, 60, 7))
    site.finished(whole)
    code, child = site.ended("run", killed, kill_at="load.gone")
    assert code == -signal.SIGKILL, child.told
    assert site.place.rows("deleted_killed").num_rows == 60
    assert site.finished(killed)["rows_deleted"] == 9
    assert site.rows("deleted_killed") == site.rows("deleted_whole")
    assert not set(site.place.rows("deleted_killed")["id"].to_pylist()) & set(range(0, 60, 7))


def reached_in(file: Path) -> set[str]:
    """Return the points that a module reaches; of one that is put together, its start and a star."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in {"reach", "watched"}:
            name = node.args[-1]
            text = name.value if isinstance(name, ast.Constant) else f"{name.values[0].value}*"
            ends = ("",) if node.func.id == "reach" else (".begun", ".passed", ".ended")
            found |= {text + end for end in ends}
    return found


def test_every_point_is_named_in_the_code_and_every_name_is_a_point():
    files = [file for file in (REPOSITORY / "operators/windrow").rglob("*.py") if file.name != "faults.py"]
    named = set().union(*map(reached_in, files))
    made_up = {name.removesuffix("*") for name in named if name.endswith("*")}
    assert {name for name in named if not name.endswith("*")} <= set(POINTS)
    assert [point for point in POINTS if point not in named and not point.startswith(tuple(made_up))] == []


def test_every_point_is_one_at_which_a_run_is_killed():
    tried = {point.partition(":")[0] for point in (*BEFORE_PUBLISH, *IN_PUBLISH)}
    assert tried | {"compact.merged", "load.gone"} == set(POINTS)  # which have tests of their own
