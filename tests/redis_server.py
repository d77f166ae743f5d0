"""A Redis server of a test's own, on this machine only, with nothing on disk."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from windrow.airflow.home import free_port

__all__ = ["redis"]


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """Give the url of an empty server; it is gone afterwards."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port(26379)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    log = folder / "redis.log"
    with subprocess.Popen([program, *options, "--logfile", str(log)]) as server:
        try:
            _await_answer(server, f"{shutil.which('redis-cli')} -p {port} ping".split())
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()


def _await_answer(server: subprocess.Popen[bytes], ping: list[str]) -> None:
    while server.poll() is None:
        if subprocess.run(ping, capture_output=True, text=True, check=False).stdout == "PONG\n":
            return
    raise AssertionError("Redis did not start")
