"""A model's tokenizer without Transformers, whose import takes seconds: as it was when Transformers last made it."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from windrow.errors import ModelError
from windrow.job import windrow_home
from windrow.models.resolve import ResolvedModel

__all__ = ["kept_tokenizer", "load_tokenizer"]

_VERSION = 1


def kept_tokenizer(model: ResolvedModel, source_lang: str | None = None) -> tuple[Any, float]:
    """Return a tokenizer of the library ``tokenizers``, and how many tokens its makers declare to be read at most.

    Transformers decides what its files mean (it may add tokens, or build it anew from a vocabulary); what came of that
    is kept under ``$WINDROW_HOME/tokenizers``, by the digest of the model and the versions of both libraries.

    Raises:
        ModelError: The tokenizer is broken or has no fast version.
    """
    from tokenizers import Tokenizer

    file = _file(model, source_lang)
    with suppress(Exception):  # not there yet, or broken: it is made anew
        told = json.loads(file.read_text(encoding="utf-8"))
        return Tokenizer.from_str(told["tokenizer"]), float(told["declared"])
    loaded = load_tokenizer(model, source_lang)
    backend, declared = loaded.backend_tokenizer, float(loaded.model_max_length)
    _keep(file, json.dumps({"declared": declared, "tokenizer": backend.to_str()}))
    return backend, declared


def load_tokenizer(model: ResolvedModel, source_lang: str | None = None) -> Any:
    """Return Transformers' tokenizer of a model.

    Raises:
        ModelError: It is broken or has no fast version.
    """
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(str(model.folder), trust_remote_code=False)
        loaded.backend_tokenizer  # noqa: B018 (there is none, if it is slow)
    except Exception as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise ModelError(
            f"The tokenizer of model {model.name!r} cannot be loaded: {reason}.",
            "save it with a fast tokenizer (tokenizer.json).",
        ) from None
    if source_lang is not None:
        loaded.src_lang = source_lang
    return loaded


def _file(model: ResolvedModel, source_lang: str | None) -> Path:
    versions = [metadata.version(name) for name in ("transformers", "tokenizers")]
    facts = json.dumps([_VERSION, model.digest, source_lang, *versions])
    return windrow_home() / "tokenizers" / f"{hashlib.sha256(facts.encode()).hexdigest()[:32]}.json"


def _keep(file: Path, words: str) -> None:
    """Write a file whole or not at all; one that cannot be written is done without."""
    made = file.with_name(f"making-{uuid.uuid4().hex[:12]}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(words, encoding="utf-8")
        made.replace(file)
    with suppress(OSError):
        made.unlink(missing_ok=True)
