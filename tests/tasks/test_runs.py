"""Tasks through a whole run: what is published, what is rejected, what is counted."""

import duckdb
import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from models.parts import WORDS, copied
from windrow import Job, run
from windrow.testing import make_tiny_classifier, make_tiny_encoder, make_tiny_seq2seq, make_tiny_tagger
from windrow.upkeep import compact_all

BODIES = ["good film", "bad phone", "it was broken", "the plot was slow. " * 30, "a xyzzy"]


@pytest.fixture
def fields(job_fields, home, tmp_path):
    import json

    lines = [json.dumps({"review_id": f"r{i}", "body": body}) for i, body in enumerate(BODIES)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    source = {"path": str(tmp_path / "rows.jsonl"), "text": "body", "key": "review_id"}
    return {**job_fields, "source": source, "precision": "fp32", "device": "cpu"}


def published(fields, table, columns):
    with duckdb.connect(fields["warehouse"]["url"].removeprefix("duckdb:///"), read_only=True) as con:
        return con.execute(f"SELECT {columns} FROM analytics.{table} ORDER BY review_id").fetchall()


def test_texts_that_break_the_model_are_rejects_and_none_of_their_numbers_is_published(fields, tmp_path):
    folder = make_tiny_classifier(tmp_path / "model", WORDS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.word_embeddings.weight"][tokenizer.convert_tokens_to_ids("broken")] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    tokenizer.add_tokens(["xyzzy"])
    tokenizer.save_pretrained(folder)
    receipt = run(Job(**{**fields, "model": str(folder)}))
    assert (receipt.rows_in, receipt.rows_published, receipt.rejects) == (5, 3, {"model_error": 1, "not_finite": 1})
    rejects = published(fields, "review_sentiment__rejects", "review_id, reason")
    assert rejects == [("r2", "not_finite"), ("r4", "model_error")]
    scores = published(fields, "review_sentiment", "review_id, score")
    assert [key for key, _ in scores] == ["r0", "r1", "r3"]
    assert all(0.5 <= score <= 1 for _, score in scores)
    assert run(Job(**{**fields, "model": str(folder)})).texts_scored == 0


def test_cut_texts_are_marked_and_counted(fields, tmp_path):
    folder = make_tiny_classifier(tmp_path / "model", WORDS, max_tokens=32)
    whole = run(Job(**{**fields, "model": str(folder)}))
    assert whole.rows_truncated == 0
    cut = run(Job(**{**fields, "model": str(folder), "task": {"name": "sentiment", "truncate": True}}))
    assert (cut.rows_truncated, cut.texts_reused) == (1, 0)
    found = published(fields, "review_sentiment", "windrow_truncated, windrow_tokens")
    assert [is_cut for is_cut, _ in found] == [False, False, False, True, False]
    assert found[3][1] == 32
    assert cut.tokens < whole.tokens


@pytest.mark.parametrize("make", [make_tiny_encoder, make_tiny_seq2seq])
def test_summaries_are_published_and_made_once(make, fields, tmp_path):
    folder = make(tmp_path / "model", WORDS, max_tokens=64)
    job = Job(**{**fields, "model": str(folder), "task": {"name": "summarise", "max_words": 8}})
    receipt = run(job)
    assert (receipt.rows_published, receipt.rows_rejected, receipt.texts_scored) == (5, 0, 5)
    first = published(fields, "review_sentiment", "review_id, summary, windrow_tokens")
    assert all(summary and tokens > 0 for _, summary, tokens in first)
    assert run(job).texts_scored == 0
    assert published(fields, "review_sentiment", "review_id, summary, windrow_tokens") == first


def test_vectors_are_published_as_lists_and_made_once(fields, tmp_path):
    folder = make_tiny_encoder(tmp_path / "model", WORDS, max_tokens=64)
    job = Job(**{**fields, "model": str(folder), "task": "embed"})
    receipt = run(job)
    assert (receipt.rows_published, receipt.texts_scored, receipt.labels) == (5, 5, {})
    first = published(fields, "review_sentiment", "review_id, embedding, typeof(embedding)")
    assert {(len(vector), kind) for _, vector, kind in first} == {(32, "FLOAT[]")}
    assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-5) for _, vector, _ in first)
    assert run(job).texts_scored == 0
    assert published(fields, "review_sentiment", "review_id, embedding, typeof(embedding)") == first
    shorter = run(Job(**{**fields, "model": str(folder), "task": {"name": "embed", "dimensions": 8}}))
    assert shorter.texts_reused == 0
    assert published(fields, "review_sentiment", "DISTINCT len(embedding), 0 AS review_id") == [(8, 0)]


def test_entities_are_published_as_lists_of_structs_and_made_once(fields, tmp_path):
    folder = make_tiny_tagger(tmp_path / "model", WORDS, max_tokens=64)
    weights = load_file(folder / "model.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    weights["bert.embeddings.word_embeddings.weight"][tokenizer.convert_tokens_to_ids("broken")] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    job = Job(**{**fields, "model": str(folder), "task": "entities"})
    receipt = run(job)
    assert (receipt.rows_published, receipt.rejects, receipt.labels) == (4, {"not_finite": 1}, {})
    kind = 'STRUCT("text" VARCHAR, "label" VARCHAR, "start" INTEGER, "end" INTEGER, score FLOAT)[]'
    first = published(fields, "review_sentiment", "review_id, entities, typeof(entities)")
    assert {kind_ for *_, kind_ in first} == {kind}
    for key, entities, _ in first:
        body = BODIES[int(key[1:])]
        assert all(entity["text"] == body[entity["start"] : entity["end"]] for entity in entities)
    assert sum(len(entities) for _, entities, _ in first) > 5
    assert run(job).texts_scored == 0
    assert published(fields, "review_sentiment", "review_id, entities, typeof(entities)") == first


def test_predictions_of_lists_survive_being_merged(fields, tmp_path, monkeypatch):
    monkeypatch.setattr("windrow.predictions.COMPACT_ABOVE_FILES", 1)
    monkeypatch.setattr("windrow.load.SHARD_TEXTS", 1)
    folder = make_tiny_tagger(tmp_path / "model", WORDS, max_tokens=64)
    job = Job(**{**fields, "model": str(folder), "task": "entities"})
    run(job)
    first = published(fields, "review_sentiment", "review_id, entities")
    assert compact_all(fields["store"]) > 1
    assert run(job).texts_scored == 0
    assert published(fields, "review_sentiment", "review_id, entities") == first


def test_another_copy_of_the_same_model_scores_nothing_anew(fields, tmp_path):
    folder = make_tiny_classifier(tmp_path / "model", WORDS)
    assert run(Job(**{**fields, "model": str(folder)})).texts_scored == 5
    copy = copied(folder, tmp_path / "copy")
    assert run(Job(**{**fields, "model": str(copy)})).texts_reused == 5
