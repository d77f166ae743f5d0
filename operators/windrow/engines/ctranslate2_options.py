"""Decoding as CTranslate2 takes it, from what the checkpoint and the job say; what it cannot honour is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from windrow.engines.base import Decoding
from windrow.errors import ExportError
from windrow.models.resolve import ResolvedModel

__all__ = ["Options", "generation_config", "options_of", "refused"]

_DEFAULT_NEW_TOKENS = 20
_IGNORED = {"transformers_version", "_from_model_config", "use_cache", "do_sample", "temperature", "top_k", "top_p"}
_IGNORED |= {"pad_token_id", "bos_token_id", "decoder_start_token_id", "early_stopping", "typical_p"}
_MAPPED = {"eos_token_id", "max_length", "max_new_tokens", "min_length", "min_new_tokens", "num_beams"}
_MAPPED |= {"length_penalty", "no_repeat_ngram_size", "bad_words_ids", "suppress_tokens"}
_MAPPED |= {"forced_bos_token_id", "forced_eos_token_id"}
_NEUTRAL = {"repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "num_return_sequences": 1}
_NEUTRAL |= {"diversity_penalty": 0.0, "num_beam_groups": 1, "encoder_no_repeat_ngram_size": 0}


@dataclass(frozen=True, slots=True)
class Options:
    """How CTranslate2 is to decode.

    Attributes:
        given: Arguments of ``translate_batch``.
        prefix: Tokens that every row begins with.
        last: Token that a row which reaches its limit ends with, if any.
    """

    given: dict[str, Any]
    prefix: tuple[int, ...]
    last: int | None


def refused(model: ResolvedModel, why: str) -> ExportError:
    """Return the error that says why CTranslate2 cannot run a model."""
    return ExportError(
        f"Model {model.name!r} cannot be run by CTranslate2: {why}.", "set `engine: torch`, or leave engine out."
    )


def generation_config(model: ResolvedModel, decoding: Decoding | None) -> dict[str, Any]:
    """Return the checkpoint's generation configuration with the options of a decoding over it, Nones left out."""
    from transformers import AutoConfig, GenerationConfig

    try:
        told = GenerationConfig.from_pretrained(str(model.folder))
    except OSError:
        told = GenerationConfig.from_model_config(
            AutoConfig.from_pretrained(str(model.folder), trust_remote_code=False)
        )
    found = {**told.to_dict(), **(decoding.options if decoding else {})}
    if decoding and decoding.max_new_tokens:
        found["max_new_tokens"] = decoding.max_new_tokens
    return {name: value for name, value in found.items() if value is not None}


def options_of(model: ResolvedModel, decoding: Decoding) -> Options:
    """Return what ``translate_batch`` is told.

    Transformers counts the decoder's first token as one of a row's, CTranslate2 does not.

    Raises:
        ExportError: An option is set that CTranslate2 does not have.
    """
    told = generation_config(model, decoding)
    unknown = {name for name in set(told) - _IGNORED - _MAPPED if told[name] not in (_NEUTRAL.get(name), False)}
    if told.get("do_sample"):
        unknown.add("do_sample")
    if unknown:
        raise refused(model, f"it has no option {', '.join(sorted(unknown))}")
    longest = told.get("max_new_tokens") or told.get("max_length", _DEFAULT_NEW_TOKENS + 1) - 1
    shortest = told.get("min_new_tokens") or max(0, told.get("min_length", 0) - 1)
    beams = told.get("num_beams", 1)
    banned = [*told.get("bad_words_ids", []), *([token] for token in told.get("suppress_tokens", []))]
    given = {
        "beam_size": beams,
        "max_decoding_length": longest,
        "min_decoding_length": min(longest, shortest),
        "no_repeat_ngram_size": told.get("no_repeat_ngram_size", 0),
        "end_token": listed(told["eos_token_id"]) if "eos_token_id" in told else None,
    }
    if beams > 1:
        given["length_penalty"] = told.get("length_penalty", 1.0)
    banned = [words for words in banned if words != [model.config.get("pad_token_id")]]  # which it never writes
    if banned:
        given["suppress_sequences"] = [[str(token) for token in words] for words in banned]
    prefix = told.get("forced_bos_token_id")
    last = told.get("forced_eos_token_id")
    return Options(given, () if prefix is None else (int(prefix),), listed(last)[0] if last is not None else None)


def listed(tokens: Any) -> list[int]:
    """Return one token or several as a list."""
    return [int(token) for token in tokens] if isinstance(tokens, list) else [int(tokens)]
