"""Wide columns, kept or predicted, go through load and publish within the store's bounds of memory."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from windrow import Job, joining, run
from windrow.predictions import FACTS, Predictions
from windrow.store import Store
from windrow.testing import make_tiny_encoder
from windrow.upkeep import compact_all

ROWS, SIZE = 20_000, 1024
TASK = pa.schema([("embedding", pa.list_(pa.float32()))])


@pytest.fixture
def predicted(home, tmp_path):
    """A store with one prediction of a thousand numbers for each of twenty thousand hashes, in five files."""
    store = Store(str(tmp_path / "store"))
    predictions = Predictions(store, "f" * 64, TASK)
    generator = np.random.default_rng(0)
    hashes = [number.to_bytes(2, "big") * 8 for number in generator.permutation(ROWS).tolist()]
    for start in range(0, ROWS, 4000):
        own = hashes[start : start + 4000]
        flat = np.repeat([int.from_bytes(one[:2], "big") for one in own], SIZE).astype(np.float32)
        lists = pa.ListArray.from_arrays(pa.array(np.arange(len(own) + 1, dtype=np.int32) * SIZE), pa.array(flat))
        columns = {"windrow_hash": pa.array(own, pa.binary(16)), "embedding": lists}
        facts = {field.name: pa.nulls(len(own), field.type) for field in FACTS}
        predictions.write(pa.table({**columns, **facts}), f"part{start}")
    return store, predictions, hashes


def test_vectors_are_joined_in_little_memory_each_to_its_row(predicted, tmp_path, monkeypatch):
    store, predictions, hashes = predicted
    monkeypatch.setattr(joining, "_PART_BYTES", 64 << 10)
    monkeypatch.setattr(joining, "_MEMORY", "48MB")
    file = tmp_path / "rows.parquet"
    rows = pa.table({"id": [int.from_bytes(one[:2], "big") for one in hashes], "windrow_hash": hashes})
    parquet.write_table(rows.set_column(1, "windrow_hash", pa.array(hashes, pa.binary(16))), file)
    seen = []
    with store.scratch() as folder, store.connect(folder) as con:
        con.execute(f"CREATE TEMP VIEW rows AS FROM read_parquet('{file}')")
        predictions.select(con, "rows", "found")
        for batch in joining.joined(con, "SELECT rows.id, found.embedding", str(file), wide=True):
            vectors = batch.column("embedding").flatten().to_numpy().reshape(-1, SIZE)
            assert (vectors == batch.column("id").to_numpy()[:, None]).all()
            seen += batch.column("id").to_pylist()
    assert sorted(seen) == list(range(ROWS))


def test_files_of_vectors_are_merged_in_little_memory(predicted):
    store, predictions, _ = predicted
    assert compact_all(store.url) == 5
    with store.scratch() as folder, store.connect(folder) as con:
        con.execute("CREATE TABLE wanted AS SELECT unhex('0001' || repeat('0001', 7)) AS windrow_hash")
        predictions.select(con, "wanted", "found")
        assert con.execute("SELECT embedding[1], len(embedding) FROM found").fetchall() == [(1.0, SIZE)]


@pytest.mark.parametrize("edges", [[], [1], [256, 512, 65535]])
def test_every_hash_is_in_exactly_one_part(edges):
    hashes = [0, 1, 255, 256, 511, 512, 65534, 65535]
    with duckdb.connect() as con:
        con.execute("CREATE TABLE h AS SELECT unhex(printf('%04x', unnest(?)::INT) || 'ff') AS windrow_hash", [hashes])
        counts = [
            con.execute(f"SELECT count(*) FROM h WHERE {part}").fetchall()[0][0] for part in joining._ranges(edges)
        ]
    assert len(counts) == len(edges) + 1
    assert sum(counts) == len(hashes)


def test_wide_kept_columns_are_published_beside_vectors(home, job_fields, tmp_path, monkeypatch):
    monkeypatch.setattr(joining, "_PART_BYTES", 8 << 20)
    generator = np.random.default_rng(0)
    bodies = [generator.bytes(5000).hex() for _ in range(12_000)]
    table = pa.table({"id": range(len(bodies)), "text": [f"good film {n % 50}" for n in range(len(bodies))]})
    parquet.write_table(table.append_column("body", pa.array(bodies)), tmp_path / "wide.parquet", row_group_size=1000)
    source = {"path": str(tmp_path / "wide.parquet"), "text": "text", "key": "id", "keep": ["body"]}
    model = make_tiny_encoder(tmp_path / "model", ["good", "film"])
    receipt = run(Job(**{**job_fields, "source": source, "task": "embed", "model": str(model)}))
    assert (receipt.rows_published, receipt.texts_scored) == (len(bodies), 50)
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
        found = con.execute("SELECT id, md5(body), len(embedding) FROM analytics.review_sentiment").fetchall()
        expected = con.execute(f"SELECT id, md5(body), 32 FROM '{tmp_path}/wide.parquet'").fetchall()
    assert sorted(found) == sorted(expected)
