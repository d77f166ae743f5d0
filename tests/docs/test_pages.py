"""README and docs: jobs are valid, snippets import, commands parse, links lead somewhere."""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields

import pytest
import typer
import yaml

from docs.pages import PAGES, REPOSITORY, TRANSLATION, anchors, blocks, commands, first_column, links, section
from windrow import Job, Receipt, errors
from windrow.cli import app
from windrow.inspect import job_schema
from windrow.tasks import TASKS

WATCH, JOB = REPOSITORY / "docs/watch.md", REPOSITORY / "docs/job.md"


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_every_job_is_valid(block):
    job = Job(**yaml.safe_load(block.text))
    assert job.task.name in TASKS


@pytest.mark.parametrize("block", [b for b in blocks("python") if "airflow" not in b.text], ids=str)
def test_every_snippet_compiles_and_its_imports_are_there(block):
    compile(block.text, str(block), "exec")
    exec("\n".join(re.findall(r"^(?:import|from) .+$", block.text, re.MULTILINE)), {})


@pytest.mark.parametrize("command", commands())
def test_every_command_parses(command):
    words = shlex.split(command, comments=True)[1:]
    words = words[: next((i for i, word in enumerate(words) if word in {">", "|", "&&"}), len(words))]
    group = typer.main.get_command(app)
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None:
        assert all(any(word in parameter.opts for parameter in group.params) or word == "--help" for word in words)
        return
    assert name in group.commands
    if words[1:] or not any(parameter.required for parameter in group.commands[name].params):
        group.commands[name].make_context(name, words[words.index(name) + 1 :])


@pytest.mark.parametrize("page", [*PAGES, TRANSLATION], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


def test_the_first_page_tells_the_scores_that_were_measured():
    scores = json.loads(
        (REPOSITORY / "operators/windrow/models/minilm_sentiment/scores.json").read_text(encoding="utf-8")
    )
    measured = [(f"{score['n']:,}", f"{score['accuracy']:.1%}".replace("%", " %")) for score in scores.values()]
    told = re.findall(r"\| ([\d,]+) \| ([\d.]+ %) \|", section(REPOSITORY / "README.md", "Bundled models"))
    assert told == measured


def test_every_make_target_that_is_named_exists():
    known = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert {"demo", "test"} <= named <= known


def test_the_job_page_names_exactly_the_fields_of_the_schema():
    schema = job_schema()
    parts = {"Source": "Source", "Warehouse": "Target", "Limits": "Limits", "Quality": "Gates", "Dag": "Schedule"}
    expected = {heading: set(schema["$defs"][name]["properties"]) for heading, name in parts.items()}
    expected["Job"] = set(schema["properties"])
    for task in TASKS:
        expected[f"Parameters of `{task}`"] = set(job_schema(task)["properties"])
    assert {heading: set(first_column(section(JOB, heading))) for heading in expected} == expected


@pytest.mark.parametrize(
    ("heading", "part"),
    [("Job", ""), ("Source", "Source"), ("Limits", "Limits"), ("Quality", "Gates"), ("Dag", "Schedule")],
)
def test_the_job_page_tells_the_defaults_and_what_is_required(heading, part):
    whole = job_schema()
    schema = whole["$defs"][part] if part else whole
    for line in section(JOB, heading).splitlines():
        if found := re.match(r"\| `(\w+)` \| (?:`([^`]*)`|(\w[\w ]*)) \|", line):
            name, told, words = found.groups()
            assert (words == "required") == (name in schema["required"] if "required" in schema else False), name
            if told is not None and name != "store":
                default = schema["properties"][name].get("default")
                assert str(yaml.safe_load(told) or None) == str(default or None), name


def test_the_job_page_names_every_bound_of_every_gate():
    defs = job_schema()["$defs"]
    gates = [
        (name, field["anyOf"][0]["$ref"]) for name, field in defs["Gates"]["properties"].items() if "$ref" in str(field)
    ]
    bounds = {(name, bound) for name, ref in gates for bound in defs[ref.rpartition("/")[2]]["properties"]}
    expected = {bound if bound == "on_breach" else f"{name}.{bound}" for name, bound in bounds}
    assert set(first_column(section(JOB, "What a gate asks for"))) == expected


def test_the_job_page_tells_every_choice_of_precision():
    row = next(line for line in section(JOB, "Job").splitlines() if line.startswith("| `precision`"))
    assert set(re.findall(r"`(\w+)`", row)) == {"precision", *job_schema()["properties"]["precision"]["enum"]}


def test_the_reasons_page_names_exactly_the_codes_in_the_code():
    told = first_column(section(WATCH, "Rejects").partition("| reason |")[2])
    assert len(told) == len(set(told))
    assert set(told) == reason_codes()


def reason_codes() -> set[str]:
    """Return the reason codes that the package can write: in SQL, for early rejects, and for failed windows."""
    package = REPOSITORY / "operators/windrow"
    staging = (package / "staging.py").read_text(encoding="utf-8")
    in_sql = set(re.findall(r"(?:THEN|reason =) '([a-z_0-9]+)'", staging))
    in_rows = set(re.findall(r"\[\s*\"([a-z_0-9]+)\"(?:\] \* len\(lines\)|\s+if row in broken)", staging))
    engines = [file for room in ("engines", "tasks") for file in (package / room).glob("*.py")]
    engines += [package / "images.py", package / "models/pictures.py"]
    in_windows = {code for file in engines for code in codes_with_detail(file.read_text(encoding="utf-8"))}
    assert all([in_sql, in_rows, in_windows]), "a pattern no longer finds what it was written for"
    return in_sql | in_rows | in_windows


def codes_with_detail(source: str) -> Iterator[str]:
    """Yield the first of each pair ``("reason_code", "words that explain it")`` in a module."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Tuple(elts=[first, ast.JoinedStr() | ast.Constant(value=str())]):
                words = [part.value for part in ast.walk(first) if isinstance(part, ast.Constant)]
                explained = isinstance(node.elts[1], ast.JoinedStr) or " " in node.elts[1].value
                yield from (str(word) for word in words if explained)


def test_every_error_that_the_page_explains_can_be_raised():
    source = "\n".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "operators/windrow").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    explained = [error for error in first_column(section(WATCH, "Common errors")) if " " in error]
    parts = {part.strip() for error in explained for part in re.split(r"'?…'?", error)}
    assert len(explained) > 5
    assert [part for part in parts if part not in source] == []


def test_the_receipt_page_names_exactly_the_fields_of_a_receipt():
    assert sorted(first_column(section(WATCH, "The receipt"))) == sorted(field.name for field in fields(Receipt))


def test_the_exit_codes_page_names_exactly_the_codes_of_the_errors():
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", section(WATCH, "Exit codes"), re.MULTILINE)}
    raised = {getattr(errors, name).exit_code for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert told == {0, *raised}
