"""Tokenizers of few words, made in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["make_language_tokenizer", "make_word_tokenizer"]

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
_STYLES = {
    "bert": ({"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}, "[CLS] $A [SEP]"),
    "bart": ({"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}, "<s> $A </s>"),
    "t5": ({"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}, "$A </s>"),
    "llama": ({"unk": "<unk>", "bos": "<s>", "eos": "</s>"}, "<s> $A"),
    "marian": ({"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}, "$A </s>"),
}
"""Special tokens by role, their ids in this order (Marian's padding is last), and how they stand around a text."""


def make_word_tokenizer(words: Sequence[str], max_tokens: int = 512, style: str = "bert") -> Any:
    """Return a fast tokenizer over `words`; other words fall into letters.

    Args:
        words: Each is one token.
        max_tokens: Most tokens of a text, special tokens included.
        style: Special tokens and their ids as in ``bert``, ``bart`` (RoBERTa too), ``t5``, ``marian`` or ``llama`` (no
            padding).
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    named, template = _STYLES[style]
    vocabulary = [*named.values(), *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *words]
    if style == "marian":
        vocabulary = [token for token in vocabulary if token != named["pad"]] + [named["pad"]]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    backend = Tokenizer(models.WordPiece(ids, unk_token=named["unk"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    used = [(token, ids[token]) for token in named.values() if token in template]
    backend.post_processor = processors.TemplateProcessing(single=template, pair=_pair(template), special_tokens=used)
    tokens = {f"{name}_token": token for name, token in named.items()}
    read = ["input_ids", *(["token_type_ids"] if style == "bert" else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_max_length=max_tokens, model_input_names=read, **tokens
    )


def _pair(template: str) -> str:
    """Return how special tokens stand around two texts: as around one, and once more behind the second."""
    before, _, after = template.partition("$A")
    return f"{before}$A{after} $B:1 {' '.join(f'{token}:1' for token in after.split())}".strip()


def make_language_tokenizer(max_tokens: int) -> Any:
    """Return NLLB's tokenizer over single letters, with four languages."""
    from transformers import NllbTokenizer

    tokens = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", *_LETTERS]
    languages = ["eng_Latn", "deu_Latn", "fra_Latn", "zho_Hans"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return NllbTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=languages, model_max_length=max_tokens)
