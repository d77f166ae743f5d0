"""Processes killed at random moments, then finished; each warehouse gets its share of the kills."""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import astuple

import pytest

from faults.test_points import SLOW, is_named
from faults.trials import KILLS, THOROUGH, times_scored
from warehouses.places import BROKEN, PLACES

pytestmark = pytest.mark.faults

SHARE, FEW = -(-KILLS // len(BROKEN if THOROUGH else PLACES)), 8
SEED = 20_261_124


def differences(found, whole):
    """Return how many rows and ledger rows are lost, doubled, or of neither (mixed)."""
    told = Counter(lost=0, doubled=0, mixed=0)
    for have, want in zip(map(Counter, astuple(found)), map(Counter, astuple(whole)), strict=True):
        told["lost"] += (want - have).total()
        for row, count in (have - want).items():
            told["doubled" if row in want else "mixed"] += count
    return told


def killed(site, job, chance, usual_s):
    """Start a run and kill it at a random moment of a random step; return its process, the step and whether it hit."""
    step = chance.choice(["load", "infer", "publish"])
    with site.child("run", job) as child:
        child.listen(until=step)
        time.sleep(chance.uniform(0, usual_s / 3))
        child.process.kill()
        child.process.join()
        landed = child.process.exitcode == -signal.SIGKILL
        child.listen()
    return child, landed


@pytest.mark.timeout(3600)
def test_runs_killed_at_random_moments_and_finished_equal_unbroken_ones(site, record_property):
    chance = random.Random(SEED)
    told: Counter[str] = Counter()
    began = time.monotonic()
    site.finished(site.job(0))
    usual_s = time.monotonic() - began
    share = FEW if site.kind in SLOW else SHARE
    for number in range(share):
        variant, store = number % 2, site.folder / f"store-random-{number % 4}"
        before, job = site.content(), site.job(variant, store)
        child, landed = killed(site, job, chance, usual_s)
        told["kills"] += 1
        told["landed"] += landed
        told[f"in {child.steps[-1]}"] += landed
        resumed = bool(child.ref) and chance.random() < 0.5
        if not resumed and not is_named(site.kind, "publish.claimed"):
            told["half seen"] += site.content() not in (before, site.whole[variant])
        receipt = site.finished(job, child.ref if resumed else None)
        told["resumed"] += resumed
        told.update(differences(site.content(), site.whole[variant]))
        told["mixed"] += site.owners() != {receipt["run_id"]}
        told["scored twice"] += set(times_scored(store)) != {1}
        if number % 4 == 3:
            for each in range(4):
                shutil.rmtree(site.folder / f"store-random-{each}", ignore_errors=True)
    record_property("kills", [site.kind, dict(told)])
    wrong = {name: told[name] for name in ("lost", "doubled", "mixed", "half seen", "scored twice") if told[name]}
    assert not wrong, told
    assert told["landed"] > share // 2, f"only {told['landed']} of {share} kills came before the end"


def test_parts_are_compared(site):
    assert site.whole[0] != site.whole[1]
    assert all(len(part) for part in astuple(site.whole[0]))
    assert differences(site.whole[0], site.whole[0]).total() == 0
    assert differences(site.whole[1], site.whole[0])["mixed"] > 0
