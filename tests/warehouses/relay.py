"""A socket between client and server that cuts the connection when rows are committed."""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

__all__ = ["Relay"]

_NAME = ".s.PGSQL.5432"


class Relay:
    """Passes PostgreSQL's protocol on; the first COMMIT after a COPY is where it cuts.

    Args:
        server: The folder of the server's socket.
        forwards_commit: Whether the server still gets the COMMIT, and only its answer is lost.
        closes: Whether nobody is let in after the cut.
    """

    def __init__(self, server: Path, forwards_commit: bool, closes: bool = False) -> None:
        self.server, self.forwards_commit, self.closes = server, forwards_commit, closes
        self.folder, self.cuts = Path(tempfile.mkdtemp(prefix="windrow-relay-")), 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener.bind(str(self.folder / _NAME))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for thread in self._threads:
            thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self.server / _NAME))
                self._threads.append(threading.Thread(target=self._ask, args=(client, server), daemon=True))
                self._threads[-1].start()

    def _ask(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the client sends; what the server answers is passed by another thread."""
        muted, copied = threading.Event(), False
        answers = threading.Thread(target=self._answer, args=(server, client, muted), daemon=True)
        answers.start()
        with client, server:
            with suppress(OSError):
                while data := client.recv(65536):
                    copied = copied or b"FROM STDIN" in data
                    if copied and not self.cuts and b"COMMIT" in data:
                        self._cut(client, server, data, muted)
                        break
                    server.sendall(data)
                server.shutdown(socket.SHUT_WR)
            answers.join()

    def _cut(self, client: socket.socket, server: socket.socket, data: bytes, muted: threading.Event) -> None:
        self.cuts += 1
        muted.set()
        if self.closes:
            (self.folder / _NAME).unlink()
        if self.forwards_commit:
            server.sendall(data)
        client.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket, muted: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if not muted.is_set():
                    client.sendall(data)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)
