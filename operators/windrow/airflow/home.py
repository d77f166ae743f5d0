"""A self-contained Airflow in a folder of its own: SQLite, no examples, quiet. Airflow itself is not imported.

    <home>/airflow/          AIRFLOW_HOME: configuration, metadata, logs, the login
    <home>/dags/             a copy of the Dags that ship with Windrow, renewed each time
    <home>/store/            runs and predictions
    <home>/warehouse.duckdb  the tables

This shell's own Airflow, if there is one, is never touched.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
from base64 import urlsafe_b64encode
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

import windrow
from windrow.errors import StoreError, WindrowError

__all__ = ["AirflowHome", "free_port"]

USER = "admin"
LOCK_WAIT_S = 60
"""How long one of Airflow's programs waits for SQLite while another writes; 5 are not enough on a busy machine."""


@dataclass(frozen=True, slots=True)
class AirflowHome:
    """The folder, and what is needed to run Airflow's programs in it."""

    root: Path

    @property
    def airflow(self) -> Path:
        """AIRFLOW_HOME."""
        return self.root / "airflow"

    @property
    def dags(self) -> Path:
        """The Dags folder."""
        return self.root / "dags"

    @property
    def warehouse(self) -> Path:
        """The DuckDB file that the shipped Dags publish to."""
        return self.root / "warehouse.duckdb"

    def prepare(self) -> None:
        """Make the folders and renew the copies of the shipped Dags.

        Raises:
            WindrowError: Airflow is not installed.
            StoreError: The folder cannot be written.
        """
        _require_airflow()
        try:
            for folder in (self.airflow, self.dags):
                folder.mkdir(parents=True, exist_ok=True)
            for file in _shipped_dags().glob("*.py"):
                shutil.copyfile(file, self.dags / file.name)
            self._write_login()
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StoreError(
                f"Folder {str(self.root)!r} cannot be written: {reason}.", "give another --home."
            ) from None

    def migrate(self, log: IO[bytes]) -> None:
        """Make Airflow's metadata, or bring them up to its version.

        Raises:
            WindrowError: They cannot be made.
        """
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(
            command, env=self.environment(), cwd=self.root, stdout=log, stderr=subprocess.STDOUT, check=False
        )
        if done.returncode:
            fix = f"read {log.name}; then remove {self.airflow}."
            raise WindrowError("Airflow's metadata cannot be made.", fix)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of Airflow's programs; nothing of this shell's own Airflow is in it."""
        foreign = ("AIRFLOW", "_AIRFLOW", "__AIRFLOW", "WINDROW")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        login = self._login()
        path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
        direct = ",".join(dict.fromkeys(filter(None, (kept.get("NO_PROXY"), kept.get("no_proxy"), "127.0.0.1"))))
        settings = {
            "CORE__DAGS_FOLDER": str(self.dags),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__PARALLELISM": "2",
            "CORE__MAX_ACTIVE_RUNS_PER_DAG": "2",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords),
            "API_AUTH__JWT_SECRET": login["jwt_secret"],
            "API__SECRET_KEY": login["secret_key"],
            "CORE__FERNET_KEY": login["fernet_key"],
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow}/airflow.db?timeout={LOCK_WAIT_S}",
            "LOGGING__LOGGING_LEVEL": "WARNING",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
            **more,
        }
        return {
            **kept,
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            "AIRFLOW_HOME": str(self.airflow),
            "WINDROW_HOME": str(self.root),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": direct,
            "no_proxy": direct,
            "PATH": path,
            "PYTHONWARNINGS": "ignore",
        }

    @property
    def password(self) -> str:
        """The password of the user ``admin``."""
        return self._login()["password"]

    @property
    def _passwords(self) -> Path:
        return self.airflow / "passwords.json"

    def _login(self) -> dict[str, str]:
        found: dict[str, str] = json.loads((self.airflow / "login.json").read_text(encoding="utf-8"))
        return found

    def _write_login(self) -> None:
        """Make a password and Airflow's keys, once; only this user may read them.

        The configuration file is empty: Airflow would write one with keys of its own, and two of its
        programs that start together would write two.
        """
        file = self.airflow / "login.json"
        fresh = {
            "password": secrets.token_urlsafe(9),
            "jwt_secret": secrets.token_hex(64),
            "secret_key": secrets.token_hex(16),
            "fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }
        _write_private(file, {**fresh, **(self._login() if file.exists() else {})})
        _write_private(self._passwords, {USER: self.password})
        (self.airflow / "airflow.cfg").write_text("# All settings are in the environment of `windrow demo`.\n")


def _require_airflow() -> None:
    try:
        metadata.version("apache-airflow-core")
    except metadata.PackageNotFoundError:
        raise WindrowError("Airflow is not installed here.", "pip install 'windrow[airflow]'.") from None


def _write_private(file: Path, value: dict[str, str]) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        json.dump(value, stream)


def _shipped_dags() -> Path:
    """Return the folder of the Dags: in the installed package, or in the repository."""
    package = Path(windrow.__file__).absolute().parent
    return next(folder for folder in (package / "dags", package.parents[1] / "dags") if any(folder.glob("*.py")))


def free_port(preferred: int) -> int:
    """Return `preferred` or the next port that nothing on this machine listens on."""
    for port in range(preferred, preferred + 200):
        with closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise WindrowError(f"No port from {preferred} to {preferred + 199} is free.", "stop a program that listens there.")
