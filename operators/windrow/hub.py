"""What goes wrong between here and the Hugging Face Hub, in words; for models and datasets alike."""

from __future__ import annotations

import os
import re

from windrow.errors import HubError, JobError, WindrowError

__all__ = ["hub_problem", "is_commit", "is_offline"]

_RETRYABLE_STATUS = {408, 429}


def is_commit(revision: str) -> bool:
    """Tell whether a revision is a whole commit hash, which never moves.

    >>> is_commit("main")
    False
    """
    return re.fullmatch("[0-9a-f]{40}", revision) is not None


def is_offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}


def hub_problem(error: Exception, what: str, revision: str, kind: type[JobError], check: str) -> WindrowError:
    """Say what an error of the Hub's client means for the reader.

    Args:
        error: Raised by `huggingface_hub` or by a library over it.
        what: What was asked for, as it starts a sentence.
        revision: The one asked for, or an empty text.
        kind: Class of the error, where trying again does not help.
        check: The fix, where the id may be wrong or private.
    """
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", 500)
    if isinstance(error, errors.GatedRepoError):
        return kind(f"{what} is gated.", "accept its terms on its page of the Hub, and set HF_TOKEN.")
    if isinstance(error, errors.RevisionNotFoundError):
        return kind(f"{what}: there is no revision {revision!r}.", "name a commit, a tag or a branch of it.")
    if isinstance(error, errors.RepositoryNotFoundError) or status in {401, 404}:
        return kind(f"{what} is not on the Hub, or is private.", check)
    if isinstance(error, errors.HFValidationError):
        return kind(f"{what} is neither a folder nor a Hub id.", "write org/name@revision, or the path of a folder.")
    if 400 <= status < 500 and status not in _RETRYABLE_STATUS:
        return kind(f"{what} is refused by the Hub (status {status}).", check)
    if is_offline():
        return kind(f"{what} is not in the cache, and HF_HUB_OFFLINE is set.", "fetch it once with HF_HUB_OFFLINE=0.")
    reason = (str(error).strip() or type(error).__name__).split("\n")[0].rstrip(".")
    return HubError(f"{what} cannot be downloaded: {reason}.", "check the network; what is in the cache needs none.")
