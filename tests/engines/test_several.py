"""Several devices: each shard runs whole on one of them, so nothing that is published depends on how many there are."""

import threading
from collections import Counter
from contextlib import suppress

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from conftest import WORDS
from windrow import Job, run
from windrow.engines import EnginePlan, several
from windrow.engines.base import Decoding
from windrow.engines.devices import lane_devices, named_devices
from windrow.engines.several import Several, calls_at_once, open_on
from windrow.engines.torch_engine import TorchEngine
from windrow.errors import EngineError, JobError
from windrow.infer import infer
from windrow.inspect import plan_job
from windrow.load import load
from windrow.models import resolve
from windrow.models.tokens import Windows
from windrow.store import Store
from windrow.testing import FakeEngine

ROWS = 600


@pytest.fixture
def fields(job_fields, tmp_path, monkeypatch, home):
    monkeypatch.setattr("windrow.load.SHARD_TEXTS", 64)
    monkeypatch.setattr("windrow.load._READ_TEXTS", 64)
    chosen = np.random.default_rng(7)
    bodies = [f"{' '.join(chosen.choice(WORDS, 9))} {number}" for number in range(ROWS)]
    parquet.write_table(pa.table({"review_id": range(ROWS), "body": bodies}), tmp_path / "many.parquet")
    source = {"path": str(tmp_path / "many.parquet"), "text": "body", "key": "review_id"}
    return {**job_fields, "source": source, "precision": "fp32", "engine": "torch", "device": "cpu"}


def other(fields, name, tmp_path, **changes):
    warehouse = {"url": f"duckdb:///{tmp_path}/{name}.duckdb", "table": "scores"}
    return Job(**{**fields, "store": str(tmp_path / f"store-{name}"), "warehouse": warehouse, **changes})


def published(job):
    with duckdb.connect(job.warehouse.url.removeprefix("duckdb:///"), read_only=True) as con:
        return con.execute("SELECT review_id, label, score, windrow_tokens FROM scores ORDER BY 1").fetchall()


def test_two_devices_publish_what_one_publishes(fields, tmp_path):
    one, two = other(fields, "one", tmp_path), other(fields, "two", tmp_path, device="cpu, cpu")
    assert run(one).texts_scored == ROWS
    receipt = run(two)
    assert (receipt.texts_scored, receipt.device, receipt.rows_published) == (ROWS, "cpu,cpu", ROWS)
    assert published(two) == published(one)


def test_both_devices_score_shards(fields, tmp_path, monkeypatch):
    seen, both = Counter(), threading.Barrier(2, timeout=60)
    classify = TorchEngine.classify

    def counted(engine, windows):
        if not seen[id(engine)]:
            seen[id(engine)] += 1
            both.wait()  # breaks unless two engines are called at the same time
        seen[id(engine)] += 1
        return classify(engine, windows)

    monkeypatch.setattr(TorchEngine, "classify", counted)
    run(other(fields, "two", tmp_path, device="cpu,cpu"))
    assert len(seen) == 2
    assert not both.broken


def test_a_device_that_dies_fails_the_run_and_a_second_run_scores_only_what_is_left(fields, tmp_path, monkeypatch):
    engines = []
    open_first = several.open_first

    def opened(plan, model, wanted):
        engines.append(open_first(plan, model, wanted))
        return engines[-1]

    monkeypatch.setattr(several, "open_first", opened)
    classify, calls = TorchEngine.classify, []

    def dying(engine, windows):
        calls.append(engine)
        if engine is engines[0] and calls.count(engine) > 2:
            raise EngineError("Device 'cuda:0' failed: CUDA error: unspecified launch failure.", "run it again.")
        return classify(engine, windows)

    monkeypatch.setattr(TorchEngine, "classify", dying)
    job = other(fields, "two", tmp_path, device="cpu,cpu")
    with pytest.raises(EngineError, match="unspecified launch failure") as told:
        run(job)
    assert told.value.retryable
    monkeypatch.setattr(TorchEngine, "classify", classify)
    receipt = run(job)
    assert 0 < receipt.texts_reused < ROWS
    assert receipt.texts_reused + receipt.texts_scored == ROWS
    run(one := other(fields, "one", tmp_path))
    assert published(job) == published(one)


def test_a_lane_reports_the_devices_that_it_ran_on(fields, tmp_path):
    job = other(fields, "two", tmp_path, device="cpu,cpu")
    manifest = load(job, None)
    first = infer(job, manifest.ref, lane=0, lanes=2)
    second = infer(job, manifest.ref, lane=1, lanes=2)
    assert (first.device, second.device) == ("cpu", "cpu")
    assert first.texts + second.texts == ROWS


def test_a_plan_counts_on_all_devices(fields, tmp_path):
    found = plan_job(other(fields, "plan", tmp_path, device="cpu,cpu"))
    assert (found["device"], found["texts_to_score"]) == ("cpu,cpu", ROWS)
    assert found["texts_per_s"] > 0


def test_calls_go_to_idle_engines_and_more_than_there_are_wait():
    inside, most, lock = [0], [0], threading.Lock()

    def answer(ids):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.02)
        with lock:
            inside[0] -= 1
        return np.asarray([float(ids.sum())])

    engine = Several([FakeEngine(answer), FakeEngine(answer)])
    assert calls_at_once(engine) == 2
    assert engine.plan.device == "cpu,cpu"
    windows = _windows([[1, 2], [3], [4, 5, 6]])
    results = []
    threads = [threading.Thread(target=lambda: results.append(engine.classify(windows).values)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 6
    assert all((values == [[3.0], [3.0], [15.0]]).all() for values in results)
    assert most[0] == 2
    assert engine.embed(windows).values.shape == (3, 1)
    assert len(engine.generate(windows, Decoding()).values) == 3


def test_an_engine_that_fails_is_idle_again():
    def answer(ids):
        raise EngineError("gone", "again")

    engine = Several([FakeEngine(answer)] * 2)
    for _ in range(4):
        with suppress(EngineError):
            engine.classify(_windows([[1]]))
    assert engine._idle.qsize() == 2


@pytest.mark.parametrize(
    ("device", "lane", "lanes", "gpus", "expected"),
    [
        ("cuda", 0, 1, 1, ("cuda",)),
        ("cuda", 0, 1, 4, ("cuda:0", "cuda:1", "cuda:2", "cuda:3")),
        ("cuda", 1, 4, 4, ("cuda:1",)),
        ("cuda", 5, 6, 4, ("cuda:1",)),
        ("cuda", 1, 2, 4, ("cuda:1", "cuda:3")),
        ("cuda", 3, 4, 1, ("cuda",)),
        ("cuda:1", 3, 4, 4, ("cuda:1",)),
        ("cuda:2,cuda:3", 0, 1, 4, ("cuda:2", "cuda:3")),
        ("cuda:2,cuda:3", 1, 2, 4, ("cuda:3",)),
        ("cpu", 1, 2, 0, ("cpu",)),
    ],
)
def test_lanes_share_out_the_devices(device, lane, lanes, gpus, expected):
    assert lane_devices(device, lane, lanes, gpus) == expected


@pytest.mark.parametrize("device", ["cpu,cuda:0", "", " , "])
def test_devices_of_several_kinds_or_none_are_refused(device):
    with pytest.raises(JobError, match="does not name devices of one kind"):
        named_devices(device)


def test_a_device_among_several_that_is_not_there_is_an_error_and_the_others_are_closed(fields, monkeypatch):
    closed = []
    monkeypatch.setattr(TorchEngine, "close", lambda engine: closed.append(engine))
    model = resolve(Job(**fields))
    with pytest.raises(EngineError, match="'cuda:1' cannot be used"):
        open_on(["cpu", "cuda:1"], EnginePlan("torch", "classify", "cpu", "fp32", 2), model, "torch")
    assert len(closed) == 1


def test_scores_of_a_lane_are_kept_by_shard(fields, tmp_path):
    job = other(fields, "two", tmp_path, device="cpu,cpu")
    manifest = load(job, None)
    assert len(manifest.shards) > 4
    infer(job, manifest.ref)
    names = [name for name, _, _ in Store(job.store_url).listed("predictions", ".parquet")]
    assert len(names) == len(manifest.shards)


def _windows(rows):
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    places = np.arange(len(rows), dtype=np.int32)
    return Windows(np.concatenate(rows).astype(np.int32), offsets, places, np.zeros(len(rows), dtype=np.bool_))
