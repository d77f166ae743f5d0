"""Entertainment: all film reviews, scored again whenever the model moves.

Why: a shelf of reviews hardly changes, but models do. When a new revision of the model appears, every review is scored
by it and the partition is replaced in one transaction, so that nobody ever sees two models in one table; the column
windrow_model tells which it was. Set FILM_REVIEWS_MODEL to a Hub model and the triggerer watches its commit. The
bundled model moves only with Windrow itself: start the Dag by hand after an upgrade.

Without a new revision, a run scores nothing and publishes the same rows.
"""

import os
from datetime import datetime

from airflow.sdk import dag

from windrow.airflow import batch_inference, model_asset

MODEL = os.environ.get("FILM_REVIEWS_MODEL", "windrow/minilm-sentiment")


@dag(schedule=model_asset(MODEL), start_date=datetime(2026, 1, 1), tags=["windrow", "entertainment"])
def film_reviews() -> None:
    """Score every film review, whenever the model has a new revision."""
    batch_inference(
        "film_reviews",
        source={"path": "windrow://films/*.parquet", "key": "review_id", "text": "body", "keep": "opinion"},
        partition="all",
        task="sentiment",
        model=MODEL,
        warehouse={"url": "duckdb:///${WINDROW_HOME}/warehouse.duckdb", "table": "analytics.film_reviews"},
        limits={"max_reject_share": 0.05},
    )


film_reviews()
