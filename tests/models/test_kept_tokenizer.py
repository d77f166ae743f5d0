"""A tokenizer that is read without Transformers says what Transformers' says."""

import pytest
from transformers import AutoTokenizer

from models.parts import WORDS, job_of
from windrow.errors import ModelError
from windrow.job import windrow_home
from windrow.models import kept_tokenizer, resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_classifier, make_tiny_seq2seq

TEXTS = ["it was not great", " ".join(WORDS * 3), "", "zz Good\tfilm!", "naïve 電影"]


@pytest.fixture
def model(home, tmp_path):
    return resolve(job_of(make_tiny_classifier(tmp_path / "model", WORDS, max_tokens=16)))


@pytest.fixture
def no_transformers(monkeypatch):
    """From here on nobody may ask Transformers for a tokenizer."""

    def forbid():
        monkeypatch.setattr(kept_tokenizer, "load_tokenizer", None)

    return forbid


def kept_files():
    return sorted((windrow_home() / "tokenizers").iterdir())


def test_it_says_the_same_from_the_second_time_on_without_transformers(model, no_transformers):
    first = Tokens(model)
    no_transformers()
    again = Tokens(model)
    assert again.max_tokens == first.max_tokens == 16
    for truncate in (False, True):
        one, two = first.windows(TEXTS, truncate), again.windows(TEXTS, truncate)
        assert one.ids.tolist() == two.ids.tolist()
        assert one.rows.tolist() == two.rows.tolist()
        assert one.truncated.tolist() == two.truncated.tolist()
    assert first.spans(TEXTS, 4).starts.tolist() == again.spans(TEXTS, 4).starts.tolist()
    whole = AutoTokenizer.from_pretrained(model.folder)(TEXTS, truncation=True, max_length=16)["input_ids"]
    read = again.windows(TEXTS, truncate=True)
    assert [read.window(row).tolist() for row in range(len(TEXTS))] == whole


def test_a_language_has_a_file_of_its_own(home, tmp_path, no_transformers):
    model = resolve(job_of(make_tiny_seq2seq(tmp_path / "nllb", WORDS, "nllb"), "translate"))
    marked = [Tokens(model, lang).windows(["good film"]).ids.tolist() for lang in ("eng_Latn", "fra_Latn")]
    assert marked[0] != marked[1]
    assert len(kept_files()) == 2
    no_transformers()
    assert [Tokens(model, lang).windows(["good film"]).ids.tolist() for lang in ("eng_Latn", "fra_Latn")] == marked


@pytest.mark.parametrize("words", ["", "{}", '{"declared": 16, "tokenizer": "no"}'])
def test_a_broken_file_is_made_anew(model, words):
    expected = Tokens(model).windows(TEXTS).ids.tolist()
    (file,) = kept_files()
    whole = file.read_text()
    file.write_text(words)
    assert Tokens(model).windows(TEXTS).ids.tolist() == expected
    assert file.read_text() == whole
    assert kept_files() == [file]


def test_a_home_that_cannot_be_written_is_done_without(model, home):
    home.mkdir(exist_ok=True)
    (home / "tokenizers").write_text("a file where the folder should be")
    assert Tokens(model).windows(["good"]).lengths.tolist() == [3]


def test_another_tokenizer_of_the_same_folder_is_another(model, tmp_path):
    before = Tokens(model).windows(["Good"]).ids.tolist()
    file = model.folder / "tokenizer.json"
    file.write_text(file.read_text().replace('"lowercase": true', '"lowercase": false'))
    changed = resolve(job_of(model.folder))
    assert changed.digest != model.digest
    assert Tokens(changed).windows(["Good"]).ids.tolist() != before


def test_a_broken_tokenizer_is_told_and_nothing_is_kept(model):
    (model.folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer of model .* cannot be loaded"):
        Tokens(resolve(job_of(model.folder)))
    assert not (windrow_home() / "tokenizers").exists()
