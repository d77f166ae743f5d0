"""How the Hugging Face Hub is reached, and what goes wrong there, in words; for models and datasets alike."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from windrow.connections import url_in_environment
from windrow.errors import HubError, JobError, WindrowError

__all__ = ["HubAccess", "hub_access", "hub_problem", "is_commit", "is_offline", "reaching_hub_with"]

_RETRYABLE_STATUS = {408, 429}


@dataclass(frozen=True, slots=True)
class HubAccess:
    """How the Hub is reached; what is None is as the Hub's own client has it (``HF_TOKEN``, ``HF_ENDPOINT`` …).

    Attributes:
        token: Who asks; never shown.
        endpoint: Url of the Hub, or of a mirror of it.
        cache: Folder of what has been downloaded, as ``HF_HOME``: ``hub`` and ``datasets`` lie in it.
    """

    token: str | None = field(default=None, repr=False)
    endpoint: str | None = None
    cache: str | None = None

    def folder(self, kind: str) -> str | None:
        """Return the folder of the cache for ``hub`` or ``datasets``; None where the client's own is used."""
        return str(Path(self.cache).expanduser() / kind) if self.cache else None


def _from_environment(connection: str | None) -> HubAccess:
    """Read ``$WINDROW_CONN_<ID>``: ``https://:token@host?cache=folder``; what it leaves out is the client's own."""
    if connection is None:
        return HubAccess()
    parts = urlsplit(url_in_environment(connection))
    host = parts.netloc.rpartition("@")[2]
    cache = dict(parse_qsl(parts.query)).get("cache")
    token = unquote(parts.password or "") or None
    return HubAccess(token, f"{parts.scheme}://{host}{parts.path}" if host else None, cache)


_finder: ContextVar[Callable[[str | None], HubAccess]] = ContextVar("finder", default=_from_environment)


def hub_access(connection: str | None) -> HubAccess:
    """Return how the Hub is reached through a connection; None means the default one, if there is any.

    Raises:
        JobError: The connection is not known.
    """
    return _finder.get()(connection)


@contextmanager
def reaching_hub_with(find: Callable[[str | None], HubAccess]) -> Iterator[None]:
    """Let `find` turn connection ids into ways to the Hub, while the context lasts."""
    token = _finder.set(find)
    try:
        yield
    finally:
        _finder.reset(token)


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
