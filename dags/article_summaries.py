"""Abstracts of papers, every day: the sentences of each that say most."""

from datetime import datetime

from airflow.sdk import dag

from windrow.airflow import batch_inference


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), tags=["windrow"])
def article_summaries() -> None:
    """Summarise each abstract of the day in at most forty words of its own."""
    batch_inference(
        "article_summaries",
        source={
            "path": "windrow://abstracts/{partition}.parquet",
            "key": "paper_id",
            "text": "abstract",
            "keep": ["title", "tldr"],
        },
        task={"name": "summarise", "max_words": 40},
        model="windrow/minilm-extractive",
        warehouse={"url": "duckdb:///${WINDROW_HOME}/warehouse.duckdb", "table": "analytics.article_summaries"},
        limits={"max_reject_share": 0.05},
    )


article_summaries()
