import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from models.parts import WORDS, copied, job_of, opened, scored
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.tasks import build_task
from windrow.testing import make_tiny_adapter, make_tiny_classifier, make_tiny_encoder

TEXTS = ["good film", "the battery was awful", "it is not very lovely", "bad"]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny encoder without a head."""
    return make_tiny_encoder(tmp_path_factory.mktemp("models") / "base", WORDS)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, base):
    """An adapter over `base` with labels no, perhaps, yes."""
    return make_tiny_adapter(tmp_path_factory.mktemp("adapters") / "three", base, ("no", "perhaps", "yes"))


def test_logits_are_those_of_peft(base, adapter):
    from peft import PeftModel

    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, dtype=torch.float32)
    plain = PeftModel.from_pretrained(plain, str(adapter)).eval()
    with opened(job_of(base, adapter=str(adapter))) as (task, engine, tokens):
        windows = tokens.windows(TEXTS)
        found = engine.classify(windows).values
        labels = task.score(windows, engine, tokens).columns["label"].to_pylist()
    with torch.inference_mode():
        ids = [torch.tensor(windows.window(row)[None].astype(np.int64)) for row in range(len(TEXTS))]
        expected = np.concatenate([plain(input_ids=row).logits.numpy() for row in ids])
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert labels == [("no", "perhaps", "yes")[best] for best in expected.argmax(axis=1)]


def test_an_adapter_is_part_of_the_fingerprint(base, adapter, tmp_path):
    other = make_tiny_adapter(tmp_path / "other", base, ("no", "perhaps", "yes"), seed=2)
    digests = {resolve(job_of(base, adapter=str(folder))).digest for folder in (adapter, other)}
    assert len({*digests, resolve(job_of(base)).digest}) == 3


def test_an_adapter_brings_its_head_in_place_of_one_of_another_size(tmp_path):
    base = make_tiny_classifier(tmp_path / "two", WORDS)
    adapter = make_tiny_adapter(tmp_path / "three", base, ("no", "perhaps", "yes"))
    found = scored(job_of(base, adapter=str(adapter)), TEXTS)
    assert set(found.columns["label"].to_pylist()) <= {"no", "perhaps", "yes"}


def test_an_adapter_without_labels_has_numbered_ones_that_the_job_can_name(base, adapter, tmp_path):
    bare = copied(adapter, tmp_path / "bare")
    (bare / "labels.json").unlink()
    numbered, named = (
        build_task(job, resolve(job)).names
        for job in (
            job_of(base, adapter=str(bare)),
            job_of(base, {"name": "sentiment", "labels": ["a", "b", "c"]}, adapter=str(bare)),
        )
    )
    assert numbered == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert named == ("a", "b", "c")


def test_a_number_of_labels_that_the_head_has_not_is_an_error(base, adapter, tmp_path):
    wrong = copied(adapter, tmp_path / "wrong")
    (wrong / "labels.json").write_text(json.dumps({"id2label": {"0": "no", "1": "yes"}}))
    job = job_of(base, adapter=str(wrong))
    with pytest.raises(ModelError, match="gives 3 scores, but names 2 labels: no, yes"):
        build_task(job, resolve(job))
    (wrong / "labels.json").unlink()
    job = job_of(base, {"name": "sentiment", "labels": ["no", "yes"]}, adapter=str(wrong))
    with pytest.raises(JobError, match=r"task\.labels has 2 names, but model .* has 3 labels"):
        build_task(job, resolve(job))


def without(adapter, target, part):
    """A copy of an adapter that lacks the weights with `part` in their names."""
    spoilt = copied(adapter, target)
    weights = load_file(spoilt / "adapter_model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if part not in name}
    assert 0 < len(kept) < len(weights)
    save_file(kept, spoilt / "adapter_model.safetensors", {"format": "pt"})
    return spoilt


def test_an_adapter_that_brings_no_head_over_a_base_without_one_is_refused(base, adapter, tmp_path):
    headless = without(adapter, tmp_path / "headless", "classifier")
    labels = {"name": "sentiment", "labels": ["no", "perhaps", "yes"]}
    with (
        pytest.raises(ModelError, match=r"no weights for classifier\.bias"),
        opened(job_of(base, labels, adapter=str(headless))),
    ):
        pass


def test_an_adapter_with_missing_layers_is_refused(base, adapter, tmp_path):
    thin = without(adapter, tmp_path / "thin", "layer.1.")
    with pytest.raises(ModelError, match="missing adapter keys"), opened(job_of(base, adapter=str(thin))):
        pass


def test_an_adapter_over_another_base_is_refused(adapter):
    with (
        pytest.raises(ModelError, match="does not fit model"),
        opened(job_of("windrow/minilm-extractive", adapter=str(adapter))),
    ):
        pass


def test_an_adapter_named_as_the_model_is_explained(adapter):
    with pytest.raises(ModelError, match="is an adapter over") as caught:
        resolve(job_of(adapter))
    assert "adapter: " in caught.value.fix


def test_a_bundled_model_with_an_adapter_takes_no_second_one(adapter):
    with pytest.raises(ModelError, match="has an adapter already") as caught:
        resolve(job_of("windrow/minilm-sentiment", adapter=str(adapter)))
    assert "windrow/minilm-extractive" in caught.value.fix


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_without_one_of_its_files_is_refused(name, base, adapter, tmp_path):
    part = copied(adapter, tmp_path / "part")
    (part / name).unlink()
    with pytest.raises(ModelError, match=f"lacks {name}"):
        resolve(job_of(base, adapter=str(part)))
