"""Airflow's REST API for the tests that start whole installations, and waiting for what it tells."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

__all__ = ["ENDS", "Api", "awaited", "ended"]

PATIENCE_S = 280
ENDS = ("success", "failed")


@dataclass
class Api:
    """Airflow's REST API, as its web page uses it; 503 means that SQLite was busy, so it is asked again."""

    url: str
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})

    def __call__(self, method: str, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if body else None
        request = Request(self.url + path, data, self.headers, method=method)  # noqa: S310 (this machine's)
        for _ in range(60):
            try:
                with urlopen(request, timeout=30) as answer:  # noqa: S310
                    return json.loads(answer.read() or "{}")
            except HTTPError as error:
                error.close()
                if error.code != 503:
                    raise
            time.sleep(1)
        raise AssertionError(f"{path} stayed unavailable")

    def log_in(self, password: str) -> None:
        token = self("POST", "/auth/token", username="admin", password=password)["access_token"]
        self.headers["Authorization"] = f"Bearer {token}"

    def dags(self) -> set[str]:
        return {dag["dag_id"] for dag in self("GET", "/api/v2/dags")["dags"]}

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return self("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]

    def tasks(self, dag_id: str) -> list[dict[str, Any]]:
        return self("GET", f"/api/v2/dags/{dag_id}/dagRuns/~/taskInstances?limit=500")["task_instances"]


def awaited(look: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Look again and again until there is something to see."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := look():
                return found
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come about")


def ended(api: Api, dag_id: str, run_type: str, count: int = 1) -> list[dict[str, Any]] | None:
    """Return the ended runs of a kind, once there are at least `count` and all have ended."""
    runs = [run for run in api.runs(dag_id) if run["run_type"] == run_type]
    return runs if len(runs) >= count and all(run["state"] in ENDS for run in runs) else None
