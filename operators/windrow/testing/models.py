"""Tiny models with random weights, made in a second: real checkpoints for tests of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "make_tiny_adapter",
    "make_tiny_classifier",
    "make_tiny_encoder",
    "make_tiny_model",
    "make_tiny_seq2seq",
    "make_word_tokenizer",
]

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
_STYLES = {
    "bert": ({"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}, "[CLS] $A [SEP]"),
    "bart": ({"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}, "<s> $A </s>"),
    "t5": ({"pad": "<pad>", "eos": "</s>", "unk": "<unk>"}, "$A </s>"),
}
"""Special tokens by role, their ids in this order, and how they stand around a text."""

_SEQ2SEQ = {
    "bart": ("BartForConditionalGeneration", "bart"),
    "marian": ("MarianMTModel", "t5"),
    "pegasus": ("PegasusForConditionalGeneration", "t5"),
    "t5": ("T5ForConditionalGeneration", "t5"),
}
"""Model class and style of tokenizer by kind."""

_DECODING = {"max_length", "max_new_tokens", "min_length", "num_beams", "no_repeat_ngram_size"}
_DECODING |= {"forced_bos_token_id", "forced_eos_token_id"}


def make_word_tokenizer(words: Sequence[str], max_tokens: int = 512, style: str = "bert") -> Any:
    """Return a fast tokenizer over `words`; other words fall into letters.

    Args:
        words: Each is one token.
        max_tokens: Most tokens of a text, special tokens included.
        style: Special tokens and their ids as in ``bert``, ``bart`` (RoBERTa too) or ``t5``.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    named, template = _STYLES[style]
    vocabulary = [*named.values(), *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *words]
    ids = {token: number for number, token in enumerate(dict.fromkeys(vocabulary))}
    backend = Tokenizer(models.WordPiece(ids, unk_token=named["unk"]))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    used = [(token, ids[token]) for token in named.values() if token in template]
    backend.post_processor = processors.TemplateProcessing(single=template, pair=None, special_tokens=used)
    tokens = {f"{name}_token": token for name, token in named.items()}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=max_tokens, **tokens)


def make_tiny_model(folder: Path, model_class: Any, config: Any, tokenizer: Any, seed: int = 0) -> Path:
    """Write a model with random weights, and its tokenizer; return the folder.

    Args:
        folder: Is made.
        model_class: A model class of Transformers, for example ``RobertaForSequenceClassification``.
        config: Its configuration; ``vocab_size`` is set to the tokenizer's.
        tokenizer: For example from `make_word_tokenizer`.
        seed: Of the weights.
    """
    import torch

    config.vocab_size = len(tokenizer)
    torch.manual_seed(seed)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_encoder(folder: Path, words: Sequence[str], max_tokens: int = 512, seed: int = 0) -> Path:
    """Write a BERT encoder without a head, two narrow layers, and its tokenizer; return the folder."""
    from transformers import BertConfig, BertModel

    return make_tiny_model(
        folder, BertModel, BertConfig(**_narrow(max_tokens)), make_word_tokenizer(words, max_tokens), seed
    )


def make_tiny_classifier(
    folder: Path,
    words: Sequence[str],
    labels: Sequence[str] = ("negative", "positive"),
    max_tokens: int = 512,
    seed: int = 0,
) -> Path:
    """Write a BERT classifier of two narrow layers with random weights, and its tokenizer; return the folder."""
    from transformers import BertConfig, BertForSequenceClassification

    named = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: number for number, label in enumerate(labels)},
    }
    config = BertConfig(**_narrow(max_tokens), **named)
    return make_tiny_model(folder, BertForSequenceClassification, config, make_word_tokenizer(words, max_tokens), seed)


def _narrow(max_tokens: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": max_tokens,
        "initializer_range": 0.5,
    }


def make_tiny_adapter(
    folder: Path, base: Path, labels: Sequence[str] = ("negative", "positive"), seed: int = 1
) -> Path:
    """Write a PEFT LoRA adapter with a classification head over an encoder, random weights; return the folder.

    The labels stand in ``labels.json`` beside it, where Windrow reads them.
    """
    import json
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=len(labels), ignore_mismatched_sizes=True, dtype=torch.float32
    )
    wanted = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["query", "value"], init_lora_weights=False)
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        get_peft_model(model, wanted).save_pretrained(folder)
    named = {"id2label": {str(number): label for number, label in enumerate(labels)}}
    (folder / "labels.json").write_text(json.dumps(named), encoding="utf-8")
    return folder


def make_tiny_seq2seq(
    folder: Path, words: Sequence[str], kind: str = "bart", max_tokens: int = 64, seed: int = 0, **settings: Any
) -> Path:
    """Write a seq2seq model of one narrow layer a side with random weights, and its tokenizer; return the folder.

    Args:
        folder: Is made.
        words: Each is one token.
        kind: ``bart``, ``marian``, ``pegasus`` or ``t5``.
        max_tokens: Most tokens that the encoder reads.
        seed: Of the weights.
        settings: Put into the configuration, for example ``task_specific_params``; those of decoding
            (``max_length``, ``num_beams`` …) into the generation configuration.
    """
    import transformers

    name, style = _SEQ2SEQ[kind]
    tokenizer = make_word_tokenizer(words, max_tokens, style)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"bos_token_id": tokenizer.bos_token_id, "decoder_start_token_id": 2 if kind == "bart" else 0}
    decoding = {key: settings.pop(key) for key in list(settings) if key in _DECODING}
    model_class = getattr(transformers, name)
    config = model_class.config_class(vocab_size=len(tokenizer), **_narrow_seq2seq(kind, max_tokens), **ids, **settings)
    make_tiny_model(folder, model_class, config, tokenizer, seed)
    transformers.GenerationConfig(**{**ids, **decoding}).save_pretrained(folder)
    return folder


def _narrow_seq2seq(kind: str, max_tokens: int) -> dict[str, Any]:
    if kind == "t5":
        sizes: dict[str, Any] = {"d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "n_positions": max_tokens}
        return {**sizes, "d_model": 32, "initializer_factor": 4.0}
    sides = ("encoder", "decoder")
    sizes = {f"{side}_{part}": size for side in sides for part, size in (("layers", 1), ("ffn_dim", 64))}
    sizes |= {f"{side}_attention_heads": 2 for side in sides}
    return {**sizes, "d_model": 32, "max_position_embeddings": max_tokens, "init_std": 0.5}
