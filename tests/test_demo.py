"""The demo as a stranger runs it, and the Airflow home that it makes."""

import json
import re
import socket
import sqlite3
import stat
from contextlib import closing
from importlib import metadata
from io import StringIO

import duckdb
import pytest
from rich.console import Console

from windrow.airflow import standalone
from windrow.airflow.home import AirflowHome, free_port
from windrow.errors import StoreError, WindrowError


def scored(home):
    with duckdb.connect(str(home / "warehouse.duckdb"), read_only=True) as con:
        runs = 'SELECT "table", partition, run_id, texts_scored FROM analytics.windrow_runs ORDER BY run_id'
        return con.execute(runs).fetchall()


@pytest.mark.airflow
def test_the_demo_shows_scored_and_summarised_reviews_and_scores_them_once(windrow, tmp_path):
    home = tmp_path / "demo home"
    first = windrow("demo", "--home", home)
    assert first.returncode == 0, first.stderr
    for words in ("people say", "positive", "negative", "summary", str(home / "warehouse.duckdb"), "Try next"):
        assert words in first.stdout
    runs = scored(home)
    assert len(runs) == 2
    assert all(texts > 100 for *_, texts in runs)
    with closing(sqlite3.connect(home / "airflow" / "airflow.db")) as metadata_db:
        took = "SELECT (julianday(end_date) - julianday(start_date)) * 86400 FROM dag_run"
        assert all(0 < seconds < 600 for (seconds,) in metadata_db.execute(took))

    again = windrow("demo", "--home", home)
    assert again.returncode == 0, again.stderr
    assert [texts for *_, texts in scored(home)[2:]] == [0, 0]

    explained = next(line for line in again.stdout.splitlines() if "explain" in line)
    key = explained.rpartition("--key ")[2].strip("' ")
    one_more = windrow("run", home / "review_sentiment.yaml", "--partition", "2026-01-02", "--limit", "5", "--json")
    assert json.loads(one_more.stdout)["rows_published"] == 5
    found = windrow("explain", home / "review_sentiment.yaml", "--key", key, "--json")
    assert json.loads(found.stdout)["rows"][0]["windrow_model"] == "windrow/minilm-sentiment"


@pytest.mark.airflow
def test_a_demo_whose_dag_fails_names_the_task_the_fix_and_the_log(windrow, tmp_path):
    (tmp_path / "warehouse.duckdb").mkdir()
    failed = windrow("demo", "--home", tmp_path)
    assert failed.returncode == 1
    assert re.search(r"Task review_\w+\.load failed: DuckDB file", failed.stderr)
    assert "Fix: " in failed.stderr
    assert str(tmp_path / "airflow" / "demo.log") in failed.stderr
    assert "Traceback" not in failed.stderr


def test_without_airflow_the_demo_says_how_to_install_it(tmp_path, monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(WindrowError, match=r"pip install 'windrow\[airflow\]'"):
        AirflowHome(tmp_path).prepare()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/demo"):
        AirflowHome(tmp_path / "file" / "demo").prepare()


def test_the_shells_own_airflow_is_never_touched(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", "/srv/airflow")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "postgresql://production")
    monkeypatch.setenv("WINDROW_HOME", "/srv/windrow")
    place = AirflowHome(tmp_path)
    place.prepare()
    environment = place.environment()
    assert environment["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert environment["WINDROW_HOME"] == str(tmp_path)
    assert "production" not in "".join(environment.values())
    assert "/srv" not in "".join(value for name, value in environment.items() if "AIRFLOW" in name)


def test_password_and_keys_stay_the_same_and_are_for_this_user_only(tmp_path):
    place = AirflowHome(tmp_path)
    place.prepare()
    before = (place.password, place.environment()["AIRFLOW__CORE__FERNET_KEY"])
    place.prepare()
    assert (place.password, place.environment()["AIRFLOW__CORE__FERNET_KEY"]) == before
    assert len(place.password) >= 12
    for name in ("login.json", "passwords.json"):
        assert stat.S_IMODE((place.airflow / name).stat().st_mode) == 0o600


def test_the_shipped_dags_are_copied_anew(tmp_path):
    place = AirflowHome(tmp_path)
    place.prepare()
    (place.dags / "review_sentiment.py").write_text("broken")
    (place.dags / "mine.py").write_text("mine")
    place.prepare()
    assert "batch_inference" in (place.dags / "review_sentiment.py").read_text()
    assert (place.dags / "mine.py").read_text() == "mine"


def test_a_port_in_use_is_passed_over():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port


def test_a_part_that_does_not_stay_ends_airflow_in_words(tmp_path, monkeypatch):
    place = AirflowHome(tmp_path)
    place.prepare()
    monkeypatch.setattr(standalone, "PARTS", ("no-such-part",))
    monkeypatch.setattr(standalone, "ENDS", 1)
    told = StringIO()
    with standalone.running(place, free_port(8500)) as airflow, pytest.raises(WindrowError) as error:
        airflow.watch(Console(file=told, width=200))
    log = place.airflow / "no-such-part.log"
    assert "no-such-part has ended 2 times within 10 minutes, the last time with exit code 2" in str(error.value)
    assert str(log) in error.value.fix
    assert "is started again" in told.getvalue()
    assert log.read_text().count("invalid choice") == 2


def test_metadata_that_cannot_be_made_are_told_in_words(tmp_path):
    place = AirflowHome(tmp_path)
    place.prepare()
    (place.airflow / "airflow.db").write_text("no database")
    with pytest.raises(WindrowError, match="metadata cannot be made"):
        standalone.serve(place, Console(file=StringIO()))


def test_airflow_asks_itself_without_a_proxy(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "inner.example")
    monkeypatch.delenv("NO_PROXY", raising=False)
    place = AirflowHome(tmp_path)
    place.prepare()
    assert set(place.environment()["no_proxy"].split(",")) == {"inner.example", "127.0.0.1"}
