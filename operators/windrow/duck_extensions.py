"""Extensions of DuckDB, from a wheel beside it where one is installed: nothing is downloaded while a job runs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import duckdb

from windrow.duck import first_line, literal
from windrow.errors import JobError

__all__ = ["load_extension", "reach_object_store"]


def load_extension(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load an extension: from its wheel, else from where DuckDB keeps or finds it.

    Args:
        name: As DuckDB names it; the wheel's module is ``duckdb_extension_`` and the name.

    Raises:
        JobError: It is not installed and cannot be downloaded, or is made for another version of DuckDB.
    """
    file = _in_wheel(name)
    try:
        if file is None:
            con.execute(f"INSTALL {name}")
        con.execute(f"LOAD {literal(file) if file else name}")
    except duckdb.Error as error:
        package = f"duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}"
        raise JobError(
            f"DuckDB's extension {name!r} cannot be loaded: {first_line(error)}.",
            f"pip install '{package}', or let this machine download it from extensions.duckdb.org once.",
        ) from None


def reach_object_store(con: duckdb.DuckDBPyConnection, url: str) -> None:
    """Let DuckDB reach the files of a url in an object store, as the standard variables say; a local folder needs none.

    Raises:
        JobError: The extension ``httpfs`` is not installed.
    """
    if "://" not in url:
        return
    load_extension(con, "httpfs")
    key = os.environ.get("AWS_ACCESS_KEY_ID")
    if not url.startswith("s3://") or not key:
        return
    options = {
        "KEY_ID": key,
        "SECRET": os.environ.get("AWS_SECRET_ACCESS_KEY"),
        "SESSION_TOKEN": os.environ.get("AWS_SESSION_TOKEN"),
        "REGION": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
    }
    endpoint = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "")
    if endpoint.netloc:
        ssl = "true" if endpoint.scheme == "https" else "false"
        options |= {"ENDPOINT": endpoint.netloc, "URL_STYLE": "path", "USE_SSL": ssl}
    given = ", ".join(f"{name} {literal(value)}" for name, value in options.items() if value)
    con.execute(f"CREATE SECRET windrow (TYPE s3, {given})")


def _in_wheel(name: str) -> Path | None:
    """Return the extension's file for this version of DuckDB, from its wheel."""
    found = find_spec(f"duckdb_extension_{name}")
    if found is None:
        return None
    for folder in found.submodule_search_locations or ():
        file = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if file.exists():
            return file
    return None
