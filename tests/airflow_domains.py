"""The Dags of four domains, each started as its schedule has it: by the clock, an asset, a backfill, a moved model."""

from __future__ import annotations

from typing import Any

from airflow_api import Api, awaited, ended

__all__ = ["RUNS", "play"]

RUNS = {
    "headline_sentiment": "scheduled",
    "tutoring_replies": "asset_triggered",
    "visit_summaries": "backfill",
    "film_reviews": "asset_triggered",
    "game_comments": "scheduled",
}
"""Which kind of run each Dag gets."""


def play(api: Api) -> dict[str, list[dict[str, Any]]]:
    """Let each Dag run; return its ended runs."""
    for dag_id in RUNS:
        api("PATCH", f"/api/v2/dags/{dag_id}", is_paused=False)
    dates = {"from_date": "2020-02-03T00:00:00Z", "to_date": "2020-02-04T00:00:00Z"}
    api("POST", "/api/v2/backfills", dag_id="visit_summaries", max_active_runs=2, **dates)
    _tell(api, "tutoring_chats", partition="2026-11-23")
    _tell(api, "windrow://model/windrow/minilm-sentiment", revision="new")
    return {
        dag_id: awaited(lambda: ended(api, dag_id, kind), f"the end of a run of {dag_id}")  # noqa: B023
        for dag_id, kind in RUNS.items()
    }


def _tell(api: Api, name: str, **extra: str) -> None:
    """Report an event of an asset, as whoever writes it would."""
    (asset,) = (asset for asset in api("GET", "/api/v2/assets?limit=100")["assets"] if asset["name"] == name)
    api("POST", "/api/v2/assets/events", asset_id=asset["id"], extra=extra)
