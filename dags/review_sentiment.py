"""Reviews of products and films, every day: the sentiment of each, and a summary of the long ones."""

from datetime import datetime

from airflow.sdk import dag

from windrow.airflow import batch_inference

REVIEWS = {
    "path": "windrow://reviews/{partition}.parquet",
    "key": "review_id",
    "text": "body",
    "keep": ["kind", "product", "title", "opinion"],
}
WAREHOUSE = "duckdb:///${WINDROW_HOME}/warehouse.duckdb"


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), tags=["windrow"])
def review_sentiment() -> None:
    """Score and summarise the reviews of the day, into a table each."""
    batch_inference(
        "review_sentiment",
        source=REVIEWS,
        task="sentiment",
        model="windrow/minilm-sentiment",
        warehouse={"url": WAREHOUSE, "table": "analytics.review_sentiment"},
        limits={"max_reject_share": 0.05},
    )
    batch_inference(
        "review_summaries",
        source=REVIEWS,
        task={"name": "summarise", "max_words": 40},
        model="windrow/minilm-extractive",
        warehouse={"url": WAREHOUSE, "table": "analytics.review_summaries"},
        limits={"max_reject_share": 0.05},
    )


review_sentiment()
