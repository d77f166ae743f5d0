"""Entertainment: what players say about video games, every day, with a word when the mood turns.

Why: a bad patch shows in what players write hours before it shows in sales. One label a comment and day makes the mood
a line on a chart, and the gate holds each day's labels against the days before: where they drift further than chance
explains, log, receipt and page say so, and the day is published all the same, since it is news and not a fault.

    SELECT windrow_partition, avg((label = 'positive')::int) FROM analytics.game_comments GROUP BY 1 ORDER BY 1

The column opinion holds what people who read the comments felt in them.
"""

from datetime import datetime

from airflow.sdk import dag

from windrow.airflow import batch_inference


@dag(schedule="@daily", start_date=datetime(2026, 1, 1), tags=["windrow", "entertainment"])
def game_comments() -> None:
    """Score the day's comments on video games, and tell when the labels drift."""
    batch_inference(
        "game_comments",
        source={
            "path": "windrow://games/{partition}.parquet",
            "key": "comment_id",
            "text": "body",
            "keep": "opinion",
        },
        task="sentiment",
        model="windrow/minilm-sentiment",
        warehouse={"url": "duckdb:///${WINDROW_HOME}/warehouse.duckdb", "table": "analytics.game_comments"},
        quality={"label_drift": {"max_psi": 0.25, "on_breach": "warn"}, "min_rows": 20},
        limits={"max_reject_share": 0.05},
    )


game_comments()
