"""Iceberg through a REST catalog: pyiceberg's client against a stand-in that speaks the protocol."""

import pytest

from warehouses.places import IcebergRestPlace
from warehouses.test_contract import held, ids, publish
from windrow.airflow.home import free_port
from windrow.errors import WarehouseError, WindrowError
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName
from windrow.warehouses.lake_table import Conflict

pytest.importorskip("pyiceberg")


@pytest.fixture
def place(tmp_path):
    made = IcebergRestPlace(tmp_path)
    yield made
    made.close()


def test_a_commit_that_comes_second_is_decided_anew(place):
    publish(place, {"id": ["a"], "label": ["x"]}, "p1", "run-1")
    with open_url(place.url, TableName.parse("analytics.reviews")) as late:
        behind = late.tables["table"].head()
        publish(place, {"id": ["b"], "label": ["y"]}, "p2", "run-2")
        with pytest.raises(Conflict):
            late.tables["table"].commit(behind, [], [], behind.notes)
    assert held(place) == {"a": ("x", "p1"), "b": ("y", "p2")}


@pytest.mark.parametrize("code", [500, 503])
def test_a_commit_whose_answer_is_lost_is_there_once(place, code):
    publish(place, {"id": ["a"], "label": ["x"]}, "p1", "run-1", rejected=["r1"])
    before = place.server.commits
    publish(place, {"id": ["a"], "label": ["x"]}, "p1", "run-2", rejected=["r1"])
    commits = place.server.commits - before
    assert commits >= 4  # claim, table, rejects, ledger
    for number in range(commits):
        run_id = f"run-{number + 3}"
        lost = place.server.commits + number + 1
        place.server.spoil = lambda made, lost=lost: code if made == lost else None
        with pytest.raises(WarehouseError, match="the answer got lost"):
            publish(place, {"id": ["b", "c"], "label": ["y", "y"]}, "p1", run_id, rejected=["r2"])
        publish(place, {"id": ["b", "c"], "label": ["y", "y"]}, "p1", run_id, rejected=["r2"])
        assert held(place) == {"b": ("y", "p1"), "c": ("y", "p1")}
        assert ids(place, "reviews__rejects") == ["r2"]
        assert place.rows("windrow_runs")["run_id"].to_pylist().count(run_id) == 1


def test_a_wrong_secret_is_told_and_not_shown(place):
    with (
        pytest.raises(WindrowError) as refused,
        open_url(place.url.replace("c0rrect", "wr0ng"), TableName.parse("analytics.reviews")),
    ):
        pass
    assert "credentials" in refused.value.fix
    assert "wr0ng" not in f"{refused.value}"


def test_a_catalog_that_is_down_is_told_within_seconds():
    url = f"iceberg+rest+http://windrow:c0rrect@127.0.0.1:{free_port(28700)}"
    with pytest.raises(WarehouseError, match="does not answer"), open_url(url, TableName.parse("analytics.reviews")):
        pass
