"""Whatever is published in whatever order: tables hold what a dictionary would, and columns what was given."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from dataclasses import dataclass, field

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from faults.trials import THOROUGH
from warehouses.places import BROKEN, ClickHousePlace, PostgresPlace
from warehouses.test_contract import new
from windrow.errors import FencedError, SchemaError
from windrow.warehouses import open_url
from windrow.warehouses.base import TableName

EXAMPLES = 40 if THOROUGH else 5
RELAXED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
LABELS = st.sampled_from(["x", "y", "ü", "'; --", "日本"])
PARTITIONS = st.sampled_from(["p1", "it's", "ü/..", "2026-11-23"])
_numbers = itertools.count()


@dataclass
class Published:
    """A run as it is asked for."""

    partition: str
    rows: dict[str, str]
    rejected: set[str]
    run: int


@dataclass
class Expected:
    """What the tables hold after some runs."""

    rows: dict[tuple[str, str], str] = field(default_factory=dict)
    rejects: set[tuple[str, str]] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)

    def take(self, run: Published, mode: str) -> bool:
        """Do what a run does; tell whether it may, since no later one of its partition was there."""
        if self.last.get(run.partition, -1) > run.run:
            return False
        self.last[run.partition] = run.run
        keys = {*run.rows, *run.rejected}
        if mode == "upsert":
            self.rows = {at: label for at, label in self.rows.items() if at[1] not in keys}
            self.rejects = {at for at in self.rejects if at[1] not in keys}
        else:
            self.rows = {at: label for at, label in self.rows.items() if at[0] != run.partition}
        self.rejects = {at for at in self.rejects if at[0] != run.partition}
        self.rows |= {(run.partition, key): label for key, label in run.rows.items()}
        self.rejects |= {(run.partition, key) for key in run.rejected}
        return True


@st.composite
def runs(draw):
    """A few runs of a few partitions, in any order of their ids."""
    wanted = draw(st.permutations(range(draw(st.integers(1, 5)))))
    few = draw(st.lists(KEYS, min_size=1, max_size=5, unique=True))
    found = []
    for number in wanted:
        rows = draw(st.dictionaries(st.sampled_from(few), LABELS, max_size=5))
        rejected = draw(st.sets(st.sampled_from(few), max_size=3)) - set(rows)
        found.append(Published(draw(PARTITIONS), rows, rejected, number))
    return found


def named(asked, name):
    """Let a run be one of another table."""
    return dataclasses.replace(asked, receipt=dataclasses.replace(asked.receipt, table=f"analytics.{name}"))


@pytest.fixture(scope="module", params=list(BROKEN))
def place(request, tmp_path_factory):
    return BROKEN[request.param](tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("mode", ["replace", "upsert"])
@RELAXED
@given(wanted=runs())
def test_any_runs_in_any_order_leave_what_a_dictionary_would(place, mode, wanted):
    name = f"t{next(_numbers)}"
    expected = Expected()
    for run in wanted:
        rows = {"id": pa.array(list(run.rows), pa.string()), "label": pa.array(list(run.rows.values()), pa.string())}
        asked = new(pa.table(rows), run.partition, f"run-{run.run}-{name}", sorted(run.rejected), mode=mode)
        asked = named(asked, name)
        with open_url(place.url, TableName.parse(f"analytics.{name}")) as warehouse:
            if expected.take(run, mode):
                warehouse.replace(asked)
            else:
                with pytest.raises(FencedError):
                    warehouse.replace(asked)
    table = place.rows(name).to_pylist()
    assert sorted((row["windrow_partition"], row["id"], row["label"]) for row in table) == sorted(
        (*at, label) for at, label in expected.rows.items()
    )
    rejects = place.rows(f"{name}__rejects").to_pylist()
    assert sorted((row["windrow_partition"], row["id"]) for row in rejects) == sorted(expected.rejects)


WHOLE = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
FLOATS = [pa.float32(), pa.float64()]


def values_of(kind):
    """Return a strategy for the values of an Arrow type."""
    if pa.types.is_integer(kind):
        size = kind.bit_width - (0 if pa.types.is_unsigned_integer(kind) else 1)
        return st.integers(0 if pa.types.is_unsigned_integer(kind) else -(2**size), 2**size - 1)
    if pa.types.is_decimal(kind):
        most = 10 ** (kind.precision - kind.scale)
        return st.decimals(-most + 1, most - 1, places=kind.scale, allow_nan=False)
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_floating(kind):
        return st.floats(width=kind.bit_width, allow_nan=False)
    if pa.types.is_binary(kind):
        return st.binary(max_size=20)
    if pa.types.is_date(kind):
        return st.dates()
    if pa.types.is_timestamp(kind):
        zone = st.just(dt.UTC) if kind.tz else st.none()
        return st.datetimes(timezones=zone)
    return KEYS


@st.composite
def columns(draw, rows):
    """A column of any type that sources have, with nulls, perhaps of lists, perhaps as a dictionary."""
    leaves = [
        *WHOLE, *FLOATS, pa.bool_(), pa.string(), pa.large_string(), pa.binary(), pa.date32(),
        pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.decimal128(draw(st.integers(3, 38)), 2),
    ]  # fmt: skip
    kind = draw(st.sampled_from(leaves))
    values = st.none() | values_of(kind)
    if draw(st.booleans()):
        kind, values = pa.list_(kind), st.none() | st.lists(values, max_size=3)
    found = pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), kind)
    return found.dictionary_encode() if kind == pa.string() and draw(st.booleans()) else found


@st.composite
def tables(draw):
    """Some columns of one length."""
    rows = draw(st.integers(1, 5))
    return {f"kept{number}": draw(columns(rows)) for number in range(draw(st.integers(1, 8)))}


def held(place, table, names):
    """Return the rows of the named columns, ordered by id."""
    with open_url(place.url, table, writes=False) as warehouse:
        return sorted(warehouse.read("table", {}, ["id", *names]).to_pylist(), key=lambda row: row["id"])


def told(place, values):
    """Return values as the warehouse tells them: in JSON, which PostgreSQL and ClickHouse hold, many are texts."""
    kind = values.type
    if not isinstance(place, PostgresPlace | ClickHousePlace) or not pa.types.is_list(kind):
        return values.to_pylist()
    if pa.types.is_decimal(kind.value_type):
        rows = values.to_pylist()  # a cast to doubles in Arrow is not always the nearest one
        return [row and [None if value is None else float(value) for value in row] for row in rows]
    if not (pa.types.is_temporal(kind.value_type) or pa.types.is_binary(kind.value_type)):
        return values.to_pylist()
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        given = pa.table({"value": values})  # noqa: F841 (DuckDB finds it by name)
        return [row[0] for row in con.execute("SELECT CAST(value AS VARCHAR[]) FROM given").fetchall()]


@settings(RELAXED, max_examples=2 * EXAMPLES)
@given(given_columns=tables())
@example(given_columns={"kept0": pa.array([[1 << 63], None, [7]], pa.list_(pa.uint64()))})
def test_any_columns_arrive_unchanged_or_are_refused_by_name(place, given_columns):
    name = f"t{next(_numbers)}"
    table = TableName.parse(f"analytics.{name}")
    left = dict(given_columns)
    keys = [f"{number:03d}" for number in range(len(left["kept0"]))]
    with open_url(place.url, table) as warehouse:
        while True:
            asked = named(new(pa.table({"id": keys, **left}), run_id=f"run-{name}"), name)
            try:
                warehouse.replace(asked)
            except SchemaError as refused:
                (column,) = (column for column in left if f"'{column}'" in refused.problem)
                del left[column]
            else:
                break
    rows = held(place, table, left)
    for column, values in left.items():
        assert [row[column] for row in rows] == told(place, values), column


@RELAXED
@given(chain=st.sampled_from([WHOLE[:4], WHOLE[4:7], FLOATS]), data=st.data())
def test_numbers_of_any_widths_in_any_order_are_all_kept(place, chain, data):
    name = f"t{next(_numbers)}"
    table = TableName.parse(f"analytics.{name}")
    expected = {}
    for number, kind in enumerate(data.draw(st.lists(st.sampled_from(chain), min_size=2, max_size=4))):
        values = data.draw(st.lists(st.none() | values_of(kind), min_size=1, max_size=3))
        rows = {f"{number}-{at}": value for at, value in enumerate(values)}
        columns = {"id": list(rows), "value": pa.array(list(rows.values()), kind), f"only{number}": ["x"] * len(rows)}
        with open_url(place.url, table) as warehouse:
            warehouse.replace(named(new(pa.table(columns), f"p{number}", f"run-{number}-{name}"), name))
        expected |= rows
    assert {row["id"]: row["value"] for row in held(place, table, ["value"])} == expected
