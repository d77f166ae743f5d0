"""Which devices a lane takes, of those that a job names or the machine has."""

from __future__ import annotations

from windrow.errors import JobError

__all__ = ["lane_devices", "named_devices"]


def named_devices(device: str) -> tuple[str, ...]:
    """Return the devices of a job's ``device``, of one kind.

    Raises:
        JobError: It names none, or devices of several kinds.

    >>> named_devices("cuda:0, cuda:1")
    ('cuda:0', 'cuda:1')
    """
    names = tuple(part for word in device.split(",") if (part := word.strip()))
    if len({name.partition(":")[0] for name in names}) != 1:
        raise JobError(
            f"Field 'device': {device!r} does not name devices of one kind.",
            "use auto, cpu, cuda, mps, or a list such as cuda:0,cuda:1.",
        )
    return names


def lane_devices(device: str, lane: int = 0, lanes: int = 1, gpus: int | None = None) -> tuple[str, ...]:
    """Return the devices of one lane: all lanes together take all, in turn; with more lanes than devices they share.

    Each lane counts the devices that its own process sees, so lanes on machines of one GPU each take that one.

    Args:
        device: One device, ``cuda`` for all visible GPUs, or a list of devices.
        lane: Number of the lane.
        lanes: How many there are.
        gpus: Visible GPUs; counted unless given.

    >>> lane_devices("cuda", lane=1, lanes=2, gpus=4)
    ('cuda:1', 'cuda:3')
    >>> lane_devices("cuda", lane=3, lanes=4, gpus=2)
    ('cuda:1',)
    """
    names = named_devices(device)
    if names == ("cuda",):
        count = _visible_gpus() if gpus is None else gpus
        names = tuple(f"cuda:{number}" for number in range(count)) if count > 1 else names
    return names[lane::lanes] or (names[lane % len(names)],)


def _visible_gpus() -> int:
    import torch

    return torch.cuda.device_count()
