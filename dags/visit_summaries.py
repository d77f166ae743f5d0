"""Medicine: what was said in doctors' visits, in forty words, over years of records: a backfill.

Why: a study asks for all visits of a decade, once. A backfill takes them day by day, as many at once as the workers
carry, and a run that is killed goes on where it stopped. Names, dates, numbers and addresses are taken out as the
source is read: store, tables and logs never hold them, so neither do the summaries, which quote the conversation.

    airflow backfill create --dag-id visit_summaries --from-date 2016-01-01 --to-date 2025-12-31 --max-active-runs 8

By pattern, a name without a title stays: look the patterns over on your own records first (docs/job.md).
"""

from datetime import datetime

from airflow.sdk import dag

from windrow.airflow import batch_inference


@dag(schedule="@daily", start_date=datetime(2016, 1, 1), tags=["windrow", "medicine"])
def visit_summaries() -> None:
    """Summarise each doctor's visit of the day in at most forty words, with what identifies a patient taken out."""
    batch_inference(
        "visit_summaries",
        source={
            "path": "windrow://notes/{partition}.parquet",
            "key": "visit_id",
            "text": "dialogue",
            "keep": ["section", "note"],
            "redact": ["names", "dates", "phones", "emails", "numbers"],
        },
        task={"name": "summarise", "max_words": 40},
        model="windrow/minilm-extractive",
        warehouse={"url": "duckdb:///${WINDROW_HOME}/warehouse.duckdb", "table": "analytics.visit_summaries"},
        limits={"max_reject_share": 0.05},
    )


visit_summaries()
