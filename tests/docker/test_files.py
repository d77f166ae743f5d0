"""The images and the compose file: linted, and held against Airflow, the code and the docs."""

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import REPOSITORY
from docker_files import DOCKER, IMAGES, compose, helm, stages, strings

SERVICES = compose()["services"]
AIRFLOW = {name: service for name, service in SERVICES.items() if "windrow:" in service["image"]}
PROGRAMS = {name: service for name, service in AIRFLOW.items() if name != "init"}
YAML = "{extends: default, rules: {line-length: {max: 160}, document-start: disable, braces: disable}}"
SECRET = re.compile(r"\$\{(\w+):\?[^}]+\}")


def tool(*command):
    """Run a linter; return what it complains of."""
    program = Path(sys.executable).parent / command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False, cwd=DOCKER)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def commands():
    """Every command of Airflow in the compose file, as words."""
    for service in AIRFLOW.values():
        if service["command"][0] == "airflow":
            yield service["command"][1:]
        for text in strings([service["command"], service.get("healthcheck", {})]):
            for line in re.findall(r"^airflow (.+)$", text, re.MULTILINE):
                yield [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', line)]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory):
    """What `airflow_facts.py` wrote down."""
    folder = tmp_path_factory.mktemp("airflow")
    asked, told = folder / "commands.json", folder / "facts.json"
    asked.write_text(json.dumps([*commands()]))
    environment = {**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"}
    script = Path(__file__).parent / "airflow_facts.py"
    done = subprocess.run(
        [sys.executable, script, asked, told], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(told.read_text())


def test_linters_have_no_complaint():
    assert tool("hadolint", *IMAGES) == ""
    assert tool("yamllint", "-d", YAML, "compose.yaml", "helm/values-gpu.yaml") == ""
    assert tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml") == ""


def test_the_two_images_differ_only_in_what_a_gpu_needs():
    cpu, gpu = ({(step.word, step.value) for stage in stages(image) for step in stage} for image in IMAGES)
    assert {word for word, _ in cpu ^ gpu} == {"RUN", "ENV", "EXPOSE"}
    ((_, more),) = ((word, value) for word, value in gpu - cpu if word == "ENV")
    assert "NVIDIA_VISIBLE_DEVICES=all" in more


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_pinned_and_its_user_has_no_privileges(image):
    build, final = stages(image)
    assert [re.fullmatch(r"python:3\.11\.\d+-slim-bookworm( AS build)?", stage[0].value) is None
            for stage in (build, final)] == [False, False]  # fmt: skip
    assert [step.value for step in final if step.word == "USER"] == ["50000"]
    assert all("-c constraints.txt" in step.value for step in build if "pip install" in step.value)


@pytest.mark.parametrize("image", IMAGES)
def test_all_that_a_build_copies_is_there_and_let_through(image):
    allowed = (DOCKER / f"{image}.dockerignore").read_text(encoding="utf-8").split()
    assert allowed[0] == "*"
    for step in (step for stage in stages(image) for step in stage if step.word == "COPY"):
        sources = [word for word in step.value.split() if not word.startswith("--")][:-1]
        for source in sources if "--from=" not in step.value else []:
            assert (REPOSITORY / source).exists()
            assert f"!{source}" in allowed


@pytest.mark.parametrize("image", IMAGES)
def test_the_extras_that_an_image_installs_exist(image):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (named,) = (re.search(r"'\.\[(.+)\]'", step.value) for step in stages(image)[0] if "'.[" in step.value)
    extras = named[1].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert {"airflow", "celery", "postgres", "s3"} <= set(extras)


def test_every_image_of_a_service_is_pinned():
    others = [service["image"] for service in SERVICES.values() if "windrow:" not in service["image"]]
    assert [image for image in others if not re.fullmatch(r"[a-z/]+:\d+\.\d+[\w.\-]*", image)] == []
    assert len(others) == 3


def test_every_program_of_airflow_is_there_and_watched():
    programs = {service["command"][1] for service in PROGRAMS.values()}
    assert programs == {"api-server", "scheduler", "dag-processor", "triggerer", "celery"}
    assert [name for name, service in SERVICES.items() if name != "init" and "healthcheck" not in service] == []
    assert [name for name, service in AIRFLOW.items() if service["cap_drop"] != ["ALL"]] == []


def test_the_gpu_worker_is_there_only_when_asked_for_and_reserves_a_device():
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["worker-gpu"]
    worker = SERVICES["worker-gpu"]
    assert worker["build"]["dockerfile"] == "docker/Dockerfile.gpu"
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_every_airflow_variable_is_an_option_of_airflow(airflow):
    images = [step.variables for image in IMAGES for step in stages(image)[1] if step.word == "ENV"]
    named = {name for place in [*images, *(service["environment"] for service in AIRFLOW.values())] for name in place}
    options = [name.lower().split("__")[1:] for name in named if name.startswith("AIRFLOW__")]
    assert len(options) > 10
    assert [name for name in options if name[1] not in airflow["options"].get(name[0], [])] == []


def test_every_airflow_option_of_the_helm_values_exists(airflow):
    for section, options in helm()["config"].items():
        assert set(options) <= set(airflow["options"][section])


def test_every_windrow_variable_is_read_by_the_code():
    code = "".join(file.read_text(encoding="utf-8") for file in (REPOSITORY / "operators/windrow").rglob("*.py"))
    text = "".join(
        (DOCKER / name).read_text(encoding="utf-8") for name in (*IMAGES, "compose.yaml", "helm/values-gpu.yaml")
    )
    named = set(re.findall(r"\bWINDROW_[A-Z_]+\b", text))
    assert named == {"WINDROW_HOME", "WINDROW_STORE"}
    assert [name for name in named if f'"{name}"' not in code] == []


def test_airflow_knows_every_command(airflow):
    assert airflow["refused"] == []
    assert len([*commands()]) == 10


def test_ports_are_those_on_which_the_programs_listen(airflow):
    assert SERVICES["api-server"]["ports"] == [f"127.0.0.1:${{AIRFLOW_PORT:-{airflow['ports']['api']}}}:8080"]
    environment = SERVICES["worker"]["environment"]
    assert (
        environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
        == f"http://api-server:{airflow['ports']['api']}/execution/"
    )
    assert f":{airflow['ports']['scheduler']}/health" in "".join(strings(SERVICES["scheduler"]["healthcheck"]))
    exposed = {step.value for image in IMAGES for step in stages(image)[1] if step.word == "EXPOSE"}
    assert exposed == {f"{airflow['ports']['api']} {airflow['ports']['logs']}", str(airflow["ports"]["logs"])}
    store = environment["AWS_ENDPOINT_URL_S3"].rpartition(":")[2]
    assert f"-s3.port={store}" in SERVICES["objects"]["command"]


def test_urls_name_services_of_the_file():
    hosts = {host for text in strings(SERVICES["worker"]["environment"])
             for host in re.findall(r"(?:://|@)([a-z\-]+):\d+", text)}  # fmt: skip
    assert hosts == {"api-server", "postgres", "redis", "objects"}
    assert hosts <= set(SERVICES)


def test_queues_are_those_of_docs_dags_and_chart(airflow):
    pages = [*REPOSITORY.glob("docs/*.md"), *REPOSITORY.glob("dags/*.py")]
    asked = {queue for page in pages for queue in re.findall(r'queue="(\w+)"', page.read_text(encoding="utf-8"))}
    commands = [service["command"] for service in SERVICES.values() if "--queues" in service.get("command", [])]
    served = {command[command.index("--queues") + 1] for command in commands}
    assert served == asked | {airflow["queue"]}
    celery = helm()["workers"]["celery"]
    assert {celery["queue"], *(workers["queue"] for workers in celery["sets"])} == served


def test_pools_that_the_docs_name_are_made():
    named = {pool for page in REPOSITORY.glob("docs/*.md")
             for pool in re.findall(r'pool="(\w+)"', page.read_text(encoding="utf-8"))}  # fmt: skip
    script = SERVICES["init"]["command"][-1]
    assert named == set(re.findall(r"^airflow pools set (\w+)", script, re.MULTILINE))


def test_no_secret_is_written_in_a_file():
    needed = set(SECRET.findall((DOCKER / "compose.yaml").read_text(encoding="utf-8")))
    example = dict(re.findall(r"^(\w+)=(.*)$", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(example) == needed
    assert set(example.values()) == {""}
    secret = re.compile(r"PASSWORD$|SECRET|_KEY$|CONN$|BROKER_URL$|RESULT_BACKEND$|AUTH$")
    settings = [pair for service in SERVICES.values() for pair in service.get("environment", {}).items()]
    held = {name: value for name, value in settings if secret.search(name) and not name.endswith("AUTH_MANAGER")}
    assert len(held) > 8
    assert [name for name, value in held.items() if not SECRET.search(value)] == []


def test_secrets_are_drawn_once_and_only_for_this_user(tmp_path):
    script = tmp_path / "make_env.py"
    script.write_bytes((DOCKER / "make_env.py").read_bytes())
    first = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    file = tmp_path / ".env"
    written = file.read_text(encoding="utf-8")
    drawn = dict(line.split("=", 1) for line in written.splitlines())
    assert first.returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(drawn) == set(SECRET.findall((DOCKER / "compose.yaml").read_text(encoding="utf-8")))
    assert [name for name, value in drawn.items() if not re.fullmatch(r"[\w\-]{20,}=?", value)] == []
    again = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (again.returncode, file.read_text(encoding="utf-8")) == (2, written)
    assert "Fix: " in again.stdout
