"""Connecting: a server that is away for a moment is waited for, one that refuses is not, a missing driver is named."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from warehouses.places import STAND_INS
from windrow import drivers
from windrow.drivers import connected, driver_of
from windrow.errors import JobError, WarehouseError
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName


class Door:
    """A port at which nobody listens until it is opened; then it leads to a server."""

    def __init__(self, server: int) -> None:
        self.server, self.is_open = server, False
        self.threads: list[threading.Thread] = []
        self.clients: list[socket.socket] = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def open(self) -> None:
        self.is_open = True
        self.listener.listen()
        self._start(self._accept)

    def close(self) -> None:
        for each in (self.listener, *self.clients):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)

    def _start(self, work, *args) -> threading.Thread:
        self.threads.append(threading.Thread(target=work, args=args, daemon=True))
        self.threads[-1].start()
        return self.threads[-1]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self.clients.append(self.listener.accept()[0])
                self._start(self._lead, self.clients[-1])

    def _lead(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.server)) as server:
            back = self._start(self._pour, server, client)
            self._pour(client, server)
            back.join()

    def _pour(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


class Clock:
    """Time that passes while one sleeps, and only then."""

    def __init__(self, meanwhile) -> None:
        self.meanwhile, self.pauses = meanwhile, []

    def monotonic(self) -> float:
        return sum(self.pauses)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.meanwhile()


def port_of(kind, place):
    if kind == "clickhouse":
        return place.server.port
    if kind == "redshift":
        return place.redshift.door.getsockname()[1]
    return int(place.server.place.rpartition(":")[2])


@pytest.fixture(params=["clickhouse", "databricks", "redshift"])
def away(request, tmp_path):
    """A door to a warehouse, still shut, and the warehouse's url through it."""
    place = STAND_INS[request.param](tmp_path)
    port = port_of(request.param, place)
    door = Door(port)
    yield door, place.url.replace(str(port), str(door.port), 1)
    door.close()


def enter(url):
    with open_url(url, TableName.parse("analytics.reviews"), writes=False) as warehouse:
        return warehouse.read("ledger", {}).num_rows


def test_a_server_that_is_away_for_a_moment_is_waited_for(away, monkeypatch):
    door, url = away
    monkeypatch.setattr(drivers, "time", Clock(door.open))
    assert enter(url) == 0
    assert door.is_open


def test_a_server_that_stays_away_is_given_up_after_some_tries(away, monkeypatch):
    clock = Clock(lambda: None)
    monkeypatch.setattr(drivers, "time", clock)
    with pytest.raises(WarehouseError, match="cannot be reached"):
        enter(away[1])
    assert len(clock.pauses) >= 2
    assert sum(clock.pauses) <= 3


def test_who_refuses_is_not_asked_again(monkeypatch):
    asked = []

    def connect():
        asked.append(1)
        raise PermissionError("no")

    monkeypatch.setattr(drivers, "time", Clock(lambda: None))
    with pytest.raises(PermissionError):
        connected(connect, lambda error: isinstance(error, ConnectionError))
    assert asked == [1]


def test_a_missing_driver_is_named_with_the_extra_that_brings_it():
    with pytest.raises(JobError, match="The Tape driver is not installed") as refused:
        driver_of("windrow_has.no_such_driver", "Tape", "tape")
    assert refused.value.fix == "pip install 'windrow[tape]'."
