"""A tiny decoder with random weights; it can be made to say what a test expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from windrow.testing.models import make_tiny_model
from windrow.testing.vocabularies import make_word_tokenizer

__all__ = ["CHAT_TEMPLATE", "make_tiny_causal"]

ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
_WIDE = 256
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_tiny_causal(
    folder: Path,
    words: Sequence[str],
    kind: str = "llama",
    max_tokens: int = 256,
    seed: int = 0,
    *,
    chat: bool = True,
    pad: bool = False,
    follows: Mapping[str, str] | None = None,
) -> Path:
    """Write a decoder of two narrow layers with random weights, and its tokenizer; return the folder.

    Args:
        folder: Is made.
        words: Each is one token.
        kind: ``llama`` or ``gpt2``.
        max_tokens: Tokens of its context.
        seed: Of the weights.
        chat: Whether the tokenizer has a chat template, with special tokens for the roles.
        pad: Whether it has a pad token.
        follows: The token that comes after a token, whatever stands before; after all others the text ends. For
            ``llama``, and a vocabulary of less than 256 tokens.
    """
    import transformers

    tokenizer = make_word_tokenizer([*words, *'{}:"[]'], max_tokens, "llama")
    tokenizer.add_special_tokens({"pad_token": "<pad>"} if pad else {})
    if chat:
        tokenizer.add_tokens(list(ROLES), special_tokens=True)
        tokenizer.chat_template = CHAT_TEMPLATE
    model_class = getattr(transformers, {"llama": "LlamaForCausalLM", "gpt2": "GPT2LMHeadModel"}[kind])
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids["pad_token_id"] = tokenizer.pad_token_id
    config = model_class.config_class(**_narrow(kind, max_tokens), **ids, tie_word_embeddings=not follows)
    if follows:
        config.hidden_size, config.head_dim = _WIDE, _WIDE // config.num_attention_heads
    make_tiny_model(folder, model_class, config, tokenizer, seed)
    if follows:
        _scripted(folder, model_class, tokenizer, follows, seed)
    return folder


def _narrow(kind: str, max_tokens: int) -> dict[str, Any]:
    if kind == "gpt2":
        return {"n_embd": 64, "n_layer": 2, "n_head": 2, "n_positions": max_tokens, "initializer_range": 0.5}
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return {**sizes, "max_position_embeddings": max_tokens, "initializer_range": 0.5}


def _scripted(folder: Path, model_class: Any, tokenizer: Any, follows: Mapping[str, str], seed: int) -> None:
    """Silence the layers, so that the last token alone tells the next one."""
    import torch

    model = model_class.from_pretrained(folder)
    torch.manual_seed(seed)
    size = len(tokenizer)
    ids = {
        tokenizer.convert_tokens_to_ids(token): tokenizer.convert_tokens_to_ids(after)
        for token, after in follows.items()
    }
    after = torch.tensor([ids.get(token, tokenizer.eos_token_id) for token in range(size)])
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                weights.zero_()
        known = torch.linalg.qr(torch.randn(_WIDE, _WIDE)).Q[:size]
        model.get_input_embeddings().weight.copy_(known)
        scores = torch.zeros(size, _WIDE)
        model.get_output_embeddings().weight.copy_(scores.index_add(0, after, known))
    model.save_pretrained(folder)
