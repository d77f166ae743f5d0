"""Trained weights write in every engine what their own makers' runtime writes, and eight bits are held against that."""

from __future__ import annotations

import difflib
import statistics
from pathlib import Path

import duckdb
import pytest
from pyarrow import csv, parquet

from windrow import Job, run
from windrow.pilot import choice

FOLDER = Path(__file__).parents[1] / "transliteration"
NAMES = csv.read_csv(FOLDER / "names.tsv", parse_options=csv.ParseOptions(delimiter="\t"))


@pytest.fixture
def written(home, tmp_path):
    """Return a function that runs a job over all names; it returns the receipt and what was written of each name."""
    parquet.write_table(NAMES, tmp_path / "names.parquet")

    def ran(**changes):
        receipt = run(
            Job(
                name="names",
                source={"path": str(tmp_path / "names.parquet"), "text": "name", "key": "name"},
                task="translate", model=str(FOLDER / "checkpoint"), device="cpu",
                warehouse={"url": f"duckdb:///{tmp_path / 'names.duckdb'}", "table": "names"}, **changes,
            )
        )  # fmt: skip
        with duckdb.connect(str(tmp_path / "names.duckdb"), read_only=True) as reader:
            rows = dict(reader.execute("SELECT name, translation FROM names").fetchall())
        return receipt, [rows[name] for name in NAMES["name"].to_pylist()]

    return ran


@pytest.mark.parametrize("engine", ["torch", "ctranslate2"])
def test_each_engine_writes_what_the_original_model_writes_in_ctranslate2(written, engine):
    receipt, found = written(engine=engine, precision="fp32")
    assert (receipt.engine, receipt.rows_published) == (engine, NAMES.num_rows)
    assert found == NAMES["written"].to_pylist()


def test_int8_is_near_to_it_letter_by_letter(written):
    _, found = written(engine="ctranslate2", precision="int8")
    pairs = list(zip(NAMES["written"].to_pylist(), found, strict=True))
    alike = statistics.mean(difflib.SequenceMatcher(None, *pair, autojunk=False).ratio() for pair in pairs)
    assert 0.97 < alike < 1


def test_the_pilot_holds_int8_against_fp32_word_by_word(written, monkeypatch):
    monkeypatch.setattr(choice, "WORTH_FLOP", 0)
    receipt, found = written(engine="ctranslate2")
    (int8,) = [trial for trial in receipt.choice["trials"] if trial["precision"] == "int8"]
    assert int8["share"] < 0.98
    assert int8["refused"].startswith("words agree on")
    assert receipt.precision != "int8"
    assert statistics.mean(a == b for a, b in zip(found, NAMES["written"].to_pylist(), strict=True)) > 0.98
