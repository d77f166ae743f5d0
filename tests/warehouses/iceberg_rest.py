"""A stand-in for a REST catalog of Iceberg: its protocol over HTTP, a SQL catalog of pyiceberg behind it.

What the specification asks of a server is done for real (requirements are checked, commits refused that come second,
callers without a token sent away), so that what speaks to it is pyiceberg's own client.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self
from urllib.parse import parse_qs, unquote

from pyiceberg import exceptions
from pyiceberg.catalog.rest import CreateTableRequest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import CommitTableRequest, Table
from pyiceberg.table.metadata import new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

TOKEN = "t0ken"
CODES = {
    exceptions.NoSuchTableError: 404,
    exceptions.NoSuchNamespaceError: 404,
    exceptions.TableAlreadyExistsError: 409,
    exceptions.NamespaceAlreadyExistsError: 409,
    exceptions.CommitFailedException: 409,
}


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, kind: str, words: str = "") -> None:
        super().__init__(words)
        self.code, self.kind, self.words = code, kind, words


class IcebergRest(ThreadingHTTPServer):
    """The server, in a thread of its own, on a free port.

    Args:
        folder: Where catalog and tables lie.
        credential: What a client gives for a token, ``id:secret``.
    """

    daemon_threads = True

    def __init__(self, folder: Path, credential: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        folder.mkdir(parents=True, exist_ok=True)
        self.catalog = SqlCatalog("kept", uri=f"sqlite:///{folder / 'catalog.db'}", warehouse=f"file://{folder}")
        self.credential, self.lock = credential, threading.Lock()
        self.commits = 0
        self.spoil: Callable[[int], int | None] = lambda _: None
        """Given the number of a commit that has been made, the code to answer instead of its result."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()
        self.catalog.close()


class Handler(BaseHTTPRequestHandler):
    """One request; answers are as the specification has them."""

    protocol_version = "HTTP/1.1"
    server: IcebergRest

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0].removeprefix("/v1/")
        try:
            if path == "oauth/tokens":
                found = self.token({name: values[0] for name, values in parse_qs(body.decode()).items()})
            elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise RefusedError(401, "NotAuthorizedException", "no valid token")
            else:
                with self.server.lock:
                    found = self.routed([unquote(part) for part in path.split("/")], body)
        except RefusedError as error:
            return self.send(error.code, {"error": {"message": error.words, "type": error.kind, "code": error.code}})
        except tuple(CODES) as error:
            code = next(code for kind, code in CODES.items() if isinstance(error, kind))
            return self.send(code, {"error": {"message": str(error), "type": type(error).__name__, "code": code}})
        return self.send(200 if found is not None else 204, found)

    do_GET = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 (as http.server calls them)

    def send(self, code: int, value: Any) -> None:
        data = b"" if value is None or self.command == "HEAD" else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def token(self, form: dict[str, str]) -> Any:
        if f"{form.get('client_id')}:{form.get('client_secret')}" != self.server.credential:
            raise RefusedError(401, "invalid_client", "unknown client")
        return {"access_token": TOKEN, "token_type": "bearer", "issued_token_type": "access_token"}

    def routed(self, parts: list[str], body: bytes) -> Any:
        catalog, verb = self.server.catalog, self.command
        match parts:
            case ["config"]:
                return {"defaults": {}, "overrides": {}}
            case ["namespaces"] if verb == "POST":
                asked = json.loads(body)
                catalog.create_namespace(tuple(asked["namespace"]), asked.get("properties", {}))
                return {"namespace": asked["namespace"], "properties": {}}
            case ["namespaces", name]:
                return {"namespace": [name], "properties": catalog.load_namespace_properties(name)}
            case ["namespaces", name, "tables"] if verb == "POST":
                absent = dict.fromkeys(["location", "partition-spec", "write-order"])
                return self.create(name, CreateTableRequest.model_validate(absent | json.loads(body)))
            case ["namespaces", name, "tables", table] if verb == "POST":
                return self.commit((name, table), CommitTableRequest.model_validate_json(body))
            case ["namespaces", name, "tables", table]:
                found = catalog.load_table((name, table))
                return None if verb == "HEAD" else told(found)
        raise RefusedError(404, "NoSuchEndpoint", f"{verb} {self.path}")

    def create(self, namespace: str, asked: CreateTableRequest) -> Any:
        """Make a table, or stage one whose first commit will make it."""
        if not asked.stage_create:
            raise RefusedError(501, "NotImplemented", "tables are made in a transaction here")
        catalog, name = self.server.catalog, (namespace, asked.name)
        if catalog.table_exists(name):
            raise exceptions.TableAlreadyExistsError(f"Table {asked.name} already exists")
        location = f"{catalog.properties['warehouse']}/{namespace}/{asked.name}"
        metadata = new_table_metadata(
            schema=asked.table_schema,
            partition_spec=asked.partition_spec or UNPARTITIONED_PARTITION_SPEC,
            sort_order=asked.write_order or UNSORTED_SORT_ORDER,
            location=location,
            properties=asked.properties,
        )
        return {"metadata": json.loads(metadata.model_dump_json()), "config": {}}

    def commit(self, name: tuple[str, str], asked: CommitTableRequest) -> Any:
        """Commit, then answer, or lose the answer."""
        table: Any = SimpleNamespace(name=lambda: name)  # all that the catalog asks of it
        made = self.server.catalog.commit_table(table, asked.requirements, asked.updates)
        self.server.commits += 1
        if code := self.server.spoil(self.server.commits):
            raise RefusedError(code, "InternalServerError", "the answer got lost")
        return {"metadata-location": made.metadata_location, "metadata": json.loads(made.metadata.model_dump_json())}


def told(table: Table) -> Any:
    location = table.metadata_location
    return {"metadata-location": location, "metadata": json.loads(table.metadata.model_dump_json()), "config": {}}
