"""Hooks own connections: the Hub's, and those of the warehouses that Airflow has no provider for."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from airflow.sdk import BaseHook

from windrow.airflow.connections import hub_of, mask_secrets, url_of_connection
from windrow.airflow.forms import behaviour, widgets
from windrow.errors import HubError, JobError, WindrowError
from windrow.hub import HubAccess
from windrow.job import redacted

__all__ = ["DuckDBFileHook", "LakeHook", "ModelsHook", "WarehouseHook"]

_TEST_WAIT_S = 5.0


class _Hook(BaseHook):
    """A connection of one of Windrow's types, tested by using it."""

    conn_type: ClassVar[str]
    conn_name_attr: ClassVar[str]
    hook_name: ClassVar[str]

    def __init_subclass__(cls, **options: Any) -> None:
        """Give the hook of each type what Airflow 3.1 asks the class itself for; later ones read the provider info."""
        super().__init_subclass__(**options)
        if "conn_type" in vars(cls):
            setattr(cls, "get_ui_field_behaviour", staticmethod(partial(behaviour, cls.conn_type)))  # noqa: B010
            setattr(cls, "get_connection_form_widgets", staticmethod(partial(widgets, cls.conn_type)))  # noqa: B010

    def test_connection(self) -> tuple[bool, str]:
        """Use the connection, from where this runs: the page's *Test* button asks the API server, not a worker.

        Returns:
            Whether it works, and what was found or what to do.
        """
        try:
            return True, self._tried()
        except WindrowError as error:
            return False, str(error)

    def _tried(self) -> str:
        raise NotImplementedError


class ModelsHook(_Hook):
    """The Hugging Face Hub or a mirror of it: endpoint, token and cache.

    Args:
        windrow_models_conn_id: A connection of type ``windrow_models``.
    """

    conn_type = "windrow_models"
    conn_name_attr = "windrow_models_conn_id"
    default_conn_name = "windrow_models_default"
    hook_name = "Windrow: models (Hugging Face Hub)"

    def __init__(self, windrow_models_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.windrow_models_conn_id = windrow_models_conn_id

    def get_conn(self) -> HubAccess:
        """Return how the Hub is reached."""
        return hub_of(self.get_connection(self.windrow_models_conn_id))

    def _tried(self) -> str:
        """Ask the Hub who the token's owner is, or, without a token, whether it answers."""
        from huggingface_hub import HfApi, get_session

        from windrow.duck import first_line

        access = self.get_conn()
        api = HfApi(endpoint=access.endpoint, token=access.token or False)
        where = f"The Hub at {redacted(api.endpoint)}"
        try:
            if access.token:
                return f"{where} knows the token: {api.whoami(cache=False)['name']}."
            url = f"{api.endpoint}/api/models"
            get_session().get(url, params={"limit": 1}, timeout=_TEST_WAIT_S).raise_for_status()
        except Exception as error:  # what the network and the Hub's client can raise is open-ended
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (401, 403):
                raise JobError(f"{where} refuses the token.", "make a new one in its settings.") from None
            reason = f"status {status}" if status else first_line(error)
            raise HubError(f"{where} cannot be reached: {reason}.", "correct the endpoint, or the network.") from None
        return f"{where} answers; without a token, only public repositories can be read."


class _Anywhere:
    """Stands for a job file that is nowhere, so that a path must be absolute."""

    def located(self, path: str) -> str:
        """Return the path.

        Raises:
            JobError: It is relative.
        """
        if not Path(path).is_absolute():
            fix = "write it from the root, with four slashes in a url; a relative one starts at each job's file."
            raise JobError(f"Path {path!r} is relative, so it cannot be tried here.", fix)
        return path


class WarehouseHook(_Hook):
    """A warehouse that Windrow publishes to."""

    def url(self) -> str:
        """Return the warehouse's url, secrets included; they are masked in logs."""
        url = url_of_connection(self.get_connection(getattr(self, self.conn_name_attr)))
        mask_secrets(url)
        return url

    def get_conn(self) -> Any:
        """Return the url: each warehouse opens it in a way of its own (`windrow.warehouses.open_url`)."""
        return self.url()

    def _tried(self) -> str:
        """Read the ledger where the connection's tables lie by default; nothing is written."""
        from windrow.connections import located_url
        from windrow.warehouses import TableName, open_url

        url = located_url(_Anywhere(), self.url())
        warehouse: Any = open_url(url, TableName(None, "windrow_test"), writes=False)
        if hasattr(warehouse, "lock_wait_s"):
            warehouse.lock_wait_s = _TEST_WAIT_S
        with warehouse:
            warehouse.read("ledger", {"run_id": [""]}, ["run_id"])
        return f"{redacted(url)} can be read from here."


class DuckDBFileHook(WarehouseHook):
    """A DuckDB file, or a database of MotherDuck.

    Args:
        windrow_duckdb_conn_id: A connection of type ``windrow_duckdb``.
    """

    conn_type = "windrow_duckdb"
    conn_name_attr = "windrow_duckdb_conn_id"
    default_conn_name = "windrow_duckdb_default"
    hook_name = "Windrow: DuckDB file or MotherDuck"

    def __init__(self, windrow_duckdb_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.windrow_duckdb_conn_id = windrow_duckdb_conn_id

    def _tried(self) -> str:
        """Say so where there is no file yet: the first publish makes it."""
        told = super()._tried()
        file = Path(self.url().partition(":///")[2] or ".")
        if file.exists():
            return told
        if not file.parent.is_dir():
            fix = "correct the path, or make the folder on the workers; this machine may see other disks than they do."
            raise JobError(f"There is no folder {str(file.parent)!r} here.", fix)
        return f"There is no file {str(file)!r} here yet; the first publish makes it."


class LakeHook(WarehouseHook):
    """A lake: Delta, Iceberg, Parquet or DuckLake.

    Args:
        windrow_lake_conn_id: A connection of type ``windrow_lake``.
    """

    conn_type = "windrow_lake"
    conn_name_attr = "windrow_lake_conn_id"
    default_conn_name = "windrow_lake_default"
    hook_name = "Windrow: lake (Delta, Iceberg, Parquet, DuckLake)"

    def __init__(self, windrow_lake_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.windrow_lake_conn_id = windrow_lake_conn_id
