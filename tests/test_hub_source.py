import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from pyarrow import parquet

from models.hub_stand_in import HubStandIn
from windrow import Job, run
from windrow.errors import SourceError
from windrow.sources.base import BATCH_ROWS
from windrow.sources.hub import HubSource

ROWS = {"id": [1, 2, 3], "body": ["good film", "bad phone", None], "stars": [5, 1, 3]}
READ = """
import json, logging, os, sys
from pathlib import Path
from windrow.errors import WindrowError
from windrow.sources.hub import HubSource
logging.basicConfig(format="%(name)s: %(message)s")
answers = []
for text in sys.argv[1:]:
    name, _, split = text.partition("+")
    try:
        connection = "hub" if "WINDROW_CONN_HUB" in os.environ else None
        source = HubSource(name, split or "train", lambda path: str(Path("/nowhere") / path), connection)
        rows = [row for batch in source.batches(["body", "id"]) for row in batch.column("body").to_pylist()]
        answers.append({"columns": source.schema().names, "rows": rows})
    except WindrowError as error:
        answers.append({"error": type(error).__name__, "exit": error.exit_code, "text": str(error)})
print(json.dumps(answers))
"""


def read(source, columns):
    return pa.Table.from_batches(source.batches(columns))


def located(path):
    return str(path)


@pytest.fixture
def saved(tmp_path):
    """A dataset with two splits that `save_to_disk` wrote."""
    features = Features({"id": Value("int32"), "body": Value("string"), "stars": ClassLabel(6)})
    made = Dataset.from_dict(ROWS, features=features)
    DatasetDict(train=made, test=made.select([2, 0])).save_to_disk(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_dataset_gives_the_columns_asked_for_with_their_types(saved):
    source = HubSource(str(saved), "train", located)
    assert source.schema() == pa.schema([("id", pa.int32()), ("body", pa.string()), ("stars", pa.int64())])
    assert read(source, ["stars", "body"]).to_pydict() == {"stars": ROWS["stars"], "body": ROWS["body"]}
    assert source.malformed() == []


def test_rows_that_were_selected_before_saving_come_in_their_order(saved):
    assert read(HubSource(str(saved), "test", located), ["id"])["id"].to_pylist() == [3, 1]


def test_a_split_that_is_not_there_is_answered_with_the_nearest_one(saved):
    with pytest.raises(SourceError, match=r"no split 'tests'; did you mean 'test'\?") as caught:
        HubSource(str(saved), "tests", located).schema()
    assert caught.value.fix == "use one of: train, test."


def test_a_single_saved_dataset_needs_no_split_but_keeps_to_its_own(tmp_path):
    Dataset.from_dict(ROWS).save_to_disk(tmp_path / "bare")
    assert len(read(HubSource(str(tmp_path / "bare"), "train", located), ["id"])) == 3
    Dataset.from_dict(ROWS, split="validation").save_to_disk(tmp_path / "named")
    assert len(read(HubSource(str(tmp_path / "named"), "validation", located), ["id"])) == 3
    with pytest.raises(SourceError, match="no split 'test'"):
        HubSource(str(tmp_path / "named"), "test", located).schema()


def test_a_missing_column_is_answered_with_the_nearest_one(saved):
    with pytest.raises(SourceError, match=r"'bodi' is not in dataset .*; did you mean 'body'\?"):
        list(HubSource(str(saved), "train", located).batches(["bodi"]))


@pytest.mark.parametrize("name", ["state.json", "dataset_info.json", "data-00000-of-00001.arrow"])
def test_a_saved_dataset_that_lost_a_file_is_an_error(name, tmp_path):
    Dataset.from_dict(ROWS).save_to_disk(tmp_path / "lost")
    (tmp_path / "lost" / name).unlink()
    with pytest.raises(SourceError, match="is no saved dataset"):
        HubSource(str(tmp_path / "lost"), "train", located).schema()


def test_a_folder_of_something_else_is_no_saved_dataset(tmp_path):
    (tmp_path / "file.txt").write_text("hello")
    with pytest.raises(SourceError, match="is no saved dataset"):
        HubSource(str(tmp_path), "train", located).schema()


def test_record_batches_are_small_and_come_from_the_mapped_file(tmp_path):
    count = 100_000
    table = pa.table({"id": pa.array(range(count)), "body": pa.array(["x" * 100] * count)})
    Dataset(table).save_to_disk(tmp_path / "large")
    source = HubSource(str(tmp_path / "large"), "train", located)
    source.schema()
    before, rows = pa.total_allocated_bytes(), 0
    for batch in source.batches(["body"]):
        rows += batch.num_rows
        assert batch.num_rows <= BATCH_ROWS
        assert pa.total_allocated_bytes() - before < 2 << 20
    assert rows == count


@pytest.mark.parametrize("text_type", ["string", "large_string"])
def test_a_job_runs_over_a_saved_dataset_relative_to_its_file(text_type, job_fields, home, tmp_path):
    features = Features({"id": Value("int64"), "body": Value(text_type), "stars": ClassLabel(6)})
    DatasetDict(test=Dataset.from_dict(ROWS, features=features)).save_to_disk(tmp_path / "saved")
    source = {"hub": "saved", "split": "{partition}", "text": "body", "key": "id", "keep": ["stars"]}
    receipt = run(Job(**{**job_fields, "source": source, "folder": str(tmp_path)}), partition="test")
    assert (receipt.rows_in, receipt.rows_published) == (3, 2)
    assert sum(receipt.rejects.values()) == 1


def as_parquet(folder, rows):
    parquet.write_table(pa.table(rows), folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub with a dataset in two revisions, one with two configurations, and others that are wrong."""
    folder = tmp_path_factory.mktemp("files")
    first = as_parquet(folder, {"id": [1], "body": ["old"]})
    second, test = as_parquet(folder, ROWS), as_parquet(folder, {"id": [9], "body": ["held out"]})
    with HubStandIn() as stand_in:
        stand_in.put("datasets/ann/reviews", {"data/train-00000.parquet": first, "README.md": b"Old"}, "v1")
        files = {"data/train-00000.parquet": second, "data/test-00000.parquet": test, "README.md": b"New"}
        stand_in.put("datasets/ann/reviews", files)
        card = "---\nconfigs:\n" + "".join(
            f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}.parquet\n"
            for name in ("en", "de")
        )
        several = {"README.md": f"{card}---\n".encode(), "en.parquet": first, "de.parquet": second}
        stand_in.put("datasets/ann/several", several)
        stand_in.put("datasets/ann/empty", {"README.md": b"Nothing here"})
        stand_in.put("datasets/ann/broken", {"train.parquet": b"PAR1 and no more"})
        stand_in.put("datasets/ann/scripted", {"scripted.py": b"raise SystemExit", "README.md": b""})
        stand_in.put("datasets/ann/guarded", {"data/train-00000.parquet": second})
        stand_in.guard("datasets/ann/guarded", "hf_horse", "ann")
        stand_in.refuse("datasets/ann/gated", 403, "GatedRepo")
        stand_in.refuse("datasets/ann/troubled", 503)
        yield stand_in


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("hf_home")


def asked(hub, cache, *names, **more):
    """What the source says about each ``name+split`` in a process of its own, and its standard error."""
    environment = {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        **more,
    }
    told = subprocess.run(
        [sys.executable, "-c", READ, *names],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1] / "operators"), **environment},
        check=False,
        timeout=240,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout), told.stderr


WRONG = {
    "ann/nothing": ("SourceError", "is not on the Hub, or is private"),
    "ann/reviews@v9": ("SourceError", "there is no revision 'v9'"),
    "ann/reviews+trian": ("SourceError", "has no split 'trian'; did you mean 'train'?"),
    "ann/several": ("SourceError", "Config name is missing"),
    "ann/several:fr": ("SourceError", "BuilderConfig 'fr' not found. Available: ['en', 'de']"),
    "ann/empty": ("SourceError", "cannot be loaded"),
    "ann/broken": ("SourceError", "cannot be loaded"),
    "ann/scripted": ("SourceError", "scripts are no longer supported"),
    "ann/gated": ("SourceError", "is gated"),
    "ann/troubled": ("HubError", "cannot be downloaded"),
    "a b/c d": ("SourceError", "is neither a folder nor a Hub id"),
}


@pytest.fixture(scope="module")
def answers(hub, cache):
    """What is said of everything in `WRONG`, asked in one process."""
    return dict(zip(WRONG, asked(hub, cache, *WRONG)[0], strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_a_dataset_that_cannot_be_had_is_an_error_with_its_fix(name, answers):
    kind, problem = WRONG[name]
    assert answers[name]["error"] == kind
    assert problem in answers[name]["text"]
    assert "Fix: " in answers[name]["text"]


def test_splits_revisions_and_configurations_are_read_from_the_hub(hub, cache):
    old = hub.repositories["datasets/ann/reviews"].refs["v1"]
    found, told = asked(
        hub, cache, "ann/reviews", "ann/reviews+test", f"ann/reviews@{old}", "ann/reviews+train[1:]", "ann/several:de"
    )
    assert [answer["rows"] for answer in found] == [
        ROWS["body"],
        ["held out"],
        ["old"],
        ROWS["body"][1:],
        ROWS["body"],
    ]
    assert found[0]["columns"] == ["id", "body", "stars"]
    main = hub.repositories["datasets/ann/reviews"].refs["main"]
    assert f"Dataset ann/reviews is not pinned; this run uses commit {main}." in told
    assert old not in told
    assert "Generating" not in told


def test_offline_a_pinned_revision_is_never_another_one(hub, cache):
    repository = hub.repositories["datasets/ann/reviews"]
    old, new = repository.refs["v1"], repository.refs["main"]
    fresh = cache / "offline"
    asked(hub, fresh, f"ann/reviews@{new}")
    hub.asked.clear()
    found, _ = asked(
        hub,
        fresh,
        f"ann/reviews@{new}",
        "ann/reviews",
        f"ann/reviews@{old}",
        "ann/reviews@v1",
        "ann/nothing",
        HF_HUB_OFFLINE="1",
    )
    assert found[0]["rows"] == found[1]["rows"] == ROWS["body"]
    assert "is not in the cache" in found[2]["text"]
    assert "cannot be looked up, since HF_HUB_OFFLINE is set" in found[3]["text"]
    assert "is not in the cache, and HF_HUB_OFFLINE is set" in found[4]["text"]
    assert hub.asked == []


def test_a_connection_gives_token_and_cache(hub, cache, tmp_path):
    url = f"http://:hf_horse@{hub.url.removeprefix('http://')}?cache={tmp_path}"
    [found], told = asked(hub, cache, "ann/guarded", WINDROW_CONN_HUB=url)
    assert found["rows"] == ROWS["body"]
    assert any((tmp_path / "datasets").iterdir())
    assert "hf_horse" not in told
    [refused], _ = asked(hub, cache, "ann/guarded")
    assert "is not on the Hub, or is private" in refused["text"]


def test_a_token_is_not_shown_to_another_endpoint(hub, cache):
    hub.asked.clear()
    [refused], _ = asked(hub, cache, "ann/guarded", WINDROW_CONN_HUB="https://:hf_horse@hub.example.com")
    assert "but the connection names https://hub.example.com" in refused["text"]
    assert "set HF_ENDPOINT=https://hub.example.com" in refused["text"]
    assert hub.asked == []
