from concurrent.futures import ThreadPoolExecutor

import pytest
from transformers import AutoTokenizer

from models.parts import WORDS, job_of
from windrow.models import resolve
from windrow.models.tokens import Tokens, _max_tokens
from windrow.testing import make_tiny_classifier


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model that reads 16 tokens at once: 14 words between two special tokens."""
    return make_tiny_classifier(tmp_path_factory.mktemp("models") / "short", WORDS, max_tokens=16)


@pytest.fixture(scope="module")
def tokens(folder):
    return Tokens(resolve(job_of(folder)))


def test_windows_hold_every_token_in_order_and_no_text_is_cut(tokens, folder):
    text = " ".join(WORDS * 3)
    windows = tokens.windows([text, "bad", ""])
    assert windows.rows.tolist() == [0, 0, 0, 0, 0, 1, 2]
    assert windows.lengths.tolist() == [16, 16, 16, 16, 60 - 4 * 14 + 2, 3, 2]
    inside = [int(i) for w in range(5) for i in windows.window(w)[1:-1]]
    assert inside == AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
    assert windows.tokens_per_row().tolist() == [60 + 5 * 2, 3, 2]
    assert not windows.truncated.any()


def test_truncated_windows_are_one_a_text_and_marked_where_tokens_were_lost(tokens):
    windows = tokens.windows([" ".join(WORDS), " ".join(WORDS[:14]), "bad"], truncate=True)
    assert windows.rows.tolist() == [0, 1, 2]
    assert windows.truncated.tolist() == [True, False, False]


def test_a_prefix_stands_before_each_text(tokens):
    assert (
        tokens.windows(["film", "phone"], prefix="good ").ids.tolist()
        == tokens.windows(["good film", "good phone"]).ids.tolist()
    )


def test_counts_are_of_the_whole_text_without_special_tokens(tokens):
    assert tokens.count([" ".join(WORDS * 5), "", "bad film", "zz"]).tolist() == [100, 0, 2, 2]


def test_sequences_come_back_as_text(tokens):
    windows = tokens.windows(["it was not great", "very lovely!"])
    assert tokens.decode([windows.window(0), windows.window(1)]) == ["it was not great", "very lovely!"]


def test_threads_may_share_the_tokenizer(tokens):
    text = " ".join(WORDS * 40)
    expected = tokens.windows([text]).ids.tolist()

    def use(turn):
        kind = turn % 4
        if kind == 0:
            return tokens.windows([text] * 8).ids.tolist() == expected * 8
        if kind == 1:
            return tokens.windows([text], truncate=True).lengths.tolist() == [16]
        if kind == 2:
            return tokens.count([text] * 8).tolist() == [800] * 8
        return tokens.decode([[5, 6]]) != [""]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(80)))


@pytest.mark.parametrize(
    ("config", "declared", "expected"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512}, 1e30, 512),
        ({"model_type": "bert", "max_position_embeddings": 512}, 256, 256),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 1e30, 512),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514}, 1e30, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1}, 1e30, 512),
        ({"model_type": "roberta", "max_position_embeddings": 513, "pad_token_id": 0}, 1e30, 512),
        ({"model_type": "gpt2", "n_positions": 1024}, 1e30, 1024),
        ({"model_type": "t5", "n_positions": 512}, 1e30, 512),
        ({"model_type": "t5"}, 1e30, 512),
        ({"model_type": "mt5"}, 1024, 1024),
        (
            {"model_type": "led", "max_encoder_position_embeddings": 16384, "max_decoder_position_embeddings": 1024},
            1e30,
            16384,
        ),
        ({"model_type": "encoder-decoder", "encoder": {"max_position_embeddings": 512}, "decoder": {}}, 1e30, 512),
        ({"model_type": "xlnet", "max_position_embeddings": -1}, 1e30, 512),
        ({"model_type": "odd", "max_position_embeddings": "many", "encoder": "x"}, 0, 512),
    ],
)
def test_a_window_keeps_to_tokenizer_and_positions(config, declared, expected):
    assert _max_tokens(config, declared) == expected
