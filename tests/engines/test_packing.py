import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from windrow.engines.packing import pack, padding_share

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
