"""A trigger that fires when a model's revision moves on the Hugging Face Hub; it runs in the triggerer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from windrow.errors import WindrowError
from windrow.hub import HubAccess

__all__ = ["ModelUpdateTrigger", "commit_of"]

log = logging.getLogger("windrow")
_KEY = "windrow_revision"


class ModelUpdateTrigger(BaseEventTrigger):
    """Asks the Hub for the commit of a model, again and again, and fires when it is another than before.

    The last commit is kept in Airflow's asset state store, so that a move while no triggerer ran is seen
    afterwards. The first commit ever seen fires nothing. The Hub is reached through the connection that ``[windrow]
    hub_connection`` names, if Airflow has it; it is looked up each time, and no secret is part of the trigger.

    Args:
        model: ``org/name`` or ``org/name@branch``.
    """

    def __init__(self, model: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return how the triggerer makes this trigger anew."""
        return f"{__name__}.{type(self).__name__}", {"model": self.model}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event for each move of the model's revision."""
        known = await self._kept()
        while True:
            commit = await self._asked()
            if commit and commit != known:
                if known:
                    moved = {"model": self.model, "revision": commit, "previous": known}
                    yield TriggerEvent(moved)  # type: ignore[no-untyped-call]
                known = commit
                await self._keep(commit)
            await asyncio.sleep(float(os.environ.get("WINDROW_MODEL_POLL_S") or 300))

    async def _asked(self) -> str | None:
        """Return the model's commit; None, with a word in the log, where the Hub does not tell."""
        from asgiref.sync import sync_to_async

        from windrow.airflow.connections import airflow_hub

        try:
            access = await sync_to_async(airflow_hub)(None)  # in a thread that can ask through the triggerer's loop
            return await asyncio.to_thread(commit_of, self.model, access)
        except WindrowError as error:
            log.warning("%s It is asked again later.", error.problem)
            return None

    async def _kept(self) -> str | None:
        store: Any = getattr(self, "asset_state_store", None)
        found = await store.aget(_KEY) if store is not None else None
        return str(found) if found else None

    async def _keep(self, commit: str) -> None:
        store: Any = getattr(self, "asset_state_store", None)
        if store is not None:
            await store.aset(_KEY, commit)


def commit_of(model: str, access: HubAccess | None = None) -> str:
    """Return the commit that a model's name means on the Hub at this moment.

    Args:
        model: ``org/name``, or ``org/name@revision``.
        access: How the Hub is reached; as its own client does unless given.

    Raises:
        ModelError: There is no such model or revision, or it is not ours to read.
        HubError: The Hub cannot be reached.
    """
    from huggingface_hub import HfApi

    from windrow.errors import ModelError
    from windrow.hub import hub_problem

    repo, _, revision = model.partition("@")
    access = access or HubAccess()
    try:
        info = HfApi(access.endpoint, access.token).model_info(repo, revision=revision or None, timeout=30)
    except Exception as error:  # what the network and the Hub's client can raise is open-ended
        check = "check the id; if it is private, put a token into the Hub's connection or the triggerer's HF_TOKEN."
        raise hub_problem(error, f"Model {model!r}", revision, ModelError, check) from None
    return str(info.sha)
