"""What Airflow is told about Windrow agrees with Airflow's own schemas, and docs/provider.md with both."""

import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger

import windrow.airflow
from docs.pages import REPOSITORY, first_column, section
from windrow.airflow.metrics import COUNTERS, GAUGES, TIMINGS
from windrow.airflow.provider import get_provider_info

pytestmark = pytest.mark.airflow
INFO = get_provider_info()
PAGE = REPOSITORY / "docs/provider.md"
WATCH = REPOSITORY / "docs/watch.md"


def schema_of_airflow(name):
    return json.loads((Path(find_spec("airflow").origin).parent / name).read_text(encoding="utf-8"))


def modules(kind):
    return {name for entry in INFO[kind] for name in entry["python-modules"]}


def test_the_provider_info_is_what_airflow_asks_for():
    jsonschema.validate(INFO, schema_of_airflow("provider_info.schema.json"))


def test_the_forms_of_connections_are_what_airflow_asks_for():
    asked = schema_of_airflow("provider.yaml.schema.json")
    rule = {**asked["properties"]["connection-types"], "definitions": asked.get("definitions", {})}
    if "conn-fields" not in rule["items"]["properties"]:
        pytest.skip("this Airflow reads forms from hooks")
    jsonschema.validate(INFO["connection-types"], rule)


def test_every_connection_type_explains_the_fields_that_it_shows():
    for kind in INFO["connection-types"]:
        told = kind["ui-field-behaviour"]
        shown = {"host", "login", "password", "extra"} - set(told["hidden-fields"])
        assert shown == set(told["placeholders"]), kind["connection-type"]


def test_the_page_lists_all_that_airflow_is_told():
    kinds = [kind["connection-type"] for kind in INFO["connection-types"]]
    assert first_column(section(PAGE, "Connection types")) == kinds
    assert first_column(section(PAGE, "Configuration")) == list(INFO["config"]["windrow"]["options"])


def test_the_page_lists_all_that_authors_import():
    listed = first_column(section(PAGE, "Operators"))
    assert sorted(listed) == sorted({*windrow.airflow.__all__, "@task.infer"} - {"infer_task"})


def test_airflow_is_told_of_the_modules_of_all_operators_and_triggers():
    public = [getattr(windrow.airflow, name) for name in windrow.airflow.__all__]
    homes = {value.__module__ for value in public if isinstance(value, type) and issubclass(value, BaseOperator)}
    assert homes == modules("operators") | modules("sensors")
    for name in modules("triggers"):
        classes = [value for value in vars(import_module(name)).values() if isinstance(value, type)]
        assert any(issubclass(kind, BaseTrigger) and kind.__module__ == name for kind in classes), name


def test_the_page_of_metrics_lists_all_that_are_sent():
    named = [f"windrow.{name}" for name in (*COUNTERS, *GAUGES, *TIMINGS)]
    assert first_column(section(WATCH, "Metrics")) == named
