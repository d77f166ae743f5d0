"""Files of a run that are cut short or have other bytes in them: told as broken, or made anew; never a wrong value."""

from __future__ import annotations

import random
import shutil

import pytest

from faults.trials import times_scored

pytestmark = [pytest.mark.faults, pytest.mark.parametrize("site", ["duckdb"], indirect=True)]
FLIPS = 40


@pytest.fixture
def loaded(site):
    """A run that was killed when it was loaded, by its job file, reference and folder."""

    def load(at="load.manifest"):
        job = site.job(0, site.folder / "store-broken")
        _, child = site.ended("run", job, kill_at=at)
        store = site.folder / "store-broken"
        (folder,) = (file.parent for file in store.rglob("rows.parquet"))
        run = {"job": "scores", "partition": "2026-11-23", "run_id": folder.name}
        return job, child.ref or run, store, folder

    yield load
    shutil.rmtree(site.folder / "store-broken", ignore_errors=True)


def resumed(site, job, ref):
    """Resume a run: return what it told, if it failed; its error has to say that the run begins again from load."""
    _, child = site.ended("resume", job, ref=ref)
    word, value = child.outcome
    if word == "done":
        return None
    assert word == "failed", child.told
    assert (value["kind"], value["retryable"]) == ("StoreError", True)
    assert "run it again" in value["told"]
    return value["told"]


@pytest.mark.parametrize("kept", [0, 0.5, 0.98])
@pytest.mark.parametrize("name", ["rows.parquet", "rejects.parquet", "shards/00001.arrow", "run.json"])
def test_a_file_that_is_cut_short_is_told_and_the_run_begins_again(site, loaded, name, kept):
    before = site.content()
    job, ref, _, folder = loaded()
    file = folder / name
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    assert resumed(site, job, ref)
    assert site.content() == before
    site.finished(job)
    assert site.content() == site.whole[0]


def test_a_shard_with_other_bytes_is_told_or_harmless(site, loaded):
    chance, told = random.Random(3), 0
    for _ in range(FLIPS):
        job, ref, store, folder = loaded()
        file = chance.choice(sorted(folder.glob("shards/*.arrow")))
        data = bytearray(file.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)
        told += bool(resumed(site, job, ref))
        site.finished(job)
        assert site.content() == site.whole[0]
        shutil.rmtree(store)
    assert told > FLIPS // 4


@pytest.mark.parametrize("kept", [0, 0.5])
def test_predictions_that_are_cut_short_are_made_again(site, loaded, kept):
    job, ref, store, _ = loaded("infer.done")
    file = min(store.rglob("predictions/*/*.parquet"))
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
    site.finished(job, ref)
    assert site.content() == site.whole[0]
    assert set(times_scored(store)) == {1}
    assert list(store.rglob("*.broken"))
