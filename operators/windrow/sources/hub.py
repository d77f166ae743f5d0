"""Hugging Face datasets as record batches: ``org/name@revision`` with a split, or a ``save_to_disk`` folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from windrow.errors import SourceError, WindrowError, nearest
from windrow.hub import HubAccess, hub_access, hub_problem, is_commit, is_offline
from windrow.job import redacted
from windrow.sources.base import BATCH_ROWS, require_columns
from windrow.sources.since import Since

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["HubSource"]

log = logging.getLogger("windrow")
_CHECK = "check its id, or set HF_TOKEN if it is private."
_DEFAULT_SPLIT = "train"


class HubSource:
    """One split of a dataset, memory-mapped by the datasets library.

    Args:
        name: ``org/name@revision``, with ``org/name:configuration@revision`` where it has several, or a folder
            that `Dataset.save_to_disk` wrote.
        split: Split to read.
        located: Makes a folder's path absolute.
        connection: Id of the Hub's connection, if it is named.
    """

    def __init__(self, name: str, split: str, located: Callable[[str], str], connection: str | None = None) -> None:
        self.name, self.split, self.connection = name, split, connection
        self.folder = Path(located(name))
        self._dataset: Dataset | None = None

    def schema(self) -> pa.Schema:
        """Return the split's columns as Arrow types."""
        return self._open().features.arrow_schema.remove_metadata()

    def batches(self, columns: Sequence[str], since: Since | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the split's rows; no Python row is made on the way."""
        dataset = self._open()
        require_columns(self.schema(), columns, f"dataset {self.name!r}")
        for table in dataset.select_columns(list(columns)).with_format("arrow").iter(batch_size=BATCH_ROWS):
            for batch in table.select(list(columns)).to_batches():
                yield since.kept(batch) if since else batch

    def malformed(self) -> list[str]:
        """Return nothing: a dataset has no malformed rows."""
        return []

    def _open(self) -> Dataset:
        if self._dataset is None:
            self._dataset = self._from_disk() if self.folder.is_dir() else self._from_hub()
        return self._dataset

    def _from_disk(self) -> Dataset:
        import datasets

        try:
            found = datasets.load_from_disk(str(self.folder))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = str(error).split("\n")[0].rstrip(".")
            raise SourceError(
                f"{str(self.folder)!r} is no saved dataset: {reason}.", "name a folder that save_to_disk wrote."
            ) from None
        if isinstance(found, datasets.DatasetDict):
            self._check_split(list(found))
            return found[self.split]
        own = str(found.split or self.split)
        if self.split not in {own, _DEFAULT_SPLIT}:
            self._check_split([own])
        return found

    def _check_split(self, known: Sequence[str]) -> None:
        """Raise a `SourceError` unless the split, without a slice such as ``[:10%]``, is one of the known."""
        if self.split.partition("[")[0] not in known:
            hint = nearest(self.split, known) or "."
            raise SourceError(
                f"Dataset {self.name!r} has no split {self.split!r}{hint}", f"use one of: {', '.join(known)}."
            )

    def _from_hub(self) -> Dataset:
        import datasets

        whole, _, revision = self.name.partition("@")
        repo, _, configuration = whole.partition(":")
        access = self._access(datasets.config.HF_ENDPOINT)
        commit = self._commit(repo, revision, access)
        datasets.disable_progress_bars()
        options = {"token": access.token, "cache_dir": access.folder("datasets")}
        try:
            builder = datasets.load_dataset_builder(repo, configuration or None, revision=commit, **options)
            if commit and builder.hash != commit:  # the library takes what it has of another revision
                raise SourceError(
                    f"Dataset {self.name!r} is not in the cache at that revision.",
                    "fetch it once with HF_HUB_OFFLINE=0.",
                )
            builder.download_and_prepare()
            self._check_split(list(builder.info.splits))
            return builder.as_dataset(split=self.split)
        except WindrowError:
            raise
        except Exception as error:  # builders of many formats and the network raise what they like
            raise self._problem(error, revision) from None

    def _access(self, endpoint: str) -> HubAccess:
        """Return how the Hub is reached; the library knows one endpoint, and no other is to see the token."""
        access = hub_access(self.connection)
        if access.endpoint and access.endpoint.rstrip("/") != endpoint.rstrip("/"):
            raise SourceError(
                f"Datasets are read from {redacted(endpoint)}, but the connection names {redacted(access.endpoint)}.",
                f"set HF_ENDPOINT={redacted(access.endpoint)} where the job runs.",
            )
        return access

    def _commit(self, repo: str, revision: str, access: HubAccess) -> str | None:
        """Return the commit of a revision; None if it is the newest one in the cache that will do."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import OfflineModeIsEnabled

        if is_commit(revision):
            return revision
        try:
            api = HfApi(endpoint=access.endpoint, token=access.token)
            commit = str(api.dataset_info(repo, revision=revision or None).sha)
        except OfflineModeIsEnabled:
            if not revision:
                return None
            raise SourceError(
                f"Dataset {self.name!r}: revision {revision!r} cannot be looked up, since HF_HUB_OFFLINE is set.",
                "pin a commit; those in the cache work offline.",
            ) from None
        except Exception as error:  # what the network and the Hub's client can raise is open-ended
            raise hub_problem(error, f"Dataset {self.name!r}", revision, SourceError, _CHECK) from None
        log.warning("Dataset %s is not pinned; this run uses commit %s.", self.name, commit)
        return commit

    def _problem(self, error: Exception, revision: str) -> WindrowError:
        """Say what an error of the datasets library means for the reader."""
        from huggingface_hub.errors import LocalEntryNotFoundError

        what = f"Dataset {self.name!r}"
        network = (ConnectionError, TimeoutError, LocalEntryNotFoundError)
        if isinstance(error, network) or hasattr(error, "response") or type(error).__module__.startswith("httpx"):
            return hub_problem(error, what, revision, SourceError, _CHECK)
        reason = " ".join(str(error).split())[:300].rstrip(".")
        offline = " HF_HUB_OFFLINE is set." if is_offline() else ""
        fix = "correct it: org/name:configuration@revision, and the split."
        return SourceError(f"{what} cannot be loaded: {reason}.{offline}", fix)
