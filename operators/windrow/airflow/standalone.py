"""Airflow's web page on a home of its own, in the foreground, on this machine only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.error import URLError
from urllib.request import urlopen

from rich.console import Console

from windrow.airflow.home import USER, AirflowHome, free_port
from windrow.errors import WindrowError

__all__ = ["running", "serve"]

START_S = 300.0
STOP_S = 15.0


def serve(place: AirflowHome, out: Console) -> None:
    """Run ``airflow standalone`` until Ctrl-C, SIGTERM or the end of the terminal; nothing is left running.

    Raises:
        WindrowError: Airflow is missing, or does not answer.
    """
    place.prepare()
    port = free_port(8080)
    log = place.airflow / "standalone.log"
    out.print("Starting Airflow; this takes half a minute.")
    with running(place, port, log) as airflow, _ended_by_signals():
        try:
            _await(f"http://127.0.0.1:{port}/api/v2/monitor/health", airflow, log)
            out.print(f"Airflow is at  [bold]http://127.0.0.1:{port}[/bold]")
            out.print(f"Log in as      [bold]{USER}[/bold]  with the password  [bold]{place.password}[/bold]")
            out.print("Stop it with   Ctrl-C")
            code = airflow.wait()
        except KeyboardInterrupt:
            out.print("Stopping Airflow.")
            return
    raise WindrowError(f"Airflow has stopped by itself (exit code {code}).", f"read {log}.")


@contextmanager
def running(place: AirflowHome, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start Airflow in a process group of its own, and stop the whole group afterwards."""
    url = f"http://127.0.0.1:{port}"
    environment = place.environment(
        API__HOST="127.0.0.1",
        API__PORT=str(port),
        API__BASE_URL=url,
        API__WORKERS="1",
        CORE__EXECUTION_API_SERVER_URL=f"{url}/execution/",
        LOGGING__WORKER_LOG_SERVER_PORT=str(free_port(port + 1)),
        LOGGING__TRIGGER_LOG_SERVER_PORT=str(free_port(port + 201)),
    )
    with log.open("wb") as sink:
        airflow = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=environment,
            cwd=place.root,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield airflow
    finally:
        _stop_group(airflow)


def _stop_group(leader: subprocess.Popen[bytes]) -> None:
    """Send TERM to the process group, wait, then KILL what is left of it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        alive = _signalled(leader.pid, number)
        while alive and time.monotonic() < deadline:
            leader.poll()
            time.sleep(0.1)
            alive = _signalled(leader.pid, 0)
    leader.wait()


def _signalled(group: int, number: int) -> bool:
    """Signal a process group; return whether it has any process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _await(url: str, airflow: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until Airflow answers.

    Raises:
        WindrowError: It ended, or did not answer in time.
    """
    deadline = time.monotonic() + START_S
    while airflow.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5):  # noqa: S310 (this machine's own Airflow)
                return
        except (URLError, OSError):
            time.sleep(0.5)
    raise WindrowError("Airflow does not start.", f"read {log}.")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the wait as Ctrl-C does."""

    def end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (so Python calls it)
        raise KeyboardInterrupt

    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
