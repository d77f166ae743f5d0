"""One model on several devices: a whole one on each, or one spread over them where none can hold it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from queue import SimpleQueue

from windrow.engines import open_first
from windrow.engines.base import Decoding, Engine, EnginePlan, Outputs
from windrow.engines.spread import free_bytes, must_spread, weight_bytes
from windrow.errors import JobError
from windrow.models.pictures import Pixels
from windrow.models.resolve import ResolvedModel
from windrow.models.windows import Windows

__all__ = ["Several", "calls_at_once", "open_on"]


class Several:
    """Engines of one model behind the seam of one; each call runs whole on an engine that is idle.

    So a shard's predictions do not depend on how many engines there are. As many threads as `calls_at_once`
    tells may call at the same time; more wait.

    Args:
        engines: Each on a device of its own.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self.engines = tuple(engines)
        self.plan = replace(engines[0].plan, device=",".join(engine.plan.device for engine in engines))
        self._idle: SimpleQueue[Engine] = SimpleQueue()
        for engine in self.engines:
            self._idle.put(engine)

    def classify(self, windows: Windows | Pixels) -> Outputs:
        """Return logits, float32, shape ``(windows, labels)``."""
        with self._one() as engine:
            return engine.classify(windows)

    def tag(self, windows: Windows) -> Outputs:
        """Return logits of every token: a list of float32 arrays ``(tokens, labels)``, one a window."""
        with self._one() as engine:
            return engine.tag(windows)

    def embed(self, windows: Windows, pooling: str = "mean", unit: bool = True) -> Outputs:
        """Return one vector a window, float32, shape ``(windows, size)``."""
        with self._one() as engine:
            return engine.embed(windows, pooling, unit)

    def generate(self, windows: Windows, decoding: Decoding) -> Outputs:
        """Return generated token ids, one int32 array a window."""
        with self._one() as engine:
            return engine.generate(windows, decoding)

    def close(self) -> None:
        """Release all devices."""
        for engine in self.engines:
            engine.close()

    @contextmanager
    def _one(self) -> Iterator[Engine]:
        engine = self._idle.get()
        try:
            yield engine
        finally:
            self._idle.put(engine)


def calls_at_once(engine: Engine) -> int:
    """Return how many threads may call an engine at the same time, each with work for a device of its own."""
    return len(engine.engines) if isinstance(engine, Several) else 1


def open_on(devices: Sequence[str], plan: EnginePlan, model: ResolvedModel, wanted: str) -> Engine:
    """Load a model on all of a lane's devices.

    Args:
        devices: From `windrow.engines.devices.lane_devices`.
        plan: Its device is replaced by those.
        model: The resolved model.
        wanted: The engine that the job asks for.

    Raises:
        EngineError: A device is not there, or all together cannot hold the model.
        JobError: The model has to be spread over the devices, and the job's engine or adapter does not allow it.
    """
    if len(devices) == 1:
        return open_first(replace(plan, device=devices[0]), model, wanted)
    if must_spread(weight_bytes(model, plan.precision), free_bytes(devices)):
        if plan.engine != "torch":
            raise JobError(
                f"Model {model.name!r} is larger than one device, and engine {plan.engine!r} cannot spread it.",
                "set `engine: torch`.",
            )
        return open_first(replace(plan, device=",".join(devices)), model, wanted)
    opened: list[Engine] = []
    try:
        for device in devices:
            opened.append(open_first(replace(plan, device=device), model, wanted))  # noqa: PERF401 (closed on error)
    except BaseException:
        for engine in opened:
            engine.close()
        raise
    return Several(opened)
