"""Runs of a job on a disk that fills up at named points; to be run where a file system may be mounted.

    unshare -m python -m faults.small_disk KIND FOLDER MODEL

KIND is a warehouse, which then lies on the small disk, or ``store``, which does so beside a DuckDB file elsewhere.
Prints one JSON object a line: the point, how the run ended, and whether the tables were then as before and, once there
was space again and the run was done, as after an unbroken one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import astuple
from pathlib import Path

import clickhouse_server
from faults.trials import THOROUGH, Site, serve, times_scored
from postgres_server import Server
from warehouses.places import BROKEN, ClickHousePlace, Place, PostgresPlace

__all__ = ["UNABLE"]

UNABLE = 77
"""Exit code where nothing can be mounted."""
MOUNT = ["mount", "-t", "tmpfs", "-o"]
IN_STORE = ["load.begun", "load.rows", "load.shard:2", "infer.begun", "infer.predictions:2", "publish.committed"]
IN_WAREHOUSE = ["publish.checked", "publish.rows.ended"]
IN_WAREHOUSE += ["publish.opened", "publish.rows.passed:2", "publish.rejects.ended"] if THOROUGH else []


class _OnTablespace(PostgresPlace):
    """A database whose files lie on the small disk, while the server's log does not: then it fails, and lives on."""

    def __init__(self, server: Server, small: Path) -> None:
        self.server, self.database = server, "small"
        shutil.chown(small, "nobody")
        self.server.run(f"CREATE TABLESPACE small LOCATION '{small}'")
        self.server.run("CREATE DATABASE small TABLESPACE small")
        self.url = self.server.at(self.database)


def filled(site: Site, point: str, small: Path, store: Path) -> dict[str, object]:
    """Stop a run at a point, fill the disk, let the run go on; then make space and finish it."""
    before = site.content()
    job = site.job(0, store)
    name, _, count = point.partition(":")
    with site.child("run", job, kill_at=f"{name}:{count or 1}:SIGSTOP") as child:
        child.wait_until_stopped()
        _sized(small, _used(small))
        os.kill(child.process.pid, signal.SIGCONT)
        child.listen(timeout_s=120)
    word, value = child.outcome
    _sized(small, _SIZE)
    seen = site.content()
    parts = zip(*map(astuple, (seen, before, site.whole[0])), strict=True)
    site.finished(job, child.ref if word == "failed" else None)
    is_whole = site.content() == site.whole[0] and set(times_scored(store)) == {1}
    site.finished(site.job(1))
    shutil.rmtree(store)
    told = value["told"] if word == "failed" else ""
    return {
        "point": point, "ended": word, "told": told, "retryable": word == "failed" and value["retryable"],
        "parts are old or new": all(part in (old, new) for part, old, new in parts), "all is old": seen == before,
        "whole": is_whole,
    }  # fmt: skip


_SIZE = 400 << 20


def _sized(small: Path, size_bytes: int) -> None:
    subprocess.run([*MOUNT[:-1], "-o", f"remount,size={size_bytes}", "none", str(small)], check=True)


def _used(small: Path) -> int:
    found = os.statvfs(small)
    return max(found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize)


def main(kind: str, folder: Path, model: Path) -> int:
    """Fill the disk at each point in turn; print what came of it."""
    server = Server() if kind == "postgresql" else None
    small = (server.folder if server else folder) / "small"
    clickhouse = None
    small.mkdir()
    try:
        if subprocess.run([*MOUNT, f"size={_SIZE}", "none", str(small)], capture_output=True, check=False).returncode:
            return UNABLE
        is_store = kind == "store"
        place: Place
        if server:
            place = _OnTablespace(server, small)
        elif kind == "clickhouse":
            clickhouse = clickhouse_server.Server(small)
            place = ClickHousePlace(folder, clickhouse)
        else:
            place = BROKEN["duckdb"](folder) if is_store else BROKEN[kind](small)
        serve()
        site = Site("duckdb" if is_store else kind, folder, place, model).prepare()
        for point in IN_STORE if is_store else IN_WAREHOUSE:
            store = (small if is_store else folder) / "store-filled"
            print(json.dumps(filled(site, point, small, store)), flush=True)
    finally:
        for each in filter(None, (server, clickhouse)):
            each.remove()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
