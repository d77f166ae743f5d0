"""Tiny models with random weights, made in a second: real checkpoints for tests of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windrow.testing.vocabularies import make_language_tokenizer, make_word_tokenizer

__all__ = [
    "make_tiny_adapter",
    "make_tiny_classifier",
    "make_tiny_encoder",
    "make_tiny_family",
    "make_tiny_model",
    "make_tiny_seq2seq",
    "make_tiny_tagger",
    "make_tiny_vit",
]

_SEQ2SEQ = {
    "bart": ("BartForConditionalGeneration", "bart"),
    "marian": ("MarianMTModel", "marian"),
    "nllb": ("M2M100ForConditionalGeneration", "nllb"),
    "pegasus": ("PegasusForConditionalGeneration", "t5"),
    "t5": ("T5ForConditionalGeneration", "t5"),
}
"""Model class and style of tokenizer by kind."""

_FAMILIES = {
    "bert": ("Bert", "bert"),
    "deberta": ("Deberta", "bert"),
    "deberta-v2": ("DebertaV2", "bert"),
    "distilbert": ("DistilBert", "bert"),
    "electra": ("Electra", "bert"),
    "modernbert": ("ModernBert", "bert"),
    "roberta": ("Roberta", "bart"),
    "xlm-roberta": ("XLMRoberta", "bart"),
}
"""Start of the class names and style of tokenizer of encoders, by model type."""

_DECODING = {"max_length", "max_new_tokens", "min_length", "num_beams", "no_repeat_ngram_size"}
_DECODING |= {"forced_bos_token_id", "forced_eos_token_id"}


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

    config = BertConfig(**_narrow(max_tokens), **_named(labels))
    return make_tiny_model(folder, BertForSequenceClassification, config, make_word_tokenizer(words, max_tokens), seed)


def make_tiny_tagger(
    folder: Path,
    words: Sequence[str],
    labels: Sequence[str] = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
    max_tokens: int = 512,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """Write a BERT token classifier of two narrow layers with random weights, and its tokenizer; return the folder.

    The settings are put into the configuration.
    """
    from transformers import BertConfig, BertForTokenClassification

    config = BertConfig(**{**_narrow(max_tokens), **_named(labels), **settings})
    return make_tiny_model(folder, BertForTokenClassification, config, make_word_tokenizer(words, max_tokens), seed)


def make_tiny_vit(folder: Path, labels: Sequence[str] = ("cat", "dog", "hen"), size: int = 16, seed: int = 0) -> Path:
    """Write a ViT image classifier of two narrow layers with random weights, and its processor; return the folder."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    narrow = {key: value for key, value in _narrow(1).items() if key != "max_position_embeddings"}
    torch.manual_seed(seed)
    ViTForImageClassification(ViTConfig(image_size=size, patch_size=4, **narrow, **_named(labels))).save_pretrained(
        folder
    )
    ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)
    return folder


def _named(labels: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: number for number, label in enumerate(labels)}}


def _narrow(max_tokens: int) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": max_tokens,
        "initializer_range": 0.5,
    }


def make_tiny_family(
    folder: Path, words: Sequence[str], kind: str, max_tokens: int = 512, seed: int = 0, **settings: Any
) -> Path:
    """Write a classifier of two labels, two narrow layers and random weights, of any encoder family; return the folder.

    Args:
        folder: Is made.
        words: Each is one token.
        kind: ``bert``, ``deberta``, ``deberta-v2``, ``distilbert``, ``electra``, ``modernbert``, ``roberta`` or
            ``xlm-roberta``.
        max_tokens: Most tokens of a text, special tokens included.
        seed: Of the weights.
        settings: Put into the configuration.
    """
    import transformers

    name, style = _FAMILIES[kind]
    tokenizer = make_word_tokenizer(words, max_tokens, style)
    sizes: dict[str, Any] = _narrow(max_tokens + 2 if style == "bart" else max_tokens)
    if kind == "distilbert":
        names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
        names["intermediate_size"] = "hidden_dim"
        sizes = {names.get(key, key): value for key, value in sizes.items()}
    if kind == "electra":
        sizes["embedding_size"] = 16
    ids = {f"{part}_token_id": getattr(tokenizer, f"{part}_token_id") for part in ("pad", "bos", "eos", "cls", "sep")}
    config = getattr(transformers, f"{name}Config")(vocab_size=len(tokenizer), **{**sizes, **ids, **settings})
    return make_tiny_model(folder, getattr(transformers, f"{name}ForSequenceClassification"), config, tokenizer, seed)


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
        kind: ``bart``, ``marian``, ``nllb``, ``pegasus`` or ``t5``.
        max_tokens: Most tokens that the encoder reads.
        seed: Of the weights.
        settings: Put into the configuration, for example ``task_specific_params``; those of decoding
            (``max_length``, ``num_beams`` …) into the generation configuration.
    """
    import transformers

    name, style = _SEQ2SEQ[kind]
    tokenizer = make_language_tokenizer(max_tokens) if kind == "nllb" else make_word_tokenizer(words, max_tokens, style)
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {
        "bos_token_id": tokenizer.bos_token_id,
        "decoder_start_token_id": 2 if kind in {"bart", "nllb"} else tokenizer.pad_token_id,
    }
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
