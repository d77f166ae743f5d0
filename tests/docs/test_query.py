"""docs/query.md: what it tells analysts to run, runs."""

import pytest

from docs.pages import REPOSITORY, blocks, first_column, section
from windrow.receipt import LEDGER_SCHEMA
from windrow.schema import RUN_COLUMNS

PAGE = REPOSITORY / "docs/query.md"


@pytest.mark.parametrize("block", blocks("sql", [PAGE]), ids=str)
def test_every_statement_runs_and_finds_rows(block, warehouse):
    assert warehouse.execute(block.text).to_arrow_table().num_rows


@pytest.mark.parametrize("block", blocks("python", [PAGE]), ids=str)
def test_every_snippet_runs_beside_the_warehouse(block, published, monkeypatch):
    monkeypatch.chdir(published)
    exec(compile(block.text, str(block), "exec"), {})


def test_the_copy_for_readers_holds_the_same_rows(published, warehouse, monkeypatch):
    import duckdb

    monkeypatch.chdir(published)
    copying = next(block for block in blocks("python", [PAGE]) if "snapshot" in block.text)
    exec(compile(copying.text, str(copying), "exec"), {})
    query = "SELECT * FROM analytics.review_sentiment ORDER BY windrow_partition, review_id"
    with duckdb.connect("snapshot.duckdb", read_only=True) as copy:
        assert copy.execute(query).to_arrow_table().equals(warehouse.execute(query).to_arrow_table())


def test_the_page_tells_all_columns_that_a_run_adds(warehouse):
    told = first_column(section(PAGE, "The tables"))
    published = warehouse.execute("DESCRIBE analytics.review_sentiment").fetchall()
    assert {name for name, *_ in published} - {"review_id", "kind", "product", "title", "opinion"} <= set(told)
    assert set(told) == {
        "label",
        "score",
        "summary",
        "output",
        "translation",
        "embedding",
        "entities",
        *RUN_COLUMNS.names,
    }


def test_rows_are_in_the_table_or_among_the_rejects_but_never_in_both(warehouse):
    counts = warehouse.execute(
        """SELECT rows_in,
                  (SELECT count(*) FROM analytics.review_sentiment t WHERE t.windrow_run_id = r.run_id),
                  (SELECT count(*) FROM analytics.review_sentiment__rejects x WHERE x.windrow_run_id = r.run_id)
           FROM analytics.windrow_runs r WHERE job = 'review_sentiment' ORDER BY run_id"""
    ).fetchall()
    assert counts == [(24, 24, 0), (24, 24, 0), (5, 1, 4)]


def test_the_ledger_has_the_fields_that_the_page_points_to(warehouse):
    columns = [name for name, *_ in warehouse.execute("DESCRIBE analytics.windrow_runs").fetchall()]
    assert columns == LEDGER_SCHEMA.names
