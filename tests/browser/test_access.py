"""Who may see what: nothing without a login, one Dag's reader nothing of another, and no code from what is shown."""

import json
import sqlite3

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]


def addresses(stage):
    run = stage.run("tickets")
    group = f"{run}/tasks/tickets.publish"
    return [
        "/windrow/",
        "/windrow/dags/tickets",
        "/windrow/dags/tickets/tasks/tickets.load",
        run,
        group,
        f"{run}/tasks/tickets.infer?map_index=0",
        f"{run}/tasks/tickets.load?map_index={{MAP_INDEX}}",
        f"{group}/live",
        f"{group}/receipt.json",
        "/windrow/static/page.css",
    ]


def test_without_a_login_every_route_answers_401(stage):
    assert {address: stage.get(address, user=None)[0] for address in addresses(stage)} == dict.fromkeys(
        addresses(stage), 401
    )


def test_with_a_login_every_route_answers(stage):
    assert {address: stage.get(address)[0] for address in addresses(stage)} == dict.fromkeys(addresses(stage), 200)


def test_another_dags_reader_is_refused_every_route_of_a_dag(stage):
    own = [address for address in addresses(stage) if "/dags/" in address]
    assert {stage.get(address, user="only-hostile")[0] for address in own} == {403}
    assert {stage.get(address, user="only-tickets")[0] for address in own} == {200}


def test_a_reader_of_the_dag_who_may_not_read_xcoms_is_refused(stage):
    own = [address for address in addresses(stage) if "/dags/" in address]
    assert {stage.get(address, user="no-xcom")[0] for address in own} == {403}
    assert "tickets" not in stage.get("/windrow/", user="no-xcom")[1]


def test_the_list_of_jobs_has_nothing_of_dags_that_the_reader_may_not_see(stage):
    page = stage.get("/windrow/", user="only-tickets")[1]
    assert "tickets" in page
    assert not [name for name in ("hostile", "broken", "stopped", "never", "review_sentiment") if name in page]


def test_a_task_of_another_dag_cannot_be_asked_for_under_ones_own(stage):
    borrowed = f"/windrow/dags/tickets/runs/{stage.runs['hostile'][0]}x/tasks/hostile.publish"
    assert stage.get(borrowed, user="only-tickets")[0] == 404
    assert stage.get("/windrow/dags/tickets?dag_id=hostile", user="only-hostile")[0] == 403


@pytest.mark.parametrize(
    "address", ["/windrow/docs", "/windrow/openapi.json", "/windrow/static/../app.py", "/windrow/x"]
)
def test_there_are_no_other_routes(stage, address):
    assert stage.get(address)[0] == 404


def test_no_route_changes_anything(stage):
    assert {stage.get(address, method="POST")[0] for address in addresses(stage)} == {405}


def test_every_page_forbids_foreign_code_and_frames(stage):
    _, _, headers = stage.get("/windrow/")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"


def test_pages_name_no_other_host(stage):
    for address in addresses(stage)[:5]:
        page = stage.get(address)[1].replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in page.replace(stage.url, "")
        assert "https:" not in page


def test_names_of_labels_and_values_of_rows_are_text_wherever_they_are_shown(stage):
    run = stage.run("hostile")
    pages = [
        stage.get(address)[1]
        for address in ("/windrow/", "/windrow/dags/hostile", run, f"{run}/tasks/hostile.publish/live")
    ]
    for page in pages:
        assert "<script>document" not in page
        assert "<img" not in page
    assert "&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;" in pages[2]
    assert "&lt;img src=x" in pages[2]


@pytest.fixture
def forged(stage):
    """Put other XComs in the place of a run's, and put them back."""
    file = stage.place.airflow / "airflow.db"
    query = "SELECT value FROM xcom WHERE dag_id = 'tickets' AND run_id = ? AND task_id = 'tickets.publish' AND key = ?"
    change = query.replace("SELECT value FROM xcom", "UPDATE xcom SET value = ?")
    run_id, kept = stage.runs["tickets"][0], {}

    def write(key, value):
        with sqlite3.connect(file, timeout=30) as database:
            kept.setdefault(key, database.execute(query, (run_id, key)).fetchone()[0])
            database.execute(change, (json.dumps(value), run_id, key))
        database.close()

    yield write
    for key, value in kept.items():
        write(key, json.loads(value))


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "text",
        [],
        {"job": 3, "rows_in": "many", "labels": ["a"], "rejects": 4, "seconds": {}, "quality": [1], "choice": "x"},
        {
            "choice": {"trials": [1, {"engine": {}, "share": "x"}], "reason": 1, "fallbacks": [1, None]},
            "quality": {"checks": [None, {}], "drift": {"psi": []}},
        },
    ],
    ids=str,
)
def test_xcoms_that_are_no_receipts_do_no_harm(stage, forged, value):
    forged("return_value", value)
    forged("windrow_publish", value)
    run = stage.run("tickets")
    for address in ("/windrow/", "/windrow/dags/tickets", run, f"{run}/tasks/tickets.publish/live"):
        assert stage.get(address)[0] == 200


def test_a_receipt_of_two_megabytes_of_hostile_names_and_details_is_shown_in_short(stage, forged):
    long = "<script>alert(1)</script>" * 80_000
    kept = json.loads(stage.get(f"{stage.run('tickets')}/tasks/tickets.publish/receipt.json")[1])
    check = {"name": long, "status": long, "value": long, "limit": long, "detail": long}
    quality = {"checks": [check], "drift": {"psi": 0.3, "previous_run_id": long, "previous": {long: 3}}}
    shown = {"labels": {long: 5}, "rejects": {long: 1}, "table": long, "quality": quality}
    forged("return_value", {**kept, **shown, "choice": {"reason": long, "fallbacks": [long]}})
    status, page, _ = stage.get(stage.run("tickets"))
    assert status == 200
    assert len(page) < 400_000
    assert "Fell back: &lt;script&gt;" in page
    assert "<script>alert" not in page


def test_a_reference_that_leads_out_of_the_store_is_not_followed(stage, forged):
    outside = stage.place.root / "samples.json"
    outside.write_text(json.dumps({"rows": [{"secret": "do not show"}]}))
    kept = {"rows_in": 1, "samples": 5, "partition": "x", "run_id": "20260101T000000000000Z-aaaaaa"}
    for job, run_id in (("../..", kept["run_id"]), ("tickets", "../../../../.."), ("tickets", ".")):
        forged("windrow_publish", {**kept, "job": job, "run_id": run_id})
        assert "do not show" not in stage.get(stage.run("tickets"))[1]
