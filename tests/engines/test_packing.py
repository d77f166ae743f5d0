from itertools import zip_longest

import duckdb
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from windrow.engines.packing import pack, pack_tokens, padding_share, stepped
from windrow.job import Job
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.sources.files import sample_path

lengths = st.lists(st.integers(1, 600), max_size=200)
budgets = st.integers(1, 2000)


@given(lengths, budgets)
def test_every_row_appears_exactly_once(sizes, budget):
    assert sorted(row for rows in pack(sizes, budget) for row in rows) == list(range(len(sizes)))


@given(lengths, budgets)
def test_no_micro_batch_is_over_the_budget_unless_it_is_one_row(sizes, budget):
    for rows in pack(sizes, budget):
        assert len(rows) == 1 or len(rows) * max(sizes[row] for row in rows) <= budget


def test_little_is_padded_on_lengths_like_those_of_reviews():
    sizes = np.clip(np.random.default_rng(0).lognormal(4.2, 0.7, 1000), 3, 512).astype(int)
    assert padding_share(sizes, 512) < 0.03


def test_little_is_padded_on_the_real_reviews_of_the_sample_in_stepped_lengths(job_fields):
    """They are fewer than a shard has, and more rows are padded less."""
    model = resolve(Job(**{**job_fields, "model": "windrow/minilm-sentiment"}))
    query = "SELECT DISTINCT body FROM read_parquet(?)"
    bodies = [body for (body,) in duckdb.execute(query, [sample_path("windrow://reviews/*")]).fetchall()]
    sizes = Tokens(model).windows(bodies).lengths
    steps = stepped(sizes)
    sent = sum(len(rows) * int(steps[rows].max()) for rows in pack(steps, 512))
    assert len(sizes) > 800
    assert 0 < 1 - sizes.sum() / sent < 0.03


@given(lengths, budgets)
def test_every_unpadded_row_appears_exactly_once(sizes, budget):
    assert sorted(row for rows in pack_tokens(sizes, budget) for row in rows) == list(range(len(sizes)))


@given(lengths, budgets)
def test_unpadded_micro_batches_keep_to_the_budget_and_could_not_take_one_row_more(sizes, budget):
    batches = list(pack_tokens(sizes, budget))
    for rows, following in zip_longest(batches, batches[1:]):
        tokens = sum(sizes[row] for row in rows)
        assert len(rows) == 1 or tokens <= budget
        assert following is None or tokens + sizes[following[0]] > budget
