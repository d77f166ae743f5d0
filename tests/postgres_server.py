"""A PostgreSQL server of the tests' own: one cluster a session, a database a test."""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

__all__ = ["Server", "shared"]

_NUMBERS = itertools.count()


class Server:
    """A cluster in a folder, reached by a Unix socket; role ``windrow`` owns it, role ``checked`` needs ``s3cret``."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        self.programs = found[-1] if found else Path(shutil.which("initdb") or "/x").parent
        if not (self.programs / "initdb").exists():
            pytest.skip("PostgreSQL is not installed")
        self.folder = Path(tempfile.mkdtemp(prefix="windrow-postgres-"))
        is_root = os.geteuid() == 0
        if is_root:
            shutil.chown(self.folder, "nobody")
        self.user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if is_root else []
        self.url = self.at("postgres")
        self._call("initdb", "-A", "trust", "-U", "windrow", "-E", "UTF8", "--no-locale", "--no-sync")
        access = self.folder / "data" / "pg_hba.conf"
        access.write_text("local all checked scram-sha-256\nlocal all all trust\n", encoding="utf-8")
        self.start()
        self.run("CREATE ROLE checked LOGIN PASSWORD 's3cret'")

    def at(self, database: str, user: str = "windrow", folder: Path | None = None) -> str:
        """Return the url of a database of this server."""
        return f"postgresql://{user}@/{database}?host={folder or self.folder}"

    def database(self) -> str:
        """Make an empty database; return its name."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off -c shared_buffers=32MB -c max_connections=40"
        self._call("pg_ctl", "-w", "-o", options, "-l", str(self.folder / "log"), "start")

    def kill(self) -> None:
        """Kill all processes of the server, as a machine that fails would."""
        file = self.folder / "data" / "postmaster.pid"
        first = psutil.Process(int(file.read_text(encoding="utf-8").split()[0]))
        processes = [first, *first.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)

    def remove(self) -> None:
        """Stop the server and remove its files."""
        self._call("pg_ctl", "-w", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, statement: str, database: str = "postgres") -> None:
        """Run a statement as the owner, in no transaction."""
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.at(database), autocommit=True) as con, con.cursor() as cursor:
            cursor.execute(statement)

    def rows(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Return the rows of a query, as the owner."""
        from adbc_driver_postgresql import dbapi

        with dbapi.connect(self.at(database)) as con, con.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    def _call(self, program: str, *arguments: str, check: bool = True) -> None:
        command = [*self.user, str(self.programs / program), "-D", str(self.folder / "data"), *arguments]
        subprocess.run(command, check=check, capture_output=True, cwd="/")


@functools.cache
def shared() -> Server:
    """Return the server that the tests of a session share."""
    server = Server()
    atexit.register(server.remove)
    return server
