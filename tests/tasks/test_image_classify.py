import io
import struct
import zlib

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from transformers import pipeline

from models.parts import job_of, pictures, scored
from windrow import Job, run
from windrow.errors import JobError, ModelError, SourceError
from windrow.inspect import check_job, plan_job
from windrow.models import resolve
from windrow.tasks import build_task
from windrow.testing import make_tiny_encoder, make_tiny_vit


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return make_tiny_vit(tmp_path_factory.mktemp("models") / "vit")


def in_mode(mode, kind="PNG", **options):
    file = io.BytesIO()
    Image.open(io.BytesIO(pictures(1, seed=5)[0])).convert(mode).save(file, kind, **options)
    return file.getvalue()


def turned():
    """A JPEG whose camera was held upright: EXIF orientation 6."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return in_mode("RGB", "JPEG", exif=exif.tobytes(), quality=95)


def bomb(width=20_000, height=20_000):
    """A PNG of few bytes that claims to have many pixels."""

    def part(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"")) + part(b"IEND", b"")


def test_labels_and_scores_are_those_of_the_transformers_pipeline(vit):
    modes = [turned(), in_mode("RGBA"), in_mode("L"), in_mode("P", "GIF")]
    images = [*pictures(9), *pictures(3, "JPEG", (40, 33)), *modes]
    classifier = pipeline("image-classification", model=str(vit), device="cpu")
    expected = [classifier(Image.open(io.BytesIO(image)))[0] for image in images]
    found = scored(job_of(vit, "image_classify"), images)
    assert found.columns["label"].to_pylist() == [row["label"] for row in expected]
    np.testing.assert_allclose(found.columns["score"].to_numpy(), [row["score"] for row in expected], atol=1e-5)
    assert len({row["label"] for row in expected}) > 1
    assert not found.failed


def test_what_is_no_sound_image_is_rejected_alone(vit):
    good = pictures(2, "JPEG", (60, 60))
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    found = scored(job_of(vit, "image_classify"), [good[0], b"no image", good[1][:300], bomb(), postscript, good[1]])
    assert {row: why[0] for row, why in found.failed.items()} == dict.fromkeys((1, 2, 3, 4), "bad_image")
    assert "pixels" in found.failed[3][1]
    alone = scored(job_of(vit, "image_classify"), good)
    np.testing.assert_allclose(found.columns["score"].to_numpy()[[0, 5]], alone.columns["score"].to_numpy(), atol=1e-6)


@pytest.fixture
def fields(job_fields, home, tmp_path, vit):
    """A job over images by relative path: two alike, one broken, one missing, one too large, one null, one empty."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    first, second = pictures(2)
    files = {"a.png": first, "b.png": second, "again.png": first, "broken.png": b"no image", "empty.png": b""}
    for name, data in {**files, "large.png": b"x" * 6000}.items():
        (folder / name).write_bytes(data)
    paths = ["a.png", "b.png", "again.png", "broken.png", "lost.png", "large.png", None, "empty.png"]
    table = pa.table({"id": range(8), "image": [path and f"pictures/{path}" for path in paths]})
    parquet.write_table(table, tmp_path / "images.parquet")
    return {
        **job_fields,
        "folder": str(tmp_path),
        "source": {"path": "images.parquet", "text": "image", "key": "id"},
        "task": "image_classify",
        "model": str(vit),
        "limits": {"max_image_bytes": 5000},
        "precision": "fp32",
    }


def published(tmp_path, columns="id, label, score", part=""):
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as con:
        return con.execute(f"SELECT {columns} FROM analytics.review_sentiment{part} ORDER BY id").fetchall()


REASONS = {"bad_image": 1, "unreadable": 1, "too_large": 1, "null_text": 1, "empty_text": 1}


def test_images_are_read_by_path_and_equal_bytes_are_scored_once(fields, tmp_path):
    receipt = run(Job(**fields))
    assert (receipt.rows_in, receipt.rows_published, receipt.rejects) == (8, 3, REASONS)
    assert (receipt.texts_distinct, receipt.texts_scored) == (3, 3)
    rows = published(tmp_path)
    assert [key for key, *_ in rows] == [0, 1, 2]
    assert rows[0][1:] == rows[2][1:] != rows[1][1:]
    rejects = dict(published(tmp_path, "id, reason", "__rejects"))
    assert rejects == {3: "bad_image", 4: "unreadable", 5: "too_large", 6: "null_text", 7: "empty_text"}
    details = dict(published(tmp_path, "id, detail", "__rejects"))
    assert "lost.png: No such file" in details[4]
    assert "limits.max_image_bytes is 5000" in details[5]
    assert sum(receipt.labels.values()) == 3


def test_a_changed_file_under_the_same_path_is_scored_anew_and_nothing_else(fields, tmp_path):
    run(Job(**fields))
    assert run(Job(**fields)).texts_scored == 0
    (tmp_path / "pictures/b.png").write_bytes(pictures(3, seed=9)[2])
    (tmp_path / "pictures/lost.png").write_bytes(pictures(1)[0])
    receipt = run(Job(**fields))
    assert (receipt.texts_scored, receipt.rows_published) == (1, 4)


def test_bytes_urls_and_structs_of_bytes_give_the_same_predictions_as_paths(fields, tmp_path):
    run(Job(**fields))
    by_path = published(tmp_path)
    folder = tmp_path / "pictures"
    names = ["a.png", "b.png", "again.png"]
    raw = [(folder / name).read_bytes() for name in names]
    pairs = [{"bytes": raw[0], "path": None}, {"bytes": None, "path": "pictures/b.png"}, {"bytes": raw[2], "path": "x"}]
    urls = [f"file://{folder / name}" for name in names]
    for column in (pa.array(raw, pa.large_binary()), pa.array(urls), pa.array(pairs)):
        parquet.write_table(pa.table({"id": range(3), "image": column}), tmp_path / "images.parquet")
        assert run(Job(**fields)).texts_scored == 0
        assert published(tmp_path) == by_path


def test_many_images_go_through_several_shards(fields, tmp_path, monkeypatch):
    monkeypatch.setattr("windrow.images.SHARD_IMAGES", 4)
    monkeypatch.setattr("windrow.images.PIECE_ROWS", 3)
    parquet.write_table(pa.table({"id": range(10), "image": pictures(10)}), tmp_path / "images.parquet")
    job = Job(**fields)
    plan = plan_job(job)
    assert (plan["texts_to_score"], plan["rows_rejected"]) == (10, 0)
    receipt = run(job)
    assert (receipt.rows_published, receipt.texts_scored, receipt.tokens) == (10, 10, 10)
    expected = scored(job_of(fields["model"], "image_classify"), pictures(10)).columns["score"].to_pylist()
    np.testing.assert_allclose([score for *_, score in published(tmp_path)], expected, atol=1e-5)


def test_a_column_of_numbers_is_no_column_of_images(fields, tmp_path):
    parquet.write_table(pa.table({"id": range(2), "image": [1, 2]}), tmp_path / "images.parquet")
    with pytest.raises(SourceError, match="neither the bytes of images nor paths"):
        run(Job(**fields))


def test_several_columns_of_images_are_refused(fields):
    with pytest.raises(JobError, match="one column of images"):
        run(Job(**{**fields, "source": {**fields["source"], "text": ["image", "id"]}}))


def test_models_and_tasks_that_do_not_fit_are_refused(fields, tmp_path, vit):
    text_model = make_tiny_encoder(tmp_path / "encoder", ["good"])
    with pytest.raises(ModelError, match="no head for images"):
        check_job(Job(**{**fields, "model": str(text_model)}))
    job = job_of(vit, "sentiment")
    with pytest.raises(ModelError, match="no classification head"):
        build_task(job, resolve(job))
