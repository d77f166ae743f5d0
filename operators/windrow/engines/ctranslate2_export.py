"""A seq2seq checkpoint as CTranslate2 reads it: made once from the PyTorch model, held against it, and kept."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from windrow.engines.base import EnginePlan
from windrow.engines.ctranslate2_options import generation_config, listed, refused
from windrow.engines.decoding_probe import made_up, scores_of
from windrow.engines.loading import load_model
from windrow.errors import ExportError
from windrow.job import windrow_home
from windrow.models.resolve import ResolvedModel

__all__ = ["Export", "exported"]

log = logging.getLogger("windrow")
_VERSION = 1
_TOLERANCE = 1e-3
_PROBE_TOKENS = 12
_SEVEN_BITS = 63
"""Largest weight of seven bits."""


@dataclass(frozen=True, slots=True)
class Export:
    """A converted model; its vocabulary is the token ids, written as decimal numbers."""

    folder: Path
    start: int
    vocabulary: int


def exported(model: ResolvedModel, is_narrow: bool = False) -> Export:
    """Return the conversion of a model, made now if there is none yet.

    It lies under ``$WINDROW_HOME/exports``, by the digests of model and versions, in fp32; the precision is
    chosen when it is loaded.

    Args:
        is_narrow: With weights in seven bits, made beside the one in fp32, for int8 where sums of bytes saturate: a
            tiny trained checkpoint wrote 92.1 % of the letters of fp32 there with weights of eight bits.

    Raises:
        ExportError: CTranslate2 cannot take the model, or writes something else than PyTorch.
        ModelError: The checkpoint does not fit.
    """
    import ctranslate2
    import transformers

    facts = [model.digest, "ctranslate2", _VERSION, ctranslate2.__version__, transformers.__version__]
    if is_narrow:
        exported(model)  # which is held against PyTorch
        facts.append("seven bits")
    folder = windrow_home() / "exports" / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    if not (folder / "facts.json").exists():
        _make(folder, model, is_narrow)
    told = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return Export(folder, told["start"], told["vocabulary"])


def _make(folder: Path, model: ResolvedModel, is_narrow: bool) -> None:
    """Convert the model under a temporary name, hold it against PyTorch, then rename; of two at once, one stays."""
    loaded = load_model(EnginePlan("torch", "generate", "cpu", "fp32"), model).eval()
    told = generation_config(model, None)
    start = told.get("decoder_start_token_id", told.get("bos_token_id"))
    if start is None or "eos_token_id" not in told:
        raise refused(model, "its configuration names no first token or no end")
    facts = {"start": listed(start)[0], "vocabulary": int(loaded.get_output_embeddings().weight.shape[0])}
    made = folder.with_name(f"making-{uuid.uuid4().hex[:12]}")
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        _convert(loaded, model, facts["start"], made, is_narrow)
        if not is_narrow:
            _compare(loaded, made, facts["vocabulary"], facts["start"], listed(told["eos_token_id"]))
        (made / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        made.rename(folder)
    except OSError as error:
        if not (folder / "facts.json").exists():
            raise ExportError(
                f"The export of model {model.name!r} cannot be written under {str(folder.parent)!r}: {error}",
                "free some space there, or set `engine: torch`.",
            ) from None
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, KeyError, NotImplementedError) as error:
        raise refused(model, str(error).strip().split("\n")[0].rstrip(".")[:200]) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    log.info("Converted %s to CTranslate2, once.", model.name)


def _convert(loaded: Any, model: ResolvedModel, start: int, made: Path, is_narrow: bool) -> None:
    """Write the conversion of a loaded model; nothing is read anew but its ``config.json``."""
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.specs.model_spec import visit_spec

    if not all(bool(torch.isfinite(weight).all()) for weight in loaded.parameters()):
        raise ValueError("some of its weights are not finite numbers")
    base = getattr(loaded, "model", None)
    if base is not None:  # which BART's configuration no longer tells
        loaded.config.normalize_before = hasattr(base.encoder, "layer_norm")
        loaded.config.normalize_embedding = hasattr(base.encoder, "layernorm_embedding")
    numbers = _Numbers(loaded)

    class Converter(TransformersConverter):  # type: ignore[misc]  # ctranslate2 is untyped
        def load_model(self, *_: Any, **__: Any) -> Any:
            return loaded

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return numbers

        def _load(self) -> Any:
            spec = super()._load()
            spec.config.decoder_start_token = numbers.convert_ids_to_tokens(start)
            if numbers.has_lost_pad:
                spec.config.decoder_start_token = numbers.eos_token  # it starts from no token at all
            if is_narrow:
                spec.validate()
                visit_spec(spec, _narrow)
            return spec

    Converter(str(model.folder)).convert(str(made))


def _narrow(spec: Any, name: str, weight: Any) -> None:
    """Round a weight of a conversion to seven bits, with a scale for each row, if CTranslate2 would round it."""
    from ctranslate2.specs.model_spec import NumpyVariable, Variable

    name = name.rpartition("/")[2]
    if not hasattr(spec, f"{name}_scale") or not isinstance(weight, Variable) or weight.is_scalar():
        return
    rows = weight.to("float32").numpy()
    scales = _SEVEN_BITS / np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny * _SEVEN_BITS)
    setattr(spec, name, NumpyVariable(np.rint(rows * scales[:, None]).astype(np.int8)))
    setattr(spec, f"{name}_scale", NumpyVariable(scales.astype(np.float32)))


class _Numbers:
    """Stands in for a tokenizer: each token is its id, written as a number."""

    num_madeup_words = 0
    special_tokens_map: dict[str, str] = {}  # noqa: RUF012 (read, never written)

    def __init__(self, loaded: Any) -> None:
        config = loaded.generation_config
        self.size = int(loaded.get_output_embeddings().weight.shape[0])
        pad = config.pad_token_id
        self.has_lost_pad = loaded.config.model_type == "marian"
        if self.has_lost_pad and pad != self.size - 1:
            raise ValueError("its padding is not the last token, as Marian's is")
        self.eos_token = str(listed(config.eos_token_id)[0])
        self.pad_token = str(self.eos_token if pad is None or self.has_lost_pad else pad)
        self.bos_token = str(self.eos_token if config.bos_token_id is None else config.bos_token_id)
        self.unk_token = self.eos_token

    def get_vocab(self) -> dict[str, int]:
        names = {str(number): number for number in range(self.size)}
        if self.has_lost_pad:
            names["<pad>"] = names.pop(str(self.size - 1))
        return names

    def convert_ids_to_tokens(self, token: int) -> str:
        return str(token)


def _compare(loaded: Any, made: Path, vocabulary: int, start: int, ends: list[int]) -> None:
    """Raise a `ValueError` if the conversion writes a token that PyTorch, after those before it, would not."""
    import ctranslate2

    windows = made_up(vocabulary)
    translator = ctranslate2.Translator(str(made), "cpu", compute_type="float32")
    rows = [windows.window(row).tolist() for row in range(len(windows.rows))]
    length = {"max_decoding_length": _PROBE_TOKENS, "min_decoding_length": _PROBE_TOKENS, "end_token": ends}
    written = translator.translate_batch([[str(token) for token in row] for row in rows], beam_size=1, **length)
    banned = [*ends, *([vocabulary - 1] if loaded.config.model_type == "marian" else [])]
    for row, result in zip(rows, written, strict=True):
        tokens = [start, *map(int, result.hypotheses[0])]
        scores = scores_of(loaded, torch.tensor([row]), None, tokens)
        spread = scores.max(dim=-1).values - scores.mean(dim=-1)
        scores[:, banned] = float("-inf")
        missed = scores.max(dim=-1).values - scores.gather(1, torch.tensor(tokens[1:])[:, None])[:, 0]
        if len(tokens) != _PROBE_TOKENS + 1 or not bool((missed <= _TOLERANCE * spread).all()):
            raise ValueError("it writes something else than PyTorch")
