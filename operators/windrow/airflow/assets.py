"""Source, model and published table as Airflow assets: the same names from every Dag, and no secret in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow.sdk import Asset
from airflow.sdk.definitions.asset import Dataset, Model

from windrow.airflow.compat import INLETS_STAY
from windrow.errors import JobError

__all__ = ["asset_of", "inputs_of", "model_asset", "source_asset", "table_asset"]

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+(?:@[^\s@]+)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def table_asset(table: str, *, url: str | None = None, connection: str | None = None) -> Asset:
    """Return the asset of a published table, for another Dag's ``schedule``.

    Its name is ``windrow://<warehouse>/<table>``. The warehouse is ``connection/<conn_id>``, or the
    url's scheme, host, port and path, as written in the job; user, password and query are left out.

    Args:
        table: As in the job, for example ``analytics.review_sentiment``.
        url: As in the job; or
        connection: As in the job.

    >>> table_asset("sales.reviews", url="postgresql://ann:s3cret@db:5432/shop?sslmode=require").name
    'windrow://postgresql/db:5432/shop/sales.reviews'
    >>> table_asset("reviews", connection="warehouse").name
    'windrow://connection/warehouse/reviews'
    """
    name = f"windrow://{_place(url, connection)}/{table}"
    return Asset(name=name, uri=name)


def asset_of(warehouse: Mapping[str, Any]) -> Asset:
    """Return the asset of a job's ``warehouse`` field."""
    return table_asset(warehouse["table"], url=warehouse.get("url"), connection=warehouse.get("connection"))


def source_asset(
    path: str | None = None, *, hub: str | None = None, url: str | None = None, connection: str | None = None
) -> Dataset:
    """Return the asset of what a job reads: an inlet of its load, and an outlet of whatever writes it.

    Its name is ``windrow://source/<place>``, as written in the job (``{partition}`` included), without
    user, password and query. A query's place is its database.

    Args:
        path: `source.path` of the job; or
        hub: `source.hub`, without its revision; or
        url: `source.url` of a query; or
        connection: `source.connection` of a query.

    >>> source_asset("s3://lake/reviews/{partition}.parquet").name
    'windrow://source/s3/lake/reviews/{partition}.parquet'
    """
    if hub:
        place = f"hub/{hub.partition('@')[0]}"
    elif path:
        place = _place(path, None) if "://" in path else path.strip("/")
    else:
        place = _place(url, connection)
    name = f"windrow://source/{place}"
    return Dataset(name=name, uri=name)


def model_asset(model: str) -> Model:
    """Return the asset of a model: an inlet of jobs, and a ``schedule`` that fires when its revision moves.

    A Hub model that is not pinned to a commit is watched: the triggerer asks the Hub every
    ``WINDROW_MODEL_POLL_S`` seconds (300 unless set) for its commit, and each move is an event whose
    ``extra["payload"]`` has ``model``, ``revision`` and ``previous``. Nothing is asked while no active Dag
    is scheduled on it. The asset of any other model has the same kind of name and never fires.

    Args:
        model: As in the job: ``org/name``, ``org/name@branch``, a bundled name or a directory.

    >>> model_asset("distilbert/distilbert-base-uncased").name
    'windrow://model/distilbert/distilbert-base-uncased'
    """
    name = f"windrow://model/{model.strip('/')}"
    if not is_watched(model):
        return Model(name=name, uri=name)
    from airflow.sdk import AssetWatcher

    from windrow.airflow.model_watch import ModelUpdateTrigger

    watcher = AssetWatcher(name=f"{model} on the Hub", trigger=ModelUpdateTrigger(model=model))
    return Model(name=name, uri=name, watchers=[watcher])


def is_watched(model: str) -> bool:
    """Tell whether a model lives on the Hub and its revision can move.

    >>> [is_watched(name) for name in ("org/name", "org/name@main", "windrow/minilm-sentiment", "/data/model")]
    [True, True, False, False]
    """
    bundled = model.startswith("windrow/")
    return bool(_HUB_ID.fullmatch(model)) and not bundled and not _COMMIT.fullmatch(model.partition("@")[2])


def watched_model(model: str) -> Model:
    """Return `model_asset` of a model that can move.

    Raises:
        JobError: It is bundled, a directory, or pinned to a commit, so a Dag on it would never run.
    """
    if not is_watched(model):
        raise JobError(
            f"Model {model!r} never moves, so no Dag can wait for that.",
            "name a Hub model with a branch or none: org/name, org/name@main.",
        )
    return model_asset(model)


def inputs_of(job: Mapping[str, Any]) -> list[Asset]:
    """Return source and model of a job's fields as inlets; what a template hides is left out, before 3.3 both."""
    source, model = job.get("source"), job.get("model")
    found: list[Asset] = []
    if not INLETS_STAY:
        return found
    if isinstance(source, Mapping):
        place = {name: source.get(name) for name in ("path", "hub", "url", "connection") if source.get(name)}
        if len(place) == 1 and all(isinstance(value, str) and "{{" not in value for value in place.values()):
            found.append(source_asset(**place))
    if isinstance(model, str) and "{{" not in model:
        found.append(model_asset(model))
    return found


def _place(url: str | None, connection: str | None) -> str:
    if connection or not url:
        return f"connection/{connection}"
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return "/".join(part for part in (parts.scheme, host, parts.path.strip("/")) if part)
