"""Airflow's web page on a home of its own, in the foreground, on this machine only.

It is what ``airflow standalone`` starts, watched: a part that ends is started again, where ``airflow standalone`` goes
on without it. On SQLite, Airflow's scheduler may end because the database was locked.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import FrameType
from urllib.request import ProxyHandler, Request, build_opener

from rich.console import Console

from windrow.airflow.home import USER, AirflowHome, free_port
from windrow.errors import WindrowError

__all__ = ["Running", "running", "serve"]

PARTS = ("api-server", "scheduler", "dag-processor", "triggerer")
START_S = 300.0
STOP_S = 15.0
ENDS = 5
"""How often a part may end within `ENDS_WITHIN_S` before Airflow is given up."""
ENDS_WITHIN_S = 600.0


def serve(place: AirflowHome, out: Console) -> None:
    """Run Airflow until Ctrl-C, SIGTERM or the end of the terminal; nothing is left running.

    Raises:
        WindrowError: Airflow is missing, does not answer, or does not stay.
    """
    place.prepare()
    out.print("Starting Airflow; this takes half a minute.")
    with _ended_by_signals():
        try:
            with (place.airflow / "migrate.log").open("wb") as log:
                place.migrate(log)
            port = 8080
            while not _served(place, port := free_port(port), out):
                port += 1
        except KeyboardInterrupt:
            out.print("Stopping Airflow.")


def _served(place: AirflowHome, port: int, out: Console) -> bool:
    """Serve on a port until a signal comes; return false if another program has taken the port."""
    with running(place, port) as airflow:
        if not airflow.answers():
            return False
        out.print(f"Airflow is at  [bold]{airflow.url}[/bold]")
        out.print(f"Log in as      [bold]{USER}[/bold]  with the password  [bold]{place.password}[/bold]")
        out.print("Stop it with   Ctrl-C")
        airflow.watch(out)
    return True


@contextmanager
def running(place: AirflowHome, port: int) -> Iterator[Running]:
    """Start Airflow's parts, each in a process group of its own, and stop all groups afterwards."""
    airflow = Running(place, port, free_port(port + 1), free_port(port + 201))
    try:
        for name in PARTS:
            airflow.start(name)
        yield airflow
    finally:
        _stop(airflow.parts.values())


@dataclass(slots=True)
class Running:
    """The parts of an Airflow that runs; each writes its own log into AIRFLOW_HOME."""

    place: AirflowHome
    port: int
    worker_log_port: int
    trigger_log_port: int
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ends: dict[str, list[float]] = field(default_factory=dict)
    """When each part has ended by itself, in seconds of the monotonic clock."""

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}"

    def log(self, name: str) -> Path:
        """Return the log of a part."""
        return self.place.airflow / f"{name}.log"

    def start(self, name: str) -> None:
        """Start a part, away from the terminal's Ctrl-C."""
        environment = self.place.environment(
            API__HOST="127.0.0.1",
            API__PORT=str(self.port),
            API__BASE_URL=self.url,
            API__WORKERS="1",
            CORE__EXECUTION_API_SERVER_URL=f"{self.url}/execution/",
            LOGGING__WORKER_LOG_SERVER_PORT=str(self.worker_log_port),
            LOGGING__TRIGGER_LOG_SERVER_PORT=str(self.trigger_log_port),
        )
        with self.log(name).open("ab" if name in self.ends else "wb") as sink:
            self.parts[name] = subprocess.Popen(
                [sys.executable, "-m", "airflow", name],
                env=environment,
                cwd=self.place.root,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def answers(self) -> bool:
        """Wait until this Airflow answers; return false if another program has taken its port.

        Raises:
            WindrowError: Its server ended, or did not answer in time.
        """
        server = self.parts["api-server"]
        deadline = time.monotonic() + START_S
        while server.poll() is None and time.monotonic() < deadline:
            if self._takes_login():
                return True
            time.sleep(0.5)
        if server.poll() is not None and free_port(self.port) != self.port:
            return False
        raise WindrowError("Airflow does not start.", f"read {self.log('api-server')}.")

    def _takes_login(self) -> bool:
        """Whether the Airflow at the port takes this home's password, as no other one does."""
        login = json.dumps({"username": USER, "password": self.place.password}).encode()
        question = Request(f"{self.url}/auth/token", login, {"Content-Type": "application/json"})  # noqa: S310
        with suppress(OSError, HTTPException), build_opener(ProxyHandler({})).open(question, timeout=5):
            return True
        return False

    def watch(self, out: Console) -> None:
        """Start again whatever ends.

        Raises:
            WindrowError: A part ends too often.
        """
        while True:
            for name, part in self.parts.items():
                if part.poll() is not None:
                    self._restart(name, out)
            time.sleep(0.5)

    def _restart(self, name: str, out: Console) -> None:
        """Stop what a part has left behind, and start it again, later each time.

        Raises:
            WindrowError: It has ended too often.
        """
        code, now = self.parts[name].returncode, time.monotonic()
        self.ends[name] = [end for end in self.ends.get(name, []) if now - end < ENDS_WITHIN_S] + [now]
        _stop([self.parts[name]])
        if len(self.ends[name]) > ENDS:
            raise WindrowError(
                f"Airflow's {name} has ended {len(self.ends[name])} times within {ENDS_WITHIN_S / 60:.0f} minutes, "
                f"the last time with exit code {code}.",
                f"read {self.log(name)}.",
            )
        out.print(f"Airflow's {name} has ended by itself (exit code {code}) and is started again.")
        time.sleep(len(self.ends[name]) - 1)
        self.start(name)


def _stop(leaders: Iterable[subprocess.Popen[bytes]]) -> None:
    """Send TERM to process groups, wait, then KILL what is left of them."""
    leaders = list(leaders)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        alive = [leader for leader in leaders if _signalled(leader.pid, number)]
        while alive and time.monotonic() < deadline:
            for leader in leaders:
                leader.poll()
            time.sleep(0.1)
            alive = [leader for leader in alive if _signalled(leader.pid, 0)]
    for leader in leaders:
        leader.wait()


def _signalled(group: int, number: int) -> bool:
    """Signal a process group; return whether it has any process left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


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
