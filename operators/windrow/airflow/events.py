"""What the event of a published table tells: counts, speed, drift and cost, from the receipt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["cost_of", "describe"]

_COPIED = (
    "partition",
    "run_id",
    "model",
    "revision",
    "rows_in",
    "rows_published",
    "rows_rejected",
    "texts_scored",
    "texts_reused",
    "labels",
    "rows_per_s",
    "tokens_per_s",
)


def describe(receipt: Mapping[str, Any], price_per_hour: float | None, lanes: int = 1) -> dict[str, Any]:
    """Return the ``extra`` of a published table's event.

    Args:
        receipt: As `windrow.Receipt.to_dict` gives it. Its drift, where the job has gates for that, is told too.
        price_per_hour: What a machine costs.
        lanes: Tasks that scored at once; each counts as a machine for as long as the slowest took.

    >>> counts = dict.fromkeys(_COPIED, 0)
    >>> spent = {"load": 900.0, "infer": 1800.0, "publish": 900.0, "total": 3600.0}
    >>> describe({**counts, "seconds": spent}, price_per_hour=2, lanes=3)["cost"]
    4.0
    """
    spent = receipt["seconds"]
    seconds = round(spent["total"], 3)
    told = {name: receipt[name] for name in _COPIED} | {"seconds": seconds}
    for name in ("rows_per_s", "tokens_per_s"):
        told[name] = round(told[name], 3)
    drift = (receipt.get("quality") or {}).get("drift")
    if drift is not None:
        told["drift"] = drift
    cost = cost_of(spent, price_per_hour, lanes)
    return told if cost is None else {**told, "cost": cost}


def cost_of(seconds: Mapping[str, float], price_per_hour: float | None, lanes: int = 1) -> float | None:
    """Return what a run has cost, if the job tells a price; each lane is a machine.

    >>> cost_of({"load": 900, "infer": 1800, "publish": 900}, price_per_hour=2, lanes=3)
    4.0
    """
    if price_per_hour is None:
        return None
    machine_s = seconds["load"] + seconds["infer"] * max(1, lanes) + seconds["publish"]
    return round(price_per_hour * machine_s / 3600, 6)
