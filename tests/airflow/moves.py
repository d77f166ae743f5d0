"""Lets a model move on a Hub while its trigger runs, and writes down what the trigger made of it.

python moves.py RESULT.json
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path

from models.hub_stand_in import HubStandIn, Repository

MODEL = {"config.json": b"{}", "model.safetensors": b"weights"}
LINES = []


class Kept(dict):
    """Stands for Airflow's store of an asset's state."""

    async def aget(self, key, default=None):
        return self.get(key, default)

    async def aset(self, key, value):
        self[key] = value


class Lines(logging.Handler):
    """Keeps the log."""

    def emit(self, record):
        LINES.append(record.getMessage())


async def told(trigger, act=None, questions=0, hub=None):
    """Return the trigger's next event; `act` is done after it has asked the Hub so often."""
    events = aiter(trigger.run())
    coming = asyncio.ensure_future(anext(events))
    while act and len(hub.asked) < questions:
        await asyncio.sleep(0.005)
    if act:
        act()
    event = await asyncio.wait_for(coming, 60)
    await events.aclose()
    return event.payload


async def through_a_connection():
    """Follow a private model of a mirror that only the connection of the Hub knows."""
    from windrow.airflow.model_watch import ModelUpdateTrigger

    with HubStandIn() as mirror:
        now = mirror.put("models/ann/guarded", MODEL)
        mirror.guard("models/ann/guarded", "hf_horse", "ann")
        trigger = ModelUpdateTrigger("ann/guarded")
        trigger.asset_state_store = Kept(windrow_revision="0" * 40)
        connection = {"conn_type": "windrow_models", "host": mirror.url}
        os.environ["AIRFLOW_CONN_WINDROW_MODELS_DEFAULT"] = json.dumps(connection)
        refused = await trigger._asked()
        os.environ["AIRFLOW_CONN_WINDROW_MODELS_DEFAULT"] = json.dumps({**connection, "password": "hf_horse"})
        guarded = await told(trigger)
        del os.environ["AIRFLOW_CONN_WINDROW_MODELS_DEFAULT"]
    return {"refused": refused, "guarded": [guarded["revision"], now], "guarded_kwargs": trigger.serialize()[1]}


async def main(hub, result):
    from windrow.airflow.model_watch import ModelUpdateTrigger, commit_of

    logging.getLogger("windrow").addHandler(Lines())
    name, kept = "models/ann/mood", Kept()
    first = hub.put(name, MODEL)
    trigger = ModelUpdateTrigger("ann/mood")
    trigger.asset_state_store = kept
    sound = hub.repositories[name]
    moves = [lambda: hub.put(name, {**MODEL, "config.json": b"{1}"})]
    moved = await told(trigger, moves[0], 3, hub)

    again = ModelUpdateTrigger("ann/mood")
    again.asset_state_store = Kept(windrow_revision=first)
    missed = await told(again)

    hub.repositories[name] = Repository({}, {}, 503)

    def mend():
        hub.repositories[name] = sound
        hub.put(name, {**MODEL, "config.json": b"{2}"})

    third = ModelUpdateTrigger("ann/mood")
    third.asset_state_store = Kept(windrow_revision=moved["revision"])
    mended = await told(third, mend, len(hub.asked) + 2, hub)

    hub.put(name, {**MODEL, "config.json": b"{3}"}, "dev")
    seen = {
        **await through_a_connection(),
        "first": first,
        "moved": moved,
        "kept": dict(kept),
        "missed": missed,
        "mended": mended,
        "log": LINES,
        "branches": [commit_of("ann/mood"), commit_of("ann/mood@dev")],
        "serialized": trigger.serialize(),
    }
    Path(result).write_text(json.dumps(seen))


with HubStandIn() as hub:
    os.environ |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "WINDROW_MODEL_POLL_S": "0.01"}
    asyncio.run(main(hub, sys.argv[1]))
