"""Every view in a real Chromium: with data, empty and with errors, in light and dark, by mouse and by keyboard."""

import json
import sqlite3
from importlib.util import find_spec

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]
THEMES = ("light", "dark")
KEEPS_PROGRESS = find_spec("airflow.models.task_state_store") is not None
"""Whether this Airflow keeps what a task says of itself: 3.3 and later."""


def lightness(colour):
    """Return how light a CSS colour ``rgb(r, g, b)`` is, 0 to 255."""
    return sum(float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]) / 3


def background(page):
    return lightness(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


def words(page):
    return page.inner_text("main")


def framed(page):
    """Return the frame of ours in one of Airflow's own pages."""
    frame = page.frame_locator("iframe")
    frame.locator("main").wait_for(timeout=60_000)
    return frame


@pytest.mark.parametrize("theme", THEMES)
def test_the_list_of_jobs(look, stage, theme):
    page = look("/windrow/", theme=theme)
    assert (background(page) > 128) == (theme == "light")
    jobs = page.locator("table.jobs tbody tr")
    assert jobs.count() >= 8
    tickets = jobs.filter(has=page.get_by_role("link", name="tickets", exact=True))
    assert "analytics.tickets" in tickets.inner_text()
    assert "published" in tickets.inner_text()
    assert "358" in tickets.inner_text()
    assert tickets.locator("svg.spark rect").count() == 3
    assert "failed" in jobs.filter(has=page.get_by_role("link", name="broken", exact=True)).inner_text()
    assert "no runs yet" in jobs.filter(has=page.get_by_role("link", name="never", exact=True)).inner_text()


@pytest.mark.parametrize("theme", THEMES)
def test_a_run_that_waits_for_a_person_says_why_and_leads_to_the_answer(look, stage, theme):
    if "parked" not in stage.runs:
        pytest.skip("before Airflow 3.3, dag.test() cannot wait for an answer")
    page = look(stage.run("parked"), theme=theme)
    assert "needs approval" in words(page)
    question = page.locator("p.question")
    assert "Publish partition 2026-11-24 of analytics.parked?" in question.inner_text()
    assert question.evaluate("e => getComputedStyle(e).borderStyle") == "solid"
    page.get_by_role("link", name="Findings and answer").click()
    page.wait_for_url("**/required_actions")
    page.get_by_role("button", name="Approve").wait_for(timeout=60_000)


@pytest.mark.parametrize("theme", THEMES)
def test_a_job_over_its_runs(look, stage, theme):
    page = look("/windrow/dags/tickets", theme=theme)
    assert (background(page) > 128) == (theme == "light")
    assert page.locator("figcaption").all_inner_texts() == [
        "Throughput rows/s",
        "Cost of a run",
        "Label mix by partition %",
    ]
    assert page.locator(".plot canvas").count() == 3
    rows = page.locator("table.runs tbody tr")
    assert [row.split("\t")[0].strip() for row in rows.all_inner_texts()] == ["2026-11-23", "2026-11-22", "2026-11-21"]
    page.get_by_role("link", name="2026-11-23").click()
    page.wait_for_url("**/runs/**")
    assert "Partition 2026-11-23 of analytics.tickets" in words(page)


@pytest.mark.parametrize("theme", THEMES)
def test_a_published_run(look, stage, theme):
    page = look(stage.run("tickets", 1), theme=theme)
    assert (background(page) > 128) == (theme == "light")
    told = words(page)
    for part in (
        "Rows in\n360",
        "Published\n358",
        "Rejected\n2 0.6",
        "Reused and scored",
        "Rejects by reason",
        "empty_text",
    ):
        assert part in told
    assert "the partition before" in told
    assert "Population stability index" in told
    assert page.locator(".lanes tbody tr").count() == 2
    assert "SELECT *\nFROM analytics.tickets\nWHERE windrow_partition = '2026-11-22'" in page.inner_text("#sql-1")
    assert "•••" in page.locator("table.samples").first.inner_text()
    assert "<img src=x onerror" in page.locator("table.samples").first.inner_text()
    page.get_by_text("Receipt", exact=True).click()
    assert '"fingerprint": ' in page.inner_text("pre.receipt")


def test_the_receipt_can_be_downloaded(look, stage):
    page = look(stage.run("tickets"))
    page.get_by_text("Receipt", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert json.loads(download.value.path().read_text())["rows_in"] == 360


def test_a_run_of_several_jobs_has_a_tab_for_each(look, stage):
    page = look(stage.run("review_sentiment"))
    tabs = page.get_by_role("navigation", name="Jobs of this run")
    assert tabs.get_by_role("link").all_inner_texts() == ["review_sentiment", "review_summaries"]
    tabs.get_by_role("link", name="review_summaries").click()
    page.wait_for_url("**/tasks/**")
    assert "analytics.review_summaries" in words(page)


@pytest.mark.parametrize("theme", THEMES)
def test_a_run_that_failed_says_where_and_what_is_kept(look, stage, theme):
    page = look(stage.run("stopped"), theme=theme)
    assert "stopped.infer failed" in words(page)
    lane = page.locator(".lanes tbody tr").inner_text()
    assert "failed" in lane
    assert ("of 358" in lane) is KEEPS_PROGRESS
    page = look(stage.run("broken"), theme=theme)
    assert "broken.load failed" in words(page)


def test_hostile_names_are_shown_and_nothing_of_them_is_run(look, stage):
    for path in ("/windrow/", "/windrow/dags/hostile", stage.run("hostile")):
        page = look(path)
        assert page.title() != "owned"
    assert "<script>document.title='owned'</script>" in words(page)
    assert "<img src=x onerror=" in words(page)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(
    ("path", "heading"),
    [
        ("/windrow/dags/never", "No runs yet"),
        ("/windrow/dags/hostile/tasks/unrelated", "Nothing of Windrow here"),
        ("{hostile}/tasks/unrelated?map_index={{MAP_INDEX}}", "Nothing of Windrow here"),
    ],
)
def test_views_without_anything_to_show(look, stage, path, heading, theme):
    page = look(path.format(hostile=stage.run("hostile")), theme=theme)
    assert page.get_by_role("heading", name=heading).is_visible()


def test_a_list_without_jobs(look):
    page = look("/windrow/", user="no-xcom")
    assert page.get_by_role("heading", name="No jobs yet").is_visible()


@pytest.fixture
def under_way(stage):
    """Set a published run back to where its second lane is still scoring, as its lane would have told it."""
    run_id = stage.runs["tickets"][2]
    file = stage.place.airflow / "airflow.db"
    kept = file.with_suffix(".kept")
    source, copy = sqlite3.connect(file, timeout=30), sqlite3.connect(kept)
    source.backup(copy)
    copy.close()
    mine = "dag_id = 'tickets' AND run_id = ?"
    progress = {"texts": 100, "total": 178, "tokens": 900, "texts_per_s": 10.0, "tokens_per_s": 90.0, "left_s": 7.8}

    def write(**changes):
        told = json.dumps({**progress, "at": "2999-01-01T00:00:00+00:00", **changes})
        with source:
            source.execute("DELETE FROM task_state_store")
            source.execute(
                "INSERT INTO task_state_store (dag_run_id, task_id, map_index, key, dag_id, run_id, value, updated_at) "
                "SELECT id, 'tickets.infer', 1, 'windrow_progress', dag_id, run_id, ?, '2026-01-01' FROM dag_run "
                f"WHERE {mine}",
                (told, run_id),
            )

    with source:
        source.execute(f"UPDATE dag_run SET state = 'running' WHERE {mine}", (run_id,))
        source.execute(f"DELETE FROM xcom WHERE {mine} AND task_id = 'tickets.publish'", (run_id,))
        source.execute(f"DELETE FROM xcom WHERE {mine} AND map_index = 1 AND key = 'return_value'", (run_id,))
        source.execute(f"UPDATE task_instance SET state = NULL WHERE {mine} AND task_id = 'tickets.publish'", (run_id,))
        source.execute(f"UPDATE task_instance SET state = 'running' WHERE {mine} AND map_index = 1", (run_id,))
    write()
    yield write
    old = sqlite3.connect(kept)
    old.backup(source)
    old.close()
    source.close()


@pytest.mark.skipif(not KEEPS_PROGRESS, reason="this Airflow has no task state store")
def test_the_progress_of_a_run_under_way_is_told_and_renewed(under_way, look, stage):
    page = look(stage.run("tickets", 2))
    lane = page.locator(".lanes tbody tr").nth(1)
    assert "100 of 178" in lane.inner_text()
    assert "running" in lane.inner_text()
    assert "Done about" in page.inner_text(".forecast")
    assert "10.0 texts/s" in page.inner_text(".forecast")
    under_way(texts=160)
    page.get_by_text("160 of 178").wait_for(timeout=20_000)


def test_every_link_and_button_is_reached_by_keyboard_and_its_focus_is_seen(look, stage):
    page = look(stage.run("tickets", 1))
    wanted = page.locator("a[href], button, summary").count()
    seen, outlined = set(), 0
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.outerHTML.slice(0, 200), getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.add(name)
        outlined += outline != "none"
    assert len([name for name in seen if name.startswith(("<a", "<button", "<summary"))]) >= wanted - 1
    assert outlined >= wanted - 1


@pytest.mark.parametrize("width", [420, 760, 1280])
def test_no_page_is_wider_than_its_frame(look, stage, width):
    for path in ("/windrow/", "/windrow/dags/tickets", stage.run("tickets", 1), stage.run("hostile")):
        page = look(path)
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize("theme", THEMES)
def test_it_stands_under_browse_and_is_light_or_dark_as_airflow_is(look, stage, theme):
    page = look("/plugin/windrow", theme="light" if theme == "dark" else "dark", chosen=theme)
    frame = framed(page)
    assert frame.get_by_role("heading", name="Jobs").is_visible()
    assert frame.locator("html").get_attribute("data-theme") == theme
    frame.get_by_role("link", name="tickets", exact=True).click()
    frame.get_by_role("heading", name="tickets").wait_for()


@pytest.mark.parametrize(
    ("path", "shows"),
    [
        ("/dags/tickets/plugin/windrow-dag", "Label mix by partition"),
        ("/dags/tickets/runs/{run}/plugin/windrow-run", "Reused and scored"),
        ("/dags/tickets/tasks/tickets.publish/plugin/windrow-task", "Label mix by partition"),
        ("/dags/tickets/runs/{run}/tasks/tickets.publish/plugin/windrow-lane", "Reused and scored"),
        ("/dags/tickets/runs/{run}/tasks/tickets.infer/mapped/1/plugin/windrow-lane", "Reused and scored"),
    ],
)
def test_tabs_on_dag_run_task_and_task_instance(look, stage, path, shows):
    frame = framed(look(path.format(run=stage.runs["tickets"][0])))
    assert shows in frame.locator("main").inner_text()


def test_a_link_to_airflows_own_page_leaves_our_frame(look, stage):
    page = look(f"/dags/tickets/runs/{stage.runs['tickets'][0]}/plugin/windrow-run")
    frame = framed(page)
    frame.get_by_role("link", name="Run in Airflow").click()
    page.wait_for_url(lambda url: "plugin" not in url, timeout=20_000)
    page.locator("iframe").wait_for(state="detached", timeout=20_000)


def test_tasks_link_to_the_page(stage):
    path = f"/api/v2/dags/tickets/dagRuns/{stage.runs['tickets'][0]}/taskInstances/tickets.publish/links"
    links = json.loads(stage.get(path)[1])["extra_links"]
    assert sorted(links) == ["Windrow run", "Windrow table"]
    assert links["Windrow table"].endswith("/plugin/windrow-run#query")
