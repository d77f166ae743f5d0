import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from models.parts import WORDS, job_of
from windrow.engines import Decoding, EnginePlan, open_engine
from windrow.engines.causal import greedy
from windrow.engines.continuous import written_continuously
from windrow.errors import JobError, ModelError
from windrow.models import resolve
from windrow.models.tokens import Tokens
from windrow.testing import make_tiny_causal, make_tiny_classifier

TEXTS = ["good film", "the battery was awful and slow, not good", "bad", "a very lovely plot it is not", "phone"] * 2
LITTLE_MEMORY = {"num_blocks": 8, "max_batch_tokens": 64, "page_size": 32}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / request.param
    return resolve(job_of(make_tiny_causal(folder, WORDS, request.param, max_tokens=128)))


def opened(model, head="generate", **fields):
    engine = open_engine(EnginePlan("torch", head, "cpu", "fp32", **fields), model)
    torch.set_num_threads(1)
    return engine


def plain_model(model):
    return AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32).eval()


def written_alone(plain, prompt, limit):
    """What `generate` writes for one row by itself, without the end token."""
    ids = torch.tensor(prompt[None].astype(np.int64))
    made = plain.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=limit, do_sample=False, pad_token_id=0
    )
    row = made[0, ids.shape[1] :].tolist()
    end = plain.generation_config.eos_token_id
    return row[: row.index(end)] if end in row else row


def test_padded_groups_write_token_for_token_what_each_row_gets_alone(model):
    windows, plain = Tokens(model).windows(TEXTS), plain_model(model)
    outputs = opened(model).generate(windows, Decoding(24))
    assert not outputs.failed
    for index, row in enumerate(outputs.values):
        assert row.tolist() == written_alone(plain, windows.window(index), 24)


def test_a_row_ends_at_its_end_token_while_others_go_on(tmp_path):
    script = {"good": "film", "bad": "bad"}
    model = resolve(job_of(make_tiny_causal(tmp_path / "m", WORDS, follows=script)))
    tokens = Tokens(model)
    outputs = opened(model).generate(tokens.windows(["it was good", "bad", "slow"]), Decoding(6))
    assert tokens.decode(outputs.values) == ["film", "bad bad bad bad bad bad", ""]
    assert [len(row) for row in outputs.values] == [1, 6, 0]


def test_continuous_batching_writes_the_same_and_knows_each_row_by_its_prompt(model):
    engine, windows = opened(model), Tokens(model).windows(TEXTS)
    config, failed = greedy(engine.model, Decoding(12), engine.pad_id), {}
    done = written_continuously(engine.model, windows, config, failed, engine.plan.note, **LITTLE_MEMORY)
    expected = engine.generate(windows, Decoding(12)).values
    assert sorted(done) == list(range(len(TEXTS)))
    assert not failed
    for index, row in done.items():
        assert row.tolist() == expected[index].tolist()


def test_continuous_batching_that_breaks_leaves_all_rows_to_generate(model, capsys):
    engine, windows = opened(model), Tokens(model).windows(TEXTS[:2])
    config = greedy(engine.model, Decoding(4), engine.pad_id)
    broken = {"num_blocks": -1, "max_batch_tokens": -1}
    assert written_continuously(engine.model, windows, config, {}, engine.plan.note, **broken) == {}
    assert capsys.readouterr().out == ""
    [told] = engine.plan.notes
    assert told.startswith("planned: continuous batching; ran: fixed groups; why: ")


def test_a_checkpoint_whose_decoding_changes_scores_is_left_to_generate(model):
    engine, windows = opened(model), Tokens(model).windows(TEXTS[:1])
    config = greedy(engine.model, Decoding(4, {"repetition_penalty": 1.5}), engine.pad_id)
    assert written_continuously(engine.model, windows, config, {}, engine.plan.note, **LITTLE_MEMORY) == {}
    assert engine.plan.notes == []


def test_next_token_scores_equal_those_of_the_plain_model_row_by_row(model):
    windows, plain = Tokens(model).windows(TEXTS), plain_model(model)
    engine = opened(model, "next", candidates=(7, 50, 9))
    outputs = engine.classify(windows)
    assert (outputs.values.shape, outputs.values.dtype) == ((len(TEXTS), 3), np.float32)
    with torch.inference_mode():
        for index, row in enumerate(outputs.values):
            logits = plain(torch.tensor(windows.window(index)[None].astype(np.int64))).logits[0, -1]
            np.testing.assert_allclose(row, logits[[7, 50, 9]].numpy(), atol=1e-3, rtol=1e-4)


def test_scores_of_the_vocabulary_are_made_for_the_last_token_alone(model):
    engine = opened(model, "next", candidates=(7, 9))
    shapes = []
    engine.model.get_output_embeddings().register_forward_hook(lambda _, __, made: shapes.append(made.shape[1]))
    engine.classify(Tokens(model).windows(TEXTS))
    assert set(shapes) == {1}


@pytest.mark.parametrize("head", ["generate", "next"])
def test_a_prompt_whose_scores_are_no_numbers_fails_alone(model, head):
    engine, tokens = opened(model, head, candidates=(7, 9)), Tokens(model)
    with torch.no_grad():
        engine.model.get_input_embeddings().weight[tokens.tokenizer.convert_tokens_to_ids("phone")] = float("nan")
        if engine.model.config.tie_word_embeddings:
            engine.model.get_output_embeddings().weight = torch.nn.Parameter(
                torch.nan_to_num(engine.model.get_output_embeddings().weight)
            )
    windows = tokens.windows(["good film", "a phone", "bad"])
    outputs = engine.generate(windows, Decoding(4)) if head == "generate" else engine.classify(windows)
    assert set(outputs.failed) == {1}
    assert outputs.failed[1][0] == "not_finite"


def test_no_prompts_make_no_answers(model):
    assert opened(model).generate(Tokens(model).windows([]), Decoding(4)).values == []
    assert len(opened(model, "next", candidates=(7,)).classify(Tokens(model).windows([])).values) == 0


@pytest.mark.parametrize("head", ["generate", "next"])
def test_a_checkpoint_that_does_not_write_lacks_the_head(head, tmp_path):
    folder = make_tiny_classifier(tmp_path / "m", WORDS)
    with pytest.raises(ModelError, match=r"lacks the head|cannot be loaded"):
        opened(resolve(job_of(folder)), head)


def test_vllm_is_an_error_where_it_is_not_installed(tmp_path, model):
    with pytest.raises(JobError, match="not installed"):
        open_engine(EnginePlan("vllm", "generate", "cuda", "bf16"), model)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_an_adapter_over_a_decoder_is_merged_into_it(tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    folder = make_tiny_causal(tmp_path / "base", WORDS)
    torch.manual_seed(5)
    wanted = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), wanted).save_pretrained(tmp_path / "adapter")
    model = resolve(job_of(folder, adapter=str(tmp_path / "adapter")))
    windows = Tokens(model).windows(TEXTS[:3])
    outputs = opened(model).generate(windows, Decoding(12))
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).merge_and_unload().eval()
    for index, row in enumerate(outputs.values):
        assert row.tolist() == written_alone(adapted, windows.window(index), 12)
    untouched = opened(resolve(job_of(folder))).generate(windows, Decoding(12)).values
    assert any(row.tolist() != other.tolist() for row, other in zip(outputs.values, untouched, strict=True))
