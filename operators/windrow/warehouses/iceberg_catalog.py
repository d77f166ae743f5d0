"""Catalogs of Iceberg: SQL, REST or Glue, by the url of a warehouse."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import unquote, urlsplit

from windrow.errors import JobError, WarehouseError
from windrow.warehouses.lake import opened
from windrow.warehouses.patience import MINUTE_S, lock_wait

try:
    from pyiceberg.catalog import Catalog, load_catalog
except ImportError:
    raise JobError("Iceberg needs the package pyiceberg.", "pip install 'windrow[iceberg]'") from None

__all__ = ["catalog_of"]

_REACH_S = 5.0
_HOW = "write iceberg+sql:///folder/catalog.db, iceberg+rest://host/path or iceberg+glue://."


def catalog_of(url: str, writes: bool) -> Catalog | None:
    """Open the catalog of a url; None where a reader asks for a SQLite file that is not there.

    Raises:
        JobError: The url is of no known form.
        WarehouseError: The host does not answer within seconds.
    """
    scheme, place, given = opened(url)
    kind, _, more = scheme.partition("+")
    name = given.pop("catalog", "default")
    if kind == "sql" and not more:
        file = Path(f"/{place.lstrip('/')}")
        if not place.strip("/"):
            raise JobError("warehouse.url names no catalog.", _HOW)
        if not file.exists() and not writes:
            return None
        file.parent.mkdir(parents=True, exist_ok=True)
        uri = f"sqlite:///{file}?timeout={lock_wait(MINUTE_S)}"
        found = {"type": "sql", "uri": uri, "warehouse": str(file.parent / "warehouse")}
    elif kind == "sql":
        found = {"type": "sql", "uri": f"{more}://{place}"}
    elif kind == "rest":
        found = _rest(place, more or "https")
        _reach(found["uri"])
    elif kind == "glue":
        found = {"type": "glue"}
    else:
        raise JobError(f"warehouse.url: {kind!r} is no kind of Iceberg catalog.", _HOW)
    return load_catalog(name, **{**found, **given})


def _rest(place: str, scheme: str) -> dict[str, str]:
    """Return the properties of a REST catalog; pyiceberg itself adds the version to its address."""
    credential, _, host = place.rpartition("@")
    uri = f"{scheme}://{host.rstrip('/').removesuffix('/v1')}"
    if not credential:
        return {"type": "rest", "uri": uri}
    tokens = {"credential": unquote(credential), "oauth2-server-uri": f"{uri}/v1/oauth/tokens"}
    return {"type": "rest", "uri": uri, **tokens}


def _reach(uri: str) -> None:
    """Refuse a host that does not answer, which pyiceberg itself would wait for."""
    parts = urlsplit(uri)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname or "", port), timeout=_REACH_S).close()
    except (OSError, ValueError) as error:
        fix = "check the host and port in warehouse.url, and that the catalog is up."
        raise WarehouseError(f"Iceberg catalog {parts.hostname!r} does not answer: {error}.", fix) from None
