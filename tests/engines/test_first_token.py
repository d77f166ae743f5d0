import copy

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from windrow.engines.first_token import shorten_last_layer

SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
MAKERS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SMALL)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**SMALL)),
    "electra": lambda: ElectraForSequenceClassification(ElectraConfig(**SMALL, embedding_size=32)),
}


@pytest.mark.parametrize("family", MAKERS)
def test_the_short_last_layer_gives_the_same_logits(family):
    torch.manual_seed(0)
    full = MAKERS[family]().eval()
    short = copy.deepcopy(full)
    assert shorten_last_layer(short)
    ids = torch.randint(5, 99, (6, 17))
    mask = torch.ones_like(ids)
    mask[2, 9:] = 0
    with torch.inference_mode():
        torch.testing.assert_close(
            short(ids, attention_mask=mask).logits, full(ids, attention_mask=mask).logits, atol=1e-4, rtol=1e-3
        )
        torch.testing.assert_close(short(ids).logits, full(ids).logits, atol=1e-4, rtol=1e-3)


def test_another_architecture_stays_as_it_is():
    model = DistilBertForSequenceClassification(
        DistilBertConfig(vocab_size=99, dim=32, n_layers=2, n_heads=4, hidden_dim=64)
    ).eval()
    before = str(model)
    assert not shorten_last_layer(model)
    assert str(model) == before


def test_a_head_that_reads_more_than_the_first_token_keeps_its_last_layer():
    class Mean(torch.nn.Module):
        def forward(self, hidden):
            return hidden.mean(dim=1)

    torch.manual_seed(0)
    model = MAKERS["bert"]().eval()
    model.bert.pooler = Mean()
    last = model.bert.encoder.layer[-1]
    assert not shorten_last_layer(model)
    assert model.bert.encoder.layer[-1] is last
