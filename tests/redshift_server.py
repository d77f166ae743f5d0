"""A stand-in for Redshift: PostgreSQL behind a relay that knows COPY from S3, and a bucket in a folder.

The real drivers (redshift_connector, boto3) speak to it. The relay drops what only Redshift understands of the
greeting, lets backslashes escape in literals, as there, and turns ``COPY … FROM 's3://…' FORMAT AS PARQUET`` into a
COPY of the same rows. SUPER is a domain over ``jsonb``, VARBYTE is ``bytea``. Role ``guarded`` needs ``s3cret``.
"""

from __future__ import annotations

import atexit
import functools
import io
import os
import re
import socket
import struct
import tempfile
import threading
import urllib.parse
import uuid
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

import duckdb
from pyarrow import parquet

import postgres_server

__all__ = ["Server", "shared"]

_KNOWN = (b"user", b"database", b"application_name")
_OPTIONS = b"-c standard_conforming_strings=off -c escape_string_warning=off -c timezone=UTC"
_COPY = re.compile(r"COPY (\S+) FROM 's3://[^/]+/([^']*)' IAM_ROLE .* FORMAT AS PARQUET.*", re.DOTALL)
_PREPARE = """
    CREATE DOMAIN super AS jsonb;
    CREATE FUNCTION json_parse(text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS 'SELECT $1::jsonb';
    CREATE FUNCTION nvl(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT coalesce($1, $2)';
"""


class Server:
    """The relay and the bucket, both in threads; a database a test."""

    def __init__(self) -> None:
        self.postgres = postgres_server.shared()
        self.postgres.run("CREATE ROLE guarded LOGIN")
        self._temporary = tempfile.TemporaryDirectory(prefix="windrow-redshift-")
        self.folder = Path(self._temporary.name)
        self.folder.chmod(0o755)
        self.bucket = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Bucket, self.folder))
        threading.Thread(target=self.bucket.serve_forever, daemon=True).start()
        self.door = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._open, daemon=True).start()

    def at(self, database: str, user: str = "windrow", password: str = "x", **options: object) -> str:
        """Return the url of a database of this server."""
        endpoint = f"http://127.0.0.1:{self.bucket.server_address[1]}"
        given = {"ssl": "false", "stage": "s3://rows/stage", "endpoint_url": endpoint, "region": "eu-west-1", **options}
        query = urllib.parse.urlencode(given)
        return f"redshift://{user}:{password}@127.0.0.1:{self.door.getsockname()[1]}/{database}?{query}"

    def database(self) -> str:
        """Make an empty database; return its name."""
        name = self.postgres.database()
        for statement in _PREPARE.strip().split(";\n"):
            self.postgres.run(statement.strip().rstrip(";"), name)
        return name

    def remove(self) -> None:
        """Close both."""
        self.door.close()
        self.bucket.shutdown()
        self.bucket.server_close()
        self._temporary.cleanup()

    def _open(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._relay, args=(self.door.accept()[0],), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, suppress(OSError):
            server.connect(str(self.postgres.folder / ".s.PGSQL.5432"))
            stream = client.makefile("rb")
            greeting = stream.read(struct.unpack("!i", stream.read(4))[0] - 4)
            if b"\0guarded\0" in greeting and not _knows_password(client, stream):
                return
            server.sendall(_greeting(greeting))
            back = threading.Thread(target=_pour, args=(server, client), daemon=True)
            back.start()
            while head := stream.read(5):
                kind, size = struct.unpack("!ci", head)
                body = stream.read(size - 4)
                server.sendall(self._translated(body) if kind == b"P" else head + body)
            server.shutdown(socket.SHUT_RDWR)
            back.join(10)

    def _translated(self, body: bytes) -> bytes:
        """Return a statement to prepare as PostgreSQL takes it."""
        name, text, rest = body.split(b"\0", 2)
        statement = re.sub(r"\bVARBYTE\(\d+\)", "BYTEA", text.decode())
        statement = re.sub(r"(format_type\(.*?\))", r"replace(\1, 'bytea', 'binary varying')", statement)
        if found := _COPY.fullmatch(statement):
            file = self.folder / f"{uuid.uuid4().hex}.csv"
            _as_csv(sorted((self.folder / found[2]).glob("*.parquet")), file)
            file.chmod(0o644)
            statement = f"COPY {found[1]} FROM '{file}' (FORMAT csv, NULL '\\\\N')"
        body = name + b"\0" + statement.encode() + b"\0" + rest
        return b"P" + struct.pack("!i", len(body) + 4) + body


def _knows_password(client: socket.socket, stream: IO[bytes]) -> bool:
    """Ask for the password, and refuse another than ``s3cret``."""
    client.sendall(b"R" + struct.pack("!ii", 8, 3))
    kind, size = struct.unpack("!ci", stream.read(5))
    if kind == b"p" and stream.read(size - 4) == b"s3cret\0":
        return True
    told = b'SFATAL\0C28000\0Mpassword authentication failed for user "guarded"\0\0'
    client.sendall(b"E" + struct.pack("!i", len(told) + 4) + told)
    return False


def _greeting(body: bytes) -> bytes:
    words = body[4:].rstrip(b"\0").split(b"\0")
    pairs = dict(zip(words[::2], words[1::2], strict=True))
    kept = {name: value for name, value in pairs.items() if name in _KNOWN} | {b"options": _OPTIONS}
    told = body[:4] + b"".join(name + b"\0" + value + b"\0" for name, value in kept.items()) + b"\0"
    return struct.pack("!i", len(told) + 4) + told


def _pour(source: socket.socket, target: socket.socket) -> None:
    """Pass on what the server says, its version as Redshift tells it."""
    with suppress(OSError):
        stream, kind = source.makefile("rb", buffering=0), b""
        while kind != b"Z" and (head := _exactly(stream, 5)):
            kind, size = struct.unpack("!ci", head)
            body = _exactly(stream, size - 4)
            if kind == b"S" and body.startswith(b"server_version\0"):
                body = b"server_version\x008.0.2\0"
            target.sendall(kind + struct.pack("!i", len(body) + 4) + body)
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


def _exactly(stream: io.RawIOBase, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := stream.read(size - len(data))):
        data += piece
    return data


def _as_csv(files: list[Path], target: Path) -> None:
    """Write rows as PostgreSQL's COPY reads them."""
    names = parquet.read_schema(files[0])
    columns = ", ".join(
        f"'\\x' || lower(hex({field.name})) AS {field.name}" if str(field.type) == "binary" else f'"{field.name}"'
        for field in names
    )
    with duckdb.connect() as con:
        query = f"SELECT {columns} FROM read_parquet({[str(file) for file in files]})"
        con.execute(f"COPY ({query}) TO '{target}' (FORMAT csv, HEADER false, NULLSTR '\\N')")


class _Bucket(BaseHTTPRequestHandler):
    """As much of S3 as is needed to put and delete objects."""

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, *args: object) -> None:
        self.folder = folder
        super().__init__(*args)  # type: ignore[arg-type]

    def do_PUT(self) -> None:
        self._answer(self._write)

    def do_DELETE(self) -> None:
        self._answer(lambda file, _: file.unlink(missing_ok=True), 204)

    def _write(self, file: Path, data: bytes) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def _answer(self, work: object, status: int = 200) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket, _, key = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/").partition("/")
        if bucket == "rows":
            work(self.folder / key, data)  # type: ignore[operator]
        self.send_response(status if bucket == "rows" else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@functools.cache
def shared() -> Server:
    """Return the server that the tests of a session share; the bucket takes any credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ.setdefault(name, "any")
    server = Server()
    atexit.register(server.remove)
    return server
