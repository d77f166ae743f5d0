"""docs/architecture.md: the seams that it shows are those of the code."""

import re

import pytest

from docs.pages import REPOSITORY, blocks, first_column, section
from windrow.engines import Engine
from windrow.sources import RowSource
from windrow.tasks import Task
from windrow.warehouses import Warehouse

PAGE = REPOSITORY / "docs/architecture.md"


@pytest.mark.parametrize("seam", [Task, Engine, Warehouse, RowSource], ids=lambda seam: seam.__name__)
def test_the_page_tells_exactly_the_methods_of_a_seam(seam):
    told = next(
        block.text for block in blocks("python", [PAGE]) if re.search(rf"import .*\b{seam.__name__}\b", block.text)
    )
    methods = {name for name, value in vars(seam).items() if callable(value) and not name.startswith("_")}
    assert set(re.findall(r"^# (\w+)\(", told, re.MULTILINE)) == methods
    assert 0 < len(methods) <= 5


def test_every_module_that_the_page_names_exists():
    named = first_column(section(PAGE, "The rooms"))
    assert [name for name in named if not (REPOSITORY / "operators/windrow" / name).exists()] == []


def test_every_module_that_the_decisions_name_exists():
    text = (REPOSITORY / "docs/decisions.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.(?:py|toml))`", text)
    places = [REPOSITORY / "operators/windrow", REPOSITORY]
    assert named
    assert [name for name in named if not any((place / name).exists() for place in places)] == []
