"""ClickHouse's real engine (chdb) behind an HTTP interface of the tests' own, so that the real driver speaks to it.

One process a session. What is a stand-in: the HTTP interface, users and their privileges. User ``checked`` needs the
password ``s3cret``; user ``reader`` may only read. Each HTTP connection has a connection to the engine of its own, so
that statements of many clients run beside each other. A statement that has arrived whole runs to its end, though its
client is killed.
"""

from __future__ import annotations

import atexit
import functools
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import uuid
from base64 import b64decode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa

__all__ = ["Server", "shared"]

_READS = ("SELECT", "WITH", "SHOW", "DESCRIBE", "CHECK")


class Server:
    """The engine in a process of its own, listening on a free port.

    Args:
        data: Where its tables lie; in the server's own folder unless given.
    """

    def __init__(self, data: Path | None = None) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="windrow-clickhouse-")
        command = [sys.executable, str(Path(__file__).resolve()), self.folder.name, str(data or self.folder.name)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def at(self, user: str = "default", password: str = "", **options: object) -> str:
        """Return the url of the server."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"clickhouse://{user}:{password}@127.0.0.1:{self.port}/default{f'?{query}' if query else ''}"

    def run(self, statement: str) -> bytes:
        """Run a statement without the driver."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", data=statement.encode()) as answer:
            told: bytes = answer.read()
            return told

    def table(self, query: str) -> pa.Table:
        """Return the rows of a query."""
        told = self.run(f"{query} FORMAT ArrowStream")
        return pa.ipc.open_stream(told).read_all() if told else pa.table({})

    def remove(self) -> None:
        """End the process and remove its files."""
        self.process.kill()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        self.folder.cleanup()


@functools.cache
def shared() -> Server:
    """Return the server that the tests of a session share."""
    server = Server()
    atexit.register(server.remove)
    return server


class _RefusedError(Exception):
    pass


class _Session:
    """What one HTTP connection asks of the engine."""

    def __init__(self, engine: Any, folder: Path) -> None:
        self.engine, self.folder = engine, folder
        self.settings: dict[str, str] = {}
        engine.query("SET compile_expressions = 0")  # compiling takes longer than what small tables save

    def answered(self, params: dict[str, str], body: bytes, user: str) -> bytes:
        """Run one request as ClickHouse's HTTP interface would."""
        statement = params.pop("query", None)
        if statement is None:
            statement, body = body.decode(), b""
        elif body and not re.match(r"\s*INSERT", statement, re.IGNORECASE):
            statement, body = f"{statement}\n{body.decode()}", b""
        if user == "reader" and not statement.lstrip().upper().startswith(_READS):
            raise _RefusedError(
                "Code: 497. DB::Exception: reader: Not enough privileges. To execute this query, it's necessary "
                "to have the grant INSERT(a) ON analytics.reviews. (ACCESS_DENIED) (version 26.9.1.1)"
            )
        if statement.startswith("CHECK GRANT") and user == "reader":
            return b"0\n"
        self._set({name: value for name, value in params.items() if name not in _NOT_SETTINGS})
        if body:
            return self._inserted(statement, body)
        kind = params.get("default_format", "TabSeparated")
        if found := re.search(r"\s+FORMAT\s+(\w+)\s*$", statement):
            statement, kind = statement[: found.start()], found[1]
        return bytes(self.engine.query(statement, kind).bytes())

    def _inserted(self, statement: str, body: bytes) -> bytes:
        into, _, kind = statement.rpartition(" FORMAT ")
        inner = ", ".join(f"`{name}`" for name in re.findall(r"`(C\d+)`", into))
        arriving = self.folder / f"arriving-{uuid.uuid4().hex}"
        arriving.write_bytes(body)
        try:
            return bytes(self.engine.query(f"{into} SELECT {inner} FROM file('{arriving}', '{kind}')").bytes())
        finally:
            arriving.unlink()

    def _set(self, asked: dict[str, str]) -> None:
        """Let the settings of a request be the only ones."""
        for name in self.settings.keys() - asked.keys():
            self.engine.query(f"SET {name} = DEFAULT")
            del self.settings[name]
        for name, value in asked.items():
            if self.settings.get(name) != value:
                self.engine.query(f"SET {name} = '{value}'")
                self.settings[name] = value


_NOT_SETTINGS = {
    "query", "database", "default_format", "query_id", "session_id", "wait_end_of_query", "compress", "decompress",
    "send_progress_in_http_headers", "http_headers_progress_interval_ms", "enable_http_compression",
    "cancel_http_readonly_queries_on_client_close", "client_protocol_version",
}  # fmt: skip


def _serve(folder: Path, data: Path) -> None:
    import chdb

    engine = chdb.connect(str(data / "data"))
    engine.query("SELECT 1")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body of an answer leave together

        def setup(self) -> None:
            super().setup()
            self.session = _Session(chdb.connect(str(data / "data")), folder)

        def finish(self) -> None:
            self.session.engine.close()
            super().finish()

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size)
            if len(body) < size:  # the client was killed while it sent
                self.close_connection = True
                return
            params = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
            given = self.headers.get("Authorization", "Basic ZGVmYXVsdDo=").partition(" ")[2]
            user, _, password = b64decode(given).decode().partition(":")
            told, status = b"", 200
            try:
                if (user == "checked") != (password == "s3cret"):
                    raise _RefusedError(
                        f"Code: 516. DB::Exception: {user}: Authentication failed: password is incorrect, "
                        "or there is no user with such name. (AUTHENTICATION_FAILED) (version 26.9.1.1)"
                    )
                told = self.session.answered(params, body, user)
            except Exception as error:
                told, status = str(error).encode(), 500
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            if status != 200:
                code = re.search(rb"Code: (\d+)", told)
                self.send_header("X-ClickHouse-Exception-Code", code[1].decode() if code else "1")
            self.end_headers()
            self.wfile.write(told)

        do_GET = do_POST  # noqa: N815 (the name that the base class looks for)

        def log_message(self, *_: object) -> None:
            pass

    class Listener(ThreadingHTTPServer):
        request_queue_size = 64

        def handle_error(self, request: Any, address: Any) -> None:
            if not isinstance(sys.exception(), ConnectionError):  # a killed client is none of the server's errors
                super().handle_error(request, address)

    server = Listener(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve(*map(Path, sys.argv[1:]))
