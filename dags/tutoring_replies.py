"""Education: how tutors answer mistakes, whenever a new day of chats has arrived.

Why: a discouraging answer to a wrong sum costs a pupil, and nobody reads ten thousand chats a day. The label of each
reply, beside the kind of mistake and what the tutor did about it, shows a coach where to look. The chats come when the
school sends them, so the Dag waits for their asset instead of a clock; the event names the day:

    POST /api/v2/assets/events   {"asset_id": …, "extra": {"partition": "2026-11-23"}}

A label is a hint where to read, not a mark for a tutor: the model was trained on reviews.
"""

from datetime import datetime

from airflow.sdk import Asset, dag

from windrow.airflow import batch_inference


@dag(schedule=Asset("tutoring_chats"), start_date=datetime(2026, 1, 1), tags=["windrow", "education"])
def tutoring_replies() -> None:
    """Score the tutors' replies in the day of chats that has arrived."""
    batch_inference(
        "tutoring_replies",
        source={
            "path": "windrow://chats/{partition}.parquet",
            "key": "chat_id",
            "text": "reply",
            "keep": ["topic", "error", "strategy"],
        },
        task="sentiment",
        model="windrow/minilm-sentiment",
        warehouse={"url": "duckdb:///${WINDROW_HOME}/warehouse.duckdb", "table": "analytics.tutoring_replies"},
        limits={"max_reject_share": 0.05},
    )


tutoring_replies()
