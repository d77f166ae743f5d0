"""Models from the Hugging Face Hub: pinned to a commit, safetensors only, from the cache where offline."""

from __future__ import annotations

import logging
from pathlib import Path

from windrow.errors import ModelError
from windrow.hub import HubAccess, hub_problem
from windrow.models.bundled import BUNDLED

__all__ = ["downloaded"]

log = logging.getLogger("windrow")
_WEIGHTS = ("model.safetensors", "*-of-*.safetensors", "adapter_model.safetensors")
_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
_SUBFOLDERS = ["[!1]*/*", "1[!_]*/*", "1_[!P]*/*", "*/*/*"]
"""All but ``1_Pooling``, where Sentence Transformers say how token vectors are pooled."""
_warned: set[str] = set()


def downloaded(name: str, access: HubAccess) -> tuple[Path, str]:
    """Download a Hub model, or find it in the cache; return its folder and its commit.

    Only the weights that Transformers loads are fetched, and only from the top folder.

    Args:
        name: ``org/name``, or ``org/name@revision`` with a commit, tag or branch.
        access: How the Hub is reached.

    Raises:
        ModelError: There is no such model or revision, it is not ours to read, or it is not cached while offline.
        HubError: The Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    repo, _, revision = name.partition("@")
    try:
        path = snapshot_download(
            repo,
            revision=revision or None,
            allow_patterns=[*_WEIGHTS, *_TEXT_FILES],
            ignore_patterns=_SUBFOLDERS,
            token=access.token,
            endpoint=access.endpoint,
            cache_dir=access.folder("hub"),
        )
    except Exception as error:  # what the network and the Hub's client can raise is open-ended
        check = f"check the id (bundled: {', '.join(BUNDLED)}), or set HF_TOKEN if it is private."
        raise hub_problem(error, f"Model {name!r}", revision, ModelError, check) from None
    commit = Path(path).name
    if revision != commit and f"{name}@{commit}" not in _warned:
        _warned.add(f"{name}@{commit}")
        log.warning("Model %s is not pinned; this run uses commit %s. Pin it: %s@%s", name, commit, repo, commit)
    return Path(path), commit
