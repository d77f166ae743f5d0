import json
from datetime import UTC, datetime

from windrow.receipt import LEDGER_SCHEMA, Receipt, Seconds

MOMENT = datetime(2026, 11, 23, 12, tzinfo=UTC)
RECEIPT = Receipt(
    job="j", task="sentiment", partition="p", run_id="r", model="m", revision="v", fingerprint="f", engine="torch",
    device="cpu", precision="fp32", rows_in=3, rows_published=2, rows_rejected=1, rows_truncated=0, texts_distinct=2,
    texts_reused=1, texts_scored=1, tokens=9, seconds=Seconds(1, 2, 3, 6), rows_per_s=0.5, tokens_per_s=4.5,
    warehouse="duckdb:///w", table="t", started_at=MOMENT, finished_at=MOMENT, labels={"positive": 2},
    rejects={"null_text": 1}, versions={"windrow": "0"},
    quality={"checks": [{"name": "length.max_mean", "status": "warn", "value": 9.5, "limit": 9.0, "detail": "long"}]},
)  # fmt: skip

FIELDS = [
    "job",
    "task",
    "partition",
    "run_id",
    "model",
    "revision",
    "fingerprint",
    "engine",
    "device",
    "precision",
    "rows_in",
    "rows_published",
    "rows_rejected",
    "rows_truncated",
    "texts_distinct",
    "texts_reused",
    "texts_scored",
    "tokens",
    "seconds",
    "rows_per_s",
    "tokens_per_s",
    "labels",
    "rejects",
    "warehouse",
    "table",
    "started_at",
    "finished_at",
    "versions",
    "choice",
    "rows_deleted",
    "watermark",
    "quality",
]


def test_a_receipt_survives_json():
    assert Receipt.from_dict(json.loads(json.dumps(RECEIPT.to_dict()))) == RECEIPT


def test_the_receipt_and_the_ledger_have_the_fields_of_the_contract():
    assert set(RECEIPT.to_dict()) == set(FIELDS)
    assert LEDGER_SCHEMA.names == FIELDS


def test_the_ledger_row_holds_the_receipt():
    row = RECEIPT.to_arrow().to_pylist()[0]
    assert row["seconds"] == {"load": 1, "infer": 2, "publish": 3, "total": 6}
    assert dict(row["labels"]) == {"positive": 2}
    assert row["started_at"] == MOMENT
    assert json.loads(row["quality"]) == RECEIPT.quality
