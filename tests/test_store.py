"""The store: atomic writes, names, sizes, age, on a local disk and on any fsspec URL."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

from conftest import merged
from windrow import Job, run
from windrow.errors import JobError, StoreError
from windrow.infer import infer
from windrow.load import load
from windrow.publish import publish
from windrow.store import RunRef, Store, new_run_id
from windrow.upkeep import compact_all, prune, store_sizes


@pytest.fixture(params=["local", "memory"])
def store(request, tmp_path):
    yield Store(str(tmp_path / "o'neil store") if request.param == "local" else f"memory://{tmp_path}")
    with suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(str(tmp_path), recursive=True)


@pytest.fixture
def job(home, job_fields):
    return lambda **changes: Job(**merged(job_fields, changes))


def test_what_is_written_is_read_back_and_listed(store):
    store.write_json("runs/a/one.json", {"n": 1, "text": "é"})
    store.write_json("runs/a/one.json", {"n": 2})
    assert store.read_json("runs/a/one.json") == {"n": 2}
    assert store.exists("runs/a/one.json")
    assert not store.exists("runs/a/two.json")
    ((name, size, modified),) = store.listed("runs", ".json")
    assert (name, size) == ("runs/a/one.json", 11)
    assert abs(time.time() - modified) < 60
    store.remove(["runs/a/one.json", "runs/a/never-there.json"])
    assert store.listed("runs", "") == []


def test_a_missing_file_says_to_start_from_load(store):
    with pytest.raises(StoreError, match=r"(?s)'runs/x/run.json' is not in store.*run it again from load"):
        store.read_json("runs/x/run.json")
    with pytest.raises(StoreError, match="is not in store"):
        store.read_arrow("runs/x/shards/00000.arrow")


@pytest.mark.parametrize("keep", [0, 10, 300, -10])
def test_a_truncated_shard_says_to_start_from_load(store, keep):
    sink = pa.BufferOutputStream()
    table = pa.table({"windrow_hash": [b"x" * 16] * 50, "windrow_text": ["good"] * 50})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    content = sink.getvalue().to_pybytes()
    for name, data in (("whole", content), ("cut", content[:keep])):
        with store.scratch() as folder:
            (folder / "file").write_bytes(data)
            store.put(folder / "file", f"shards/{name}.arrow")
    assert store.read_arrow("shards/whole.arrow").equals(table)
    with pytest.raises(StoreError, match=r"(?s)'shards/cut.arrow' of the store is broken.*run it again from load"):
        store.read_arrow("shards/cut.arrow")


def test_a_run_may_keep_its_store_anywhere(store, job):
    receipt = run(job(store=store.url), "2026-11-23")
    assert (receipt.rows_published, receipt.texts_scored) == (5, 5)
    assert run(job(store=store.url), "2026-11-23").texts_scored == 0
    assert store.listed(f"runs/{receipt.job}/2026-11-23/{receipt.run_id}/shards", "") == []
    assert store.read_json(f"runs/{receipt.job}/2026-11-23/{receipt.run_id}/receipt.json")["rows_in"] == 5


def test_scratch_goes_even_when_the_work_fails_and_stale_scratch_is_swept(tmp_path):
    store = Store(str(tmp_path))
    with pytest.raises(ZeroDivisionError), store.scratch() as folder:
        _ = 1 / 0
    assert not folder.exists()
    stale = tmp_path / "tmp" / "windrow-stale"
    stale.mkdir()
    (stale / "big").write_text("x", encoding="utf-8")
    os.utime(stale, (time.time() - 90_000,) * 2)
    fresh = tmp_path / "tmp" / "windrow-fresh"
    fresh.mkdir()
    with store.scratch():
        assert not stale.exists()
        assert fresh.exists()


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    store = Store(str(tmp_path))
    store.write_json("run.json", {"n": 1})

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*\n.*free some space") as raised:
        store.write_json("run.json", {"n": 2})
    assert raised.value.retryable
    assert store.read_json("run.json") == {"n": 1}


@pytest.mark.parametrize("url", ["weird://x", "/tmp/a*b", "/tmp/[x]"])
def test_a_store_of_no_known_kind_or_with_a_globs_letters_is_refused(url):
    with pytest.raises(JobError, match=r"(?s)Store.*`store`"):
        Store(url)


@pytest.mark.parametrize(
    "partition", ["2026-11-23", "a/b", "..", ".", "é 文", "x" * 500, "y/" * 200, "%2e%2e", "a\x00b", "*"]
)
def test_every_partition_has_a_folder_of_its_own_inside_the_store(partition):
    ref = RunRef("job", partition, "run")
    parts = Path(ref.folder).parts
    assert parts[:2] == ("runs", "job")
    assert len(parts) == 4
    assert os.path.normpath(ref.folder) == ref.folder
    assert len(parts[2].encode()) < 255
    assert RunRef("job", f"{partition}x", "run").folder != ref.folder


def test_run_ids_sort_by_their_moment():
    ids = [new_run_id() for _ in range(50)]
    assert sorted(ids) == ids
    assert len(set(ids)) == 50


def test_files_that_go_while_a_folder_is_listed_hide_no_other_file(tmp_path):
    store = Store(str(tmp_path / "store"))
    for number in range(50):
        store.write_json(f"folder/stays-{number:02}.json", number)
    done = threading.Event()

    def come_and_go():
        while not done.is_set():
            store.write_json("folder/comes.json", 0)
            store.remove(["folder/comes.json"])

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(200):
            found = {name for name, _, _ in store.listed("folder", ".json")}
            assert len(found - {"folder/comes.json"}) == 50
    finally:
        done.set()
        thread.join()
    assert store.listed("no such folder") == []


def test_sizes_and_pruning_by_age(store, job):
    run(job(store=store.url), "a")
    sizes = store_sizes(store.url)
    assert sizes["predictions_files"] == 1
    assert sizes["runs_files"] >= 4
    assert sizes["fingerprints"] == 1
    assert sizes["runs_bytes"] > 0 < sizes["predictions_bytes"]
    assert prune(store.url, 1) == 0
    assert store_sizes(store.url) == sizes
    assert prune(store.url, 0) == sizes["runs_files"] + sizes["predictions_files"]
    assert store_sizes(store.url) == dict.fromkeys(sizes, 0)
    if store.is_local:
        assert not list(Path(store.root, "runs").glob("*"))
    assert run(job(store=store.url), "a").texts_scored == 5


def test_pruning_takes_what_broken_writes_left(tmp_path):
    store = Store(str(tmp_path))
    store.write_json("runs/j/p/r/run.json", {})
    (tmp_path / "runs/j/p/r/run.json.partial-1234").write_text("x", encoding="utf-8")
    (tmp_path / "predictions/f").mkdir(parents=True)
    (tmp_path / "predictions/f/x.parquet.broken").write_text("x", encoding="utf-8")
    assert prune(str(tmp_path), 0) == 3
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_old_files_go_and_new_ones_stay(tmp_path):
    store = Store(str(tmp_path))
    for name in ("runs/a.json", "predictions/f/b.json"):
        store.write_json(name, {})
    os.utime(tmp_path / "runs/a.json", (time.time() - 8 * 86_400,) * 2)
    assert prune(str(tmp_path), 7) == 1
    assert [name for name, _, _ in store.listed("", "")] == ["predictions/f/b.json"]


def test_compaction_leaves_the_table_as_it_is(store, job, monkeypatch):
    monkeypatch.setattr("windrow.load.SHARD_TEXTS", 1)
    monkeypatch.setattr("windrow.load._READ_TEXTS", 1)
    first = run(job(store=store.url), "a")
    assert store_sizes(store.url)["predictions_files"] == 5
    assert compact_all(store.url) == 5
    assert store_sizes(store.url)["predictions_files"] == 1
    again = run(job(store=store.url), "a")
    assert (again.texts_scored, again.labels) == (0, first.labels)
    assert compact_all(store.url) == 0


def test_a_run_between_whose_steps_the_store_is_compacted_publishes(store, job, monkeypatch):
    monkeypatch.setattr("windrow.load.SHARD_TEXTS", 1)
    monkeypatch.setattr("windrow.load._READ_TEXTS", 1)
    run(job(store=store.url), "a", limit=3)
    manifest = load(job(store=store.url), "b")
    assert (len(manifest.shards), manifest.texts_reused) == (2, 3)
    compact_all(store.url)
    infer(job(store=store.url), manifest.ref)
    compact_all(store.url)
    assert publish(job(store=store.url), manifest.ref).rows_published == 5


def test_a_pruned_run_cannot_be_published_and_says_so(store, job):
    manifest = load(job(store=store.url), "a")
    prune(store.url, 0)
    with pytest.raises(StoreError, match=r"run\.json.*\n.*run it again from load"):
        publish(job(store=store.url), manifest.ref)


def test_a_published_run_whose_predictions_were_pruned_sends_its_reader_to_load(store, job):
    receipt = run(job(store=store.url), "a")
    store.remove([name for name, _, _ in store.listed("predictions")])
    with pytest.raises(StoreError, match=r"no prediction any more.*\n.*run it again from load"):
        publish(job(store=store.url), RunRef(receipt.job, "a", receipt.run_id))
    assert run(job(store=store.url), "a").texts_scored == receipt.texts_scored
