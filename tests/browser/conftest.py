"""Airflow's API server over real runs, and a real Chromium that looks at its pages."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pyarrow as pa
import pytest
from pyarrow import parquet

from windrow.airflow.home import AirflowHome, free_port

HERE = Path(__file__).parent
DAYS = ("2026-11-21", "2026-11-22", "2026-11-23")
DRIFTED = "2026-11-24"
"""A day that speaks of another thing: most of its labels are others."""
ROWS = 360
ONLY = ("tickets", "hostile")
USERS = {"admin": "admin", **{f"only-{dag_id}": "viewer" for dag_id in ONLY}, "no-xcom": "viewer"}
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 240


@dataclass
class Stage:
    """A home in which the Dags of `stage.py` have run, and how to ask its API server."""

    place: AirflowHome
    url: str
    runs: dict[str, Any]
    tokens: dict[str, str]

    def get(self, path: str, user: str | None = "admin", method: str = "GET") -> tuple[int, str, dict[str, str]]:
        """Return status, body and headers of a page."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"} if user else {}
        return answer(Request(self.url + path, headers=headers, method=method))  # noqa: S310 (this machine's)

    def run(self, dag_id: str, which: int = 0) -> str:
        """Return the address of a run's page."""
        return f"/windrow/dags/{dag_id}/runs/{self.runs[dag_id][which]}"


def answer(request: Request) -> tuple[int, str, dict[str, str]]:
    try:
        with urlopen(request, timeout=60) as found:  # noqa: S310
            return found.status, found.read().decode(), dict(found.headers)
    except HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def environment(place: AirflowHome, model: Path, **more: str) -> dict[str, str]:
    return {
        **place.environment(
            CORE__AUTH_MANAGER="keeper.Keeper",
            CORE__SIMPLE_AUTH_MANAGER_USERS=",".join(f"{name}:{role}" for name, role in USERS.items()),
            API__WORKERS="1",
            **more,
        ),
        "TINY_MODEL": str(model),
        "DATA": str(place.root / "data"),
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1] / "operators"), str(HERE)]),
    }


def write_day(folder: Path, day: str, number: int) -> None:
    """Write a day's reviews: every text once, a few empty ones, and notes that would like to be a script."""
    said = "the battery was awful number" if day == DRIFTED else "{} film number"
    bodies = [f"{said.format('good' if (n * (number + 3)) % 5 else 'bad')} {n} of {day}" for n in range(ROWS)]
    bodies[3], bodies[5], bodies[8] = "", None, "плохой фильм, очень плохой"
    notes = ["<img src=x onerror=\"document.title='owned'\">", "Zoë 你好 👩‍🚀", "x" * 3000, None] * (ROWS // 4)
    table = pa.table({"review_id": [f"{day}-{n}" for n in range(ROWS)], "body": bodies, "note": notes})
    parquet.write_table(table, folder / f"{day}.parquet")


def command(place: AirflowHome, settings: dict[str, str], *args: str) -> None:
    done = subprocess.run(
        [sys.executable, *args],
        env=settings,
        cwd=place.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]


def make_home(root: Path, model: Path) -> tuple[AirflowHome, dict[str, Any]]:
    """Prepare a home and let its Dags run."""
    place = AirflowHome(root)
    place.prepare()
    shutil.copytree(HERE / "dags", place.dags, dirs_exist_ok=True)
    (root / "data").mkdir()
    for number, day in enumerate((*DAYS, DRIFTED)):
        write_day(root / "data", day, number)
    passwords = dict.fromkeys(USERS, place.password)
    (place.airflow / "passwords.json").write_text(json.dumps(passwords))
    settings = environment(place, model)
    command(place, settings, "-m", "airflow", "db", "migrate")
    command(place, settings, str(HERE / "stage.py"), str(root / "runs.json"))
    return place, json.loads((root / "runs.json").read_text())


@contextmanager
def serving(place: AirflowHome, model: Path, port: int) -> Iterator[str]:
    """Run Airflow's API server, and nothing else of it."""
    url = f"http://127.0.0.1:{port}"
    settings = environment(place, model, API__HOST="127.0.0.1", API__PORT=str(port), API__BASE_URL=url)
    log = place.airflow / "api-server.log"
    with log.open("wb") as sink:
        server = subprocess.Popen(
            [sys.executable, "-m", "airflow", "api-server"], env=settings, cwd=place.root, stdout=sink,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        await_health(url, server, log)
        yield url
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if server.poll() is None:
                os.killpg(server.pid, number)
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                continue


def await_health(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(f"{url}/api/v2/version", timeout=5):  # noqa: S310
                return
        except (URLError, OSError):
            time.sleep(0.3)
    raise AssertionError(log.read_text()[-4000:])


def log_in(url: str, user: str, password: str) -> str:
    body = json.dumps({"username": user, "password": password}).encode()
    request = Request(f"{url}/auth/token", body, {"Content-Type": "application/json"})  # noqa: S310
    return str(json.loads(answer(request)[1])["access_token"])


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, tiny_classifier: Path) -> Iterator[Stage]:
    """Real runs, served: once for all tests."""
    place, runs = make_home(tmp_path_factory.mktemp("page"), tiny_classifier)
    with serving(place, tiny_classifier, free_port(18480)) as url:
        yield Stage(place, url, runs, {user: log_in(url, user, place.password) for user in USERS})


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def look(stage: Stage, browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page as a user, in light or dark, or as chosen in Airflow; afterwards no error may be on the console."""
    contexts, said = [], []

    def opened(path: str, user: str = "admin", theme: str = "light", chosen: str | None = None) -> Any:
        context = browser.new_context(color_scheme=theme, viewport={"width": 1280, "height": 860})
        contexts.append(context)
        if chosen:
            context.add_init_script(f"localStorage.setItem('theme', '{chosen}')")
        context.add_cookies([{"name": "_token", "value": stage.tokens[user], "url": stage.url}])
        page = context.new_page()
        page.on("console", lambda word: said.append(word.text) if word.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(stage.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []
