"""From a model's name in a job to files on disk: bundled, a Hub id@revision, or a directory."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windrow.errors import ModelError, nearest
from windrow.hub import hub_access
from windrow.job import Job
from windrow.models.bundled import BUNDLED, base_folder
from windrow.models.digest import folder_digest
from windrow.models.weights import adapter_files, head_outputs, read_config, tokenizer_files, weight_files

__all__ = ["ResolvedModel", "resolve"]

log = logging.getLogger("windrow")
_warned: set[str] = set()


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model's files, found and checked.

    Attributes:
        name: As the job says it, without the revision.
        revision: Commit of a Hub model; a digest of the files of any other.
        folder: Weights, configuration and tokenizer.
        adapter: Folder of a PEFT adapter over them, if any.
        digest: SHA-256 over weights, configuration, tokenizer and adapter.
        config: The model's ``config.json``.
        english_only: Text in another script is a reject.
        outputs: Scores that the classification head gives, where the weights tell.
    """

    name: str
    revision: str
    folder: Path
    adapter: Path | None
    digest: str
    config: dict[str, Any]
    english_only: bool = False
    outputs: int | None = None

    @property
    def is_seq2seq(self) -> bool:
        """Whether it is an encoder with a decoder (BART, T5, Pegasus …)."""
        return bool(self.config.get("is_encoder_decoder"))

    @property
    def is_causal(self) -> bool:
        """Whether it is a decoder alone, which writes on (Llama, Qwen, GPT-2 …)."""
        heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
        return not self.is_seq2seq and any(name.endswith(heads) for name in self.architectures)

    @property
    def architectures(self) -> tuple[str, ...]:
        """Classes that the configuration declares, such as ``BertForSequenceClassification``."""
        declared = self.config.get("architectures") or ()
        return (declared,) if isinstance(declared, str) else tuple(map(str, declared))

    def has_head(self, ending: str) -> bool:
        """Tell whether an architecture that the model declares ends so; one that declares none may have any."""
        return not self.architectures or any(ending in name for name in self.architectures)


def resolve(job: Job) -> ResolvedModel:
    """Find, pin and verify the model of a job; nothing is loaded.

    Raises:
        ModelError: It does not exist, is incomplete, or is not in safetensors.
        HubError: The Hub cannot be reached.
    """
    adapter = _folder_of(job, job.adapter)[0] if job.adapter else None
    if job.model in BUNDLED:
        return _bundled(job, adapter)
    folder, commit = _folder_of(job, job.model)
    name = job.model.partition("@")[0] if commit else job.model
    return _resolved(name, commit, folder, adapter)


def _bundled(job: Job, adapter: Path | None) -> ResolvedModel:
    """Return a bundled model; its task is fixed, unless an adapter gives the bare encoder another."""
    bundled = BUNDLED[job.model]
    if adapter and bundled.adapter:
        others = [model.name for model in BUNDLED.values() if not model.adapter]
        raise ModelError(f"Model {job.model!r} has an adapter already.", f"put yours over {', '.join(others)}.")
    if not adapter and bundled.task != job.task.name:
        fit = [model.name for model in BUNDLED.values() if model.task == job.task.name]
        able = f"use {', '.join(fit)}" if fit else "use a Hub id or a folder"
        raise ModelError(f"Model {job.model!r} is for task {bundled.task!r}, not {job.task.name!r}.", f"{able}.")
    return _resolved(job.model, None, base_folder(), adapter or bundled.adapter_folder(), english_only=True)


def _folder_of(job: Job, name: str) -> tuple[Path, str | None]:
    """Return the folder of a directory or Hub model, and the commit of the latter."""
    folder = Path(job.located(name))
    if folder.is_dir():
        return folder, None
    if name.startswith(("windrow/", "./", "../", "/", "~")) or name.count("/") > 1 or "://" in name:
        hint = nearest(name, BUNDLED) or "."
        bundled = ", ".join(BUNDLED)
        raise ModelError(
            f"Model {name!r} does not exist{hint}", f"use a bundled model ({bundled}), a Hub id, or a directory."
        )
    from windrow.models.download import downloaded

    return downloaded(name, hub_access(job.hub_connection))


def _resolved(
    name: str, commit: str | None, folder: Path, adapter: Path | None, english_only: bool = False
) -> ResolvedModel:
    config = read_config(folder, name)
    if "auto_map" in config and name not in _warned:
        _warned.add(name)
        log.warning("Model %s brings code of its own; it is not run.", name)
    weights = weight_files(folder, name)
    digest = folder_digest([*weights, folder / "config.json", *tokenizer_files(folder, name)])
    if adapter:
        both = f"{digest}\n{folder_digest(adapter_files(adapter))}"
        digest = hashlib.sha256(both.encode()).hexdigest()
    outputs = head_outputs(weights, adapter)
    return ResolvedModel(name, commit or digest, folder, adapter, digest, config, english_only, outputs)
