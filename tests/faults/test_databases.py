"""Databases killed, cut off or locked in the middle of a publish: the run is then finished as if nothing had been."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import contextmanager

import pytest

from faults.trials import THOROUGH, Site
from postgres_server import Server, shared
from warehouses.places import PLACES, DuckLakePlace, PostgresPlace
from warehouses.relay import Relay

pytestmark = pytest.mark.faults

IN_TRANSACTION = ["publish.rows.passed:2", "publish.ledger"]
IN_TRANSACTION += ["publish.checked", "publish.rejects.ended"] if THOROUGH else []


class _OwnServer:
    """A place over a server that may be killed: PostgreSQL itself, or a lake whose catalog it holds."""

    def __init__(self, kind, folder):
        self.server = Server()
        database = self.server.database()
        if kind == "postgresql":
            self.place = PostgresPlace(folder)
            self.place.server, self.place.database = self.server, database
            self.place.url = self.server.at(database)
        else:
            self.place = DuckLakePlace(folder, "+postgresql", self.server.at(database).partition("://")[2])


@pytest.fixture(scope="module", params=["postgresql", "ducklake"])
def served(request, tmp_path_factory, fork_server, tiny_classifier):
    """A warehouse filled by unbroken runs, and its server."""
    folder = tmp_path_factory.mktemp(f"served-{request.param}")
    own = _OwnServer(request.param, folder)
    yield Site(request.param, folder, own.place, tiny_classifier).prepare(), own.server
    own.server.remove()


@contextmanager
def stopped(site, job, point):
    """Run a job until it stops itself at a point; it goes on, to its end, when the block is left."""
    name, _, count = point.partition(":")
    with site.child("run", job, kill_at=f"{name}:{count or 1}:SIGSTOP") as child:
        child.wait_until_stopped()
        while child.pipe.poll():
            child.told.append(child.pipe.recv())
        yield child
        os.kill(child.process.pid, signal.SIGCONT)
        child.listen(timeout_s=120)


def finished_whole(site, job, child):
    """Finish what a run began, by itself or as a new run; it must be as an unbroken one."""
    receipt = site.finished(job, child.ref)
    assert site.content() == site.whole[0]
    assert site.owners() == {receipt["run_id"]}
    site.finished(site.job(1))


@pytest.mark.parametrize("point", IN_TRANSACTION)
def test_a_server_killed_and_restarted_in_mid_transaction_has_the_old_rows_and_the_run_is_finished(served, point):
    site, server = served
    before, job = site.content(), site.job(0)
    with stopped(site, job, point) as child:
        server.kill()
        server.start()
    word, value = child.outcome
    assert (word, value["retryable"]) == ("failed", True), child.told
    assert site.content() == before
    finished_whole(site, job, child)


def test_a_server_that_is_down_is_told_and_the_run_goes_on_when_it_is_back(served):
    site, server = served
    job = site.job(0)
    with stopped(site, job, "infer.begun") as child:
        server.kill()
    server.start()
    word, value = child.outcome
    assert (word, value["retryable"]) == ("failed", True), child.told
    finished_whole(site, job, child)


@pytest.fixture(scope="module")
def database(tmp_path_factory, fork_server, tiny_classifier):
    """A database of the shared server, filled by unbroken runs."""
    folder = tmp_path_factory.mktemp("database")
    return Site("postgresql", folder, PostgresPlace(folder), tiny_classifier).prepare()


@pytest.mark.parametrize("point", IN_TRANSACTION)
def test_a_connection_cut_in_mid_transaction_changes_nothing_and_the_run_is_finished(database, point):
    before, job, place = database.content(), database.job(0), database.place
    with stopped(database, job, point) as child:
        place.server.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            f"WHERE datname = '{place.database}' AND application_name = 'windrow'"
        )
    word, value = child.outcome
    assert (word, value["retryable"]) == ("failed", True), child.told
    assert database.content() == before
    finished_whole(database, job, child)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_connection_cut_at_commit_is_looked_into_and_the_run_is_finished(database, arrives):
    place = database.place
    with Relay(shared().folder, forwards_commit=arrives) as relay:
        url = place.server.at(place.database, folder=relay.folder)
        job = database.job(0, warehouse={"url": url, "table": "analytics.scores", "mode": "replace"})
        _, child = database.ended("run", job)
        assert relay.cuts == 1
    word, value = child.outcome
    assert word == ("done" if arrives else "failed"), child.told
    assert arrives or value["retryable"]
    receipt = value if arrives else database.finished(database.job(0))
    assert database.content() == database.whole[0]
    assert database.owners() == {receipt["run_id"]}
    database.finished(database.job(1))


HOLDS = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@contextmanager
def held_by_another(kind, file):
    """Keep a warehouse's file locked from another process, as a forgotten notebook does."""
    if kind == "iceberg":
        with sqlite3.connect(file, isolation_level=None) as con:
            con.execute("BEGIN EXCLUSIVE")
            yield
            con.execute("ROLLBACK")
        con.close()
        return
    command = [sys.executable, "-c", HOLDS, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield
        process.communicate()


@pytest.fixture(scope="module", params=["duckdb", "ducklake", "iceberg"])
def in_a_file(request, tmp_path_factory, fork_server, tiny_classifier):
    """A warehouse that has a file which somebody can lock, and that file."""
    folder = tmp_path_factory.mktemp(f"locked-{request.param}")
    place = PLACES[request.param](folder)
    site = Site(request.param, folder, place, tiny_classifier).prepare()
    return site, folder / "catalog.ducklake" if request.param == "ducklake" else place.file


def test_a_run_waits_for_a_locked_file_and_is_then_finished(in_a_file):
    site, file = in_a_file
    job = site.job(0)
    with stopped(site, job, "publish.begun") as child, held_by_another(site.kind, file):
        os.kill(child.process.pid, signal.SIGCONT)
        assert not child.pipe.poll(1), "it did not wait"
    assert child.outcome[0] == "done", child.told
    assert site.content() == site.whole[0]
    site.finished(site.job(1))


def test_a_file_that_stays_locked_is_told_and_the_run_is_finished_later(in_a_file):
    site, file = in_a_file
    before, job = site.content(), site.job(0)
    with site.child("run", job, kill_at="publish.begun:1:SIGSTOP", WINDROW_LOCK_WAIT_S=0.3) as child:
        child.wait_until_stopped()
        with held_by_another(site.kind, file):
            os.kill(child.process.pid, signal.SIGCONT)
            child.listen(timeout_s=120)
    word, value = child.outcome
    assert (word, value["retryable"]) == ("failed", True), child.told
    assert site.content() == before
    finished_whole(site, job, child)
