"""The tables that docs/query.md asks: its jobs, run over a few sample reviews and some broken rows."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from docs.pages import REPOSITORY, blocks
from windrow import Job, run
from windrow.testing import make_tiny_tagger

LIMITS = {"review_sentiment": 24, "review_summaries": 8, "review_vectors": 8, "review_entities": 8}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``warehouse.duckdb``: two days of all jobs, and a third day with rejects."""
    folder = tmp_path_factory.mktemp("published")
    make_tiny_tagger(folder / "models/ner", ["the", "phone", "camera", "film"])
    for block in blocks("yaml", [REPOSITORY / "docs/query.md"]):
        fields = yaml.safe_load(block.text)
        for day in ("2026-11-23", "2026-11-24"):
            run(Job(**fields, folder=str(folder), store="store"), day, limit=LIMITS[fields["name"]])
        fields["source"]["path"] = str(_broken_rows(folder))
        run(Job(**fields, folder=str(folder), store="store"), "2026-11-25")
    return folder


def _broken_rows(folder: Path) -> Path:
    bodies = ["Works well, I am happy with it.", "", None, "Дуже добрий телефон", "It broke after a week."]
    columns = {"review_id": ["b1", "b2", "b3", "b4", "b1"], "body": bodies}
    same = {
        "kind": ["product"] * 5,
        "product": ["phone"] * 5,
        "title": ["A phone"] * 5,
        "opinion": ["positive", None, None, None, "negative"],
    }
    file = folder / "broken.parquet"
    parquet.write_table(pa.table({**columns, **same}), file)
    return file


@pytest.fixture
def warehouse(published: Path) -> duckdb.DuckDBPyConnection:
    """The tables, open for reading."""
    with duckdb.connect(str(published / "warehouse.duckdb"), read_only=True) as con:
        yield con
