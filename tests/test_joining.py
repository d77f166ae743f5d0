"""Rows meet their predictions in bounded memory, however many there are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import compute, parquet

from windrow import joining
from windrow.predictions import FACTS, Predictions
from windrow.store import Store

MOST = 400_000
TASK = pa.schema([("label", pa.string()), ("score", pa.float32())])
RUN = "20261123T000000-0123456789abcdef"
SELECT = "SELECT rows.key, found.label, found.score, found.windrow_scored_by"


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A store with predictions of 400,000 hashes, and the hashes."""
    predictions = Predictions(Store(str(tmp_path_factory.mktemp("store"))), "f" * 64, TASK)
    generator = np.random.default_rng(0)
    hashes = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), MOST, [None, pa.py_buffer(generator.bytes(16 * MOST))])
    score = pa.array(generator.random(MOST), pa.float32())
    columns = {"windrow_hash": hashes, "label": pa.array(["positive"] * MOST), "score": score}
    facts = {field.name: pa.nulls(MOST, field.type) for field in FACTS}
    facts["windrow_scored_by"] = pa.array([RUN] * MOST)
    table = pa.table({**columns, **facts})
    for start in range(0, MOST, 50_000):
        predictions.write(table.slice(start, 50_000), f"part{start}")
    return predictions, hashes, compute.sum(score).as_py()


@pytest.mark.parametrize("rows", [150_000, 250_000, 300_000, 340_000, MOST])
def test_hundreds_of_thousands_of_rows_meet_their_predictions(predicted, tmp_path, rows):
    predictions, hashes, total = predicted
    file = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"key": list(map(str, range(rows))), "windrow_hash": hashes.slice(0, rows)}), file)
    keys, scores = set(), 0.0
    with predictions.store.scratch() as folder, predictions.store.connect(folder) as con:
        con.execute(f"CREATE TEMP VIEW rows AS FROM read_parquet('{file}')")
        predictions.select(con, "rows", "found")
        for batch in joining.joined(con, SELECT, str(file), wide=False):
            keys.update(batch.column("key").to_pylist())
            scores += compute.sum(batch.column("score")).as_py()
    assert len(keys) == rows
    assert rows < MOST or scores == pytest.approx(total)
