"""Connections through the REST API of a real API server: their forms, and what the *Test* button says."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from urllib.request import Request, urlopen

import duckdb
import pytest

from models.hub_stand_in import HubStandIn
from windrow.airflow.home import free_port

pytestmark = pytest.mark.airflow
PATIENCE_S = 200


def asked(url, body=None, token=""):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    data = json.dumps(body).encode() if body else None
    with urlopen(Request(url, data, headers), timeout=60) as answer:  # noqa: S310 (this machine's)
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def ask(played):
    """Return what sends a request to an API server as its administrator."""
    stage, port = played.stage, free_port(18800)
    settings = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled", "AIRFLOW__API__WORKERS": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "airflow", "api-server", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with (stage.place.root / "api-server.log").open("wb") as log:
        environment = {**stage.environment(), **settings}
        server = subprocess.Popen(
            command, env=environment, cwd=stage.place.root, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(OSError):
                asked(f"{url}/api/v2/monitor/health")
                break
            time.sleep(0.2)
        login = {"username": "admin", "password": stage.place.password}
        token = asked(f"{url}/auth/token", login)["access_token"]
        yield lambda path, body=None: asked(f"{url}{path}", body, token)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def tried(ask):
    """Press *Test* for a connection that is not stored; return whether it works, and what is said."""

    def press(conn_type, **fields):
        told = ask("/api/v2/connections/test", {"connection_id": "x", "conn_type": conn_type, **fields})
        return told["status"], told["message"]

    return press


@pytest.fixture(scope="module")
def hub():
    with HubStandIn() as stand_in:
        stand_in.owners["hf_horse"] = "ann"
        yield stand_in


def test_the_forms_name_their_fields_and_hide_the_others(ask):
    forms = {form["connection_type"]: form for form in ask("/ui/connections/hook_meta")}
    models = forms["windrow_models"]
    assert models["hook_name"] == "Windrow: models (Hugging Face Hub)"
    assert models["standard_fields"]["password"]["title"] == "Hub token"
    assert models["standard_fields"]["login"]["hidden"]
    assert models["extra_fields"]["cache"]["schema"]["title"] == "Cache folder"
    assert forms["windrow_duckdb"]["standard_fields"]["host"]["title"] == "File, or md:database"
    assert forms["windrow_lake"]["standard_fields"]["host"]["placeholder"].startswith("delta+s3://")


def test_a_token_is_shown_to_the_hub_which_tells_whose_it_is(tried, hub):
    works, said = tried("windrow_models", host=hub.url, password="hf_horse")
    assert works
    assert said == f"The Hub at {hub.url} knows the token: ann."


def test_a_token_that_the_hub_does_not_know_is_refused(tried, hub):
    works, said = tried("windrow_models", host=hub.url, password="hf_donkey")
    assert not works
    assert "refuses the token" in said
    assert "hf_donkey" not in said


def test_without_a_token_the_hub_must_answer(tried, hub):
    works, said = tried("windrow_models", host=hub.url)
    assert works
    assert "only public repositories" in said


def test_a_hub_that_is_not_there_cannot_be_reached(tried):
    works, said = tried("windrow_models", host="http://127.0.0.1:1")
    assert not works
    assert "cannot be reached" in said


def test_a_duckdb_file_is_opened(tried, tmp_path):
    duckdb.connect(str(tmp_path / "w.duckdb")).close()
    assert tried("windrow_duckdb", host=f"{tmp_path}/w.duckdb")[0]
    works, said = tried("windrow_duckdb", host=f"{tmp_path}/new.duckdb")
    assert works
    assert "the first publish makes it" in said
    assert not (tmp_path / "new.duckdb").exists()


def test_a_file_that_is_none_or_has_no_folder_is_refused(tried, tmp_path):
    (tmp_path / "notes.txt").write_text("no database")
    assert "is no DuckDB file" in tried("windrow_duckdb", host=f"{tmp_path}/notes.txt")[1]
    assert "There is no folder" in tried("windrow_duckdb", host="/nowhere/at/all/w.duckdb")[1]
    assert "is relative" in tried("windrow_duckdb", host="w.duckdb")[1]
    assert "names no DuckDB file" in tried("windrow_duckdb", host="")[1]


@pytest.mark.parametrize(
    "lake", ["delta:///{}", "parquet:///{}", "iceberg+sql:///{}/c.db", "ducklake:///{}/c.ducklake"]
)
def test_a_lake_is_read(tried, tmp_path, lake):
    works, said = tried("windrow_lake", host=lake.format(tmp_path), extra=json.dumps({"data": str(tmp_path)}))
    assert works, said
    assert "can be read from here" in said


def test_a_lake_that_cannot_be_read_says_why_without_its_password(tried):
    options = {"login": "ann", "password": "s3cret-horse"}
    works, said = tried("windrow_lake", host="ducklake+postgresql://127.0.0.1:1/lake?data=/x", **options)
    assert not works
    assert "DuckLake" in said
    assert "s3cret-horse" not in said
    assert "names no lake" in tried("windrow_lake", host="mysql://db")[1]
