"""Finance: the sentiment of the day's headlines, company by company, every day.

Why: whoever watches five hundred companies reads none of the headlines. One label a headline and company, in the
warehouse each morning, makes it a question of SQL, and a re-run of a day gives the same numbers to the last digit:

    SELECT windrow_partition, company, count(*), avg(CASE label WHEN 'positive' THEN score ELSE -score END)
    FROM analytics.headline_sentiment GROUP BY ALL ORDER BY 4

The model judges the whole headline: where one rises and another falls, both get the same label.
"""

from datetime import datetime

from airflow.sdk import dag
from airflow.timetables.interval import CronDataIntervalTimetable

from windrow.airflow import batch_inference


@dag(
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    tags=["windrow", "finance"],
)
def headline_sentiment() -> None:
    """Score the headlines of the day: one label a headline and company."""
    batch_inference(
        "headline_sentiment",
        source={
            "path": "windrow://headlines/{partition}.parquet",
            "key": ["headline_id", "company"],
            "text": "headline",
            "keep": "opinion",
        },
        task="sentiment",
        model="windrow/minilm-sentiment",
        warehouse={"url": "duckdb:///${WINDROW_HOME}/warehouse.duckdb", "table": "analytics.headline_sentiment"},
        limits={"max_reject_share": 0.05},
    )


headline_sentiment()
