"""Translations: written by a seq2seq checkpoint; long texts part by part, cut at sentence ends."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from windrow.engines.base import Decoding, Engine
from windrow.errors import JobError, ModelError, nearest
from windrow.models.resolve import ResolvedModel
from windrow.models.tokens import Tokens
from windrow.tasks.base import Scored
from windrow.tasks.parts import (
    Tally,
    Written,
    cut_into_parts,
    read_generation_config,
    room_for,
    write_parts,
    written_by,
)

__all__ = ["TranslateParameters", "Translation"]

_DEFAULT_TOKENS = 256
_OPTIONS = ("num_beams", "length_penalty", "min_length", "no_repeat_ngram_size", "early_stopping")
_PAIR = re.compile(r"translation_(\w+?)_to_(\w+)")
_SHOWN = 12


class TranslateParameters(BaseModel):
    """Parameters of ``task: translate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_lang: str | None = Field(None, description="Language of the texts, as the model names it (eng_Latn, en …)")
    target_lang: str | None = Field(None, description="Language to translate into, as the model names it")
    prefix: str | None = Field(None, description="Put before each text; T5's comes from its configuration")
    num_beams: int | None = Field(None, ge=1, description="Beams of the search; unless told, the checkpoint's")
    max_tokens: int | None = Field(
        None, ge=4, description="Most tokens written of a part; unless told, the checkpoint's"
    )


class Translation:
    """Each text in another language.

    Languages are named as the checkpoint names them: by a token of the tokenizer (NLLB, M2M100, mBART,
    multilingual Marian) or by a pair of ``task_specific_params`` (T5). A checkpoint of one pair needs none.
    Texts longer than the model reads, or than it could write, are cut at sentence ends and their translations
    joined with blanks. A text for which the model writes nothing is a reject, ``empty_output``; one of which a
    part's translation reaches the limit counts as truncated.

    Raises:
        ModelError: The checkpoint is no seq2seq model that writes.
        JobError: A language is not one of the model's, or must be named and is not.
    """

    name = "translate"
    head = "generate"
    version = 1
    columns = pa.schema([("translation", pa.string())])
    labels: int | None = None

    def __init__(self, model: ResolvedModel, **parameters: Any) -> None:
        asked = TranslateParameters(**parameters)
        if not model.is_seq2seq or (model.architectures and model.has_head("ForSequenceClassification")):
            raise ModelError(
                f"Model {model.name!r} cannot translate.", "use a seq2seq checkpoint (Marian, NLLB, mBART, T5 …)."
            )
        pairs = _pairs(model)
        own: dict[str, Any] = {}
        forced: dict[str, int] = {}
        self.prefix, self.source_lang = asked.prefix or "", None
        if pairs:
            own = _pair(pairs, asked, model)
            self.prefix = str(own.get("prefix") or "") if asked.prefix is None else asked.prefix
        else:
            forced, mark, self.source_lang = _languages(model, asked)
            self.prefix = mark + self.prefix
        self.languages = asked.source_lang, asked.target_lang
        self.longest = _longest(model, own, asked.max_tokens)
        options = {"do_sample": False} | {name: own[name] for name in _OPTIONS if name in own} | forced
        if int({**model.config, **read_generation_config(model), **own}.get("min_length") or 0) >= self.longest:
            options["min_length"] = self.longest // 2
        if asked.num_beams:
            options["num_beams"] = asked.num_beams
        self.decoding = Decoding(self.longest, options)

    def parameters(self) -> dict[str, Any]:
        """Return prefix, languages, lengths and decoding options."""
        return {
            "prefix": self.prefix,
            "source_lang": self.languages[0],
            "target_lang": self.languages[1],
            "max_new_tokens": self.decoding.max_new_tokens,
            **self.decoding.options,
        }

    def prepare(self, texts: Sequence[str], tokens: Tokens) -> list[list[str]]:
        """Cut each text into parts that the model can read, and whose translations it has room to write.

        Raises:
            JobError: The prefix leaves no room for a text.
        """
        return cut_into_parts(texts, tokens, min(room_for(self.prefix, tokens), max(1, self.longest // 2)))

    def score(self, prepared: list[list[str]], engine: Engine, tokens: Tokens) -> Scored:
        """Translate all parts and join those of each text."""
        tally = Tally.of(len(prepared))
        open_ = dict(enumerate(prepared))

        def write(parts: list[str]) -> Written:
            return written_by(engine, tokens, parts, self.prefix, self.decoding, self.longest)

        done = write_parts(open_, write, tally) if open_ else {}
        translations = [done.get(text, "") for text in range(len(prepared))]
        return Scored({"translation": pa.array(translations, pa.string())}, tally.read, tally.cut, tally.failed)


def _pairs(model: ResolvedModel) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the pairs of languages of ``task_specific_params``, as T5 has them, with what is set for each."""
    specific = model.config.get("task_specific_params")
    found = (
        ((_PAIR.fullmatch(str(name)), told) for name, told in specific.items()) if isinstance(specific, dict) else ()
    )
    return {(pair[1], pair[2]): told for pair, told in found if pair and isinstance(told, dict)}


def _pair(
    pairs: dict[tuple[str, str], dict[str, Any]], asked: TranslateParameters, model: ResolvedModel
) -> dict[str, Any]:
    """Return what is set for the pair that is asked for; a prefix of the job's own needs none."""
    source, target = asked.source_lang, asked.target_lang
    fitting = [told for (one, other), told in pairs.items() if source in (None, one) and target in (None, other)]
    if len(fitting) == 1:
        return fitting[0]
    if asked.prefix is not None and source is None and target is None:
        return {}
    known = ", ".join(f"{one} to {other}" for one, other in pairs)
    if not fitting:
        hint = nearest(target or source or "", {name for pair in pairs for name in pair}) or "."
        raise JobError(
            f"Model {model.name!r} does not translate {source or 'any'} to {target or 'any'}{hint}",
            f"use one of: {known}.",
        )
    raise JobError(f"Model {model.name!r} translates several pairs.", f"set task.target_lang; it knows {known}.")


def _languages(model: ResolvedModel, asked: TranslateParameters) -> tuple[dict[str, int], str, str | None]:
    """Return decoding options, the mark before each text and the tokenizer's source language, from its tokens."""
    tokenizer = Tokens(model).tokenizer
    known = _known(tokenizer)
    target = known.get(asked.target_lang or "")
    if asked.target_lang and target is None:
        raise _unknown("target_lang", asked.target_lang, known, model)
    if asked.source_lang and known and not _marks_texts(known) and asked.source_lang not in known:
        raise _unknown("source_lang", asked.source_lang, known, model)
    if target is None:
        told = read_generation_config(model).get("forced_bos_token_id", model.config.get("forced_bos_token_id"))
        if len(known) > 1 and told is None:
            raise JobError(
                f"Model {model.name!r} translates into several languages.",
                f"set task.target_lang, for example {_some(known)}.",
            )
        return {}, "", _source(tokenizer, asked, known)
    if _marks_texts(known):
        return {}, f"{target} ", None
    first = "decoder_start_token_id" if _starts_with_language(tokenizer, model) else "forced_bos_token_id"
    return {first: int(tokenizer.convert_tokens_to_ids(target))}, "", _source(tokenizer, asked, known)


def _known(tokenizer: Any) -> dict[str, str]:
    """Return the tokens that stand for languages by the names that a job may use, from the added special tokens."""
    found: dict[str, str] = {}
    for token in tokenizer.get_vocab():
        if named := re.fullmatch(r"__([a-z_]{2,8})__|>>([a-zA-Z_]{2,15})<<|([a-z]{2,3}_[A-Za-z]{2,4})", token):
            found[named[1] or named[2] or named[3]] = token
    return dict(sorted(found.items()))


def _marks_texts(known: dict[str, str]) -> bool:
    """Tell whether the target language is put before the text, as multilingual Marian models want it."""
    return any(token.startswith(">>") for token in known.values())


def _starts_with_language(tokenizer: Any, model: ResolvedModel) -> bool:
    """Tell whether the decoder's first token is the language itself, as in the first mBART."""
    return model.config.get("model_type") == "mbart" and type(tokenizer).__name__.startswith("MBartTokenizer")


def _source(tokenizer: Any, asked: TranslateParameters, known: dict[str, str]) -> str | None:
    """Return the language that the tokenizer is to mark texts with; what it does not mark is only a remark."""
    return asked.source_lang if asked.source_lang in known and hasattr(tokenizer, "src_lang") else None


def _unknown(field: str, name: str, known: dict[str, str], model: ResolvedModel) -> JobError:
    if not known:
        return JobError(
            f"Model {model.name!r} has no languages to choose from.", f"leave out task.{field}; it translates one pair."
        )
    hint = nearest(name, known) or "."
    return JobError(f"task.{field}: model {model.name!r} does not know {name!r}{hint}", f"use one of: {_some(known)}.")


def _some(known: dict[str, str]) -> str:
    return ", ".join(list(known)[:_SHOWN]) + (" …" if len(known) > _SHOWN else "")


def _longest(model: ResolvedModel, own: dict[str, Any], asked: int | None) -> int:
    """Return how many tokens may be written of a part: the job's, the checkpoint's, else a default."""
    told = {**model.config, **read_generation_config(model), **own}
    length = int(told.get("max_length") or 0) - 1
    return asked or int(told.get("max_new_tokens") or 0) or (length if length >= 1 else _DEFAULT_TOKENS)
