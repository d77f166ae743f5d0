"""A Hugging Face Hub on 127.0.0.1: repositories in memory, served as the Hub's client asks for them."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """Files by commit, and the commits that branches and tags point at."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    status: int = 200
    code: str = ""
    token: str = ""

    def commit_of(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


class HubStandIn:
    """Serves models and datasets until the end of the ``with`` block.

    Attributes:
        url: For ``HF_ENDPOINT``.
        asked: Every request so far, as ``GET /path``.
        owners: Names by token.
    """

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def put(self, name: str, files: dict[str, bytes] | Path, *refs: str) -> str:
        """Add a commit to ``models/org/name`` or ``datasets/org/name``; return its hash.

        Args:
            files: Content by path, or a folder.
            refs: Branches and tags that move to it; ``main`` unless told.
        """
        if isinstance(files, Path):
            files = {str(file.relative_to(files)): file.read_bytes() for file in files.rglob("*") if file.is_file()}
        whole = hashlib.sha1(name.encode(), usedforsecurity=False)
        for path, content in sorted(files.items()):
            whole.update(path.encode() + content)
        commit = whole.hexdigest()
        repository = self.repositories.setdefault(name, Repository())
        repository.commits[commit] = files
        repository.refs.update(dict.fromkeys(refs or ("main",), commit))
        return commit

    def refuse(self, name: str, status: int, code: str = "") -> None:
        """Answer every request for a repository with an error."""
        self.repositories[name] = Repository({}, {}, status, code)

    def guard(self, name: str, token: str, owner: str) -> None:
        """Show a repository to the owner of a token alone."""
        self.repositories[name].token = token
        self.owners[token] = owner

    def fetched(self) -> set[str]:
        """File names that were downloaded."""
        return {
            path.partition("/resolve/")[2].partition("/")[2]
            for path in self.asked
            if path.startswith("GET") and "/resolve/" in path
        }


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def _serve(self, body: bytes = b"") -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "whoami-v2"]:
            owner = self.hub.owners.get(self._token())
            self._json({"name": owner}) if owner else self._error(401, "", "Invalid username or password.")
        elif parts == ["api", "models"]:
            self._json([])
        elif parts[0] == "api":
            self._api("/".join(parts[1:4]), parts[4:], body)
        else:
            kind = [] if parts[0] == "datasets" else ["models"]
            name, rest = "/".join([*kind, *parts]).split("/resolve/") if "resolve" in parts else ("", "")
            revision, _, file = rest.partition("/")
            self._file(name, revision, file)

    def _api(self, name: str, rest: list[str], body: bytes) -> None:
        what, revision = (*rest, "main")[:2] if rest else ("revision", "main")
        found = self._found(name, revision)
        if not found:
            return
        commit, files = found
        if what == "revision":
            siblings = [{"rfilename": path} for path in files]
            self._json(
                {"id": name.partition("/")[2], "sha": commit, "siblings": siblings, "private": False, "tags": []}
            )
        elif what == "tree":
            self._json(_tree(files, "/".join(rest[2:]), "true" in str(parse_qs(urlsplit(self.path).query)).lower()))
        elif what == "paths-info":
            asked = parse_qs(body.decode()).get("paths") or json.loads(body or b"{}").get("paths", [])
            self._json([entry for path in asked for entry in _info(files, path)])
        else:
            self._error(404, "", f"no endpoint {what}")

    def _file(self, name: str, revision: str, file: str) -> None:
        found = self._found(name, revision)
        if not found:
            return
        commit, files = found
        if file not in files:
            self._error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        content = files[file]
        headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": commit, "X-Linked-Size": str(len(content))}
        self._send(200, content, {"Content-Type": "application/octet-stream", **headers})

    def _found(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        repository = self.hub.repositories.get(name)
        if not repository or (repository.token and repository.token != self._token()):
            self._error(401, "RepoNotFound", "Invalid username or password.")
        elif repository.status != 200:
            self._error(repository.status, repository.code, "refused")
        elif not repository.commit_of(revision):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            commit = str(repository.commit_of(revision))
            return commit, repository.commits[commit]
        return None

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        named = {"X-Error-Code": code} if code else {}
        self._send(status, b"{}", {"X-Error-Message": message, **named, **(headers or {})})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        start, stop = 0, len(content)
        wanted = self.headers.get("Range", "")
        if status == 200 and wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop, status = int(first), int(last) + 1 if last else stop, 206
            headers["Content-Range"] = f"bytes {start}-{min(stop, len(content)) - 1}/{len(content)}"
        part = content[start:stop]
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(part))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(part)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _tree(files: dict[str, bytes], folder: str, is_recursive: bool) -> list[dict[str, object]]:
    prefix = f"{folder}/" if folder else ""
    entries: dict[str, dict[str, object]] = {}
    for path, content in files.items():
        if not path.startswith(prefix):
            continue
        inner = path[len(prefix) :].split("/")
        for depth in range(1, len(inner)):
            name = prefix + "/".join(inner[:depth])
            entries.setdefault(name, {"type": "directory", "oid": _oid(name.encode()), "size": 0, "path": name})
        entries[path] = {"type": "file", "oid": _oid(content), "size": len(content), "path": path}
    return [entry for name, entry in entries.items() if is_recursive or "/" not in name[len(prefix) :]]


def _info(files: dict[str, bytes], path: str) -> list[dict[str, object]]:
    if path in files:
        return [{"type": "file", "oid": _oid(files[path]), "size": len(files[path]), "path": path}]
    is_folder = any(name.startswith(f"{path}/") for name in files)
    return [{"type": "directory", "oid": _oid(path.encode()), "size": 0, "path": path}] if is_folder else []
