"""What the steps leave for each other: reports of lanes, old ones too, and what of the plan did not run."""

from __future__ import annotations

import json

import pytest

from windrow import Job
from windrow.engines import exported_engine, fitting
from windrow.errors import ExportError
from windrow.infer import infer
from windrow.load import load
from windrow.manifest import LaneReport, Manifest
from windrow.publish import publish
from windrow.store import Store


@pytest.fixture
def job(job_fields, home):
    return Job(**job_fields, precision="fp32", device="cpu")


@pytest.fixture
def ref(job):
    return load(job).ref


def test_a_report_that_knows_of_no_fallbacks_is_read(job, ref, tmp_path):
    infer(job, ref)
    [file] = (tmp_path / "store").rglob("lanes/0.json")
    fields = json.loads(file.read_text(encoding="utf-8"))
    assert fields.pop("fallbacks") == []
    file.write_text(json.dumps(fields), encoding="utf-8")
    assert [report.fallbacks for report in LaneReport.read_all(Store(job.store_url), ref)] == [[]]
    assert publish(job, ref).choice["fallbacks"] == []


def test_what_two_lanes_tell_is_told_once(job, ref):
    lanes = [LaneReport(lane, 1, 1, 1.0, "torch", "cpu", "fp32", told) for lane, told in enumerate([["a", "b"], ["a"]])]
    assert Manifest.read(Store(job.store_url), ref).choice_as_run(lanes)["fallbacks"] == ["a", "b"]


def test_a_lane_that_is_run_again_keeps_what_it_told(job, monkeypatch):
    def fails(plan, model, form):
        raise ExportError("The export failed.", "set `engine: torch`.")

    monkeypatch.setattr(exported_engine, "exported", fails)
    monkeypatch.setattr(fitting, "OPENVINO_ABOVE_TEXTS", 0)
    ref = load(job).ref
    first, again = infer(job, ref), infer(job, ref)
    assert (first.texts, again.texts) == (5, 0)
    assert again.fallbacks == first.fallbacks == ["planned: openvino; ran: torch; why: The export failed"]
