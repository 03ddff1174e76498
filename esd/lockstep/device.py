"""Which device: found once, when a call is planned; then each rank of a node takes a GPU of its own."""

from __future__ import annotations

import dataclasses

import torch

from esd.config.settings import Config
from esd.errors import UsageError

MEMBERS_ON_CUDA = 256


def resolved(config: Config) -> Config:
    """The config with a device that is there, and as many members at once as it is going to have.

    Raises:
        UsageError: if it asks for cuda and torch finds none.
    """
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        _require_cuda()
        return dataclasses.replace(
            config, device=device, batch_members=config.batch_members or MEMBERS_ON_CUDA
        )
    return dataclasses.replace(config, device=device)


def device_of(config: Config, node_rank: int) -> torch.device:
    """The device of a rank, the node's GPUs dealt out in turn.

    Args:
        config: with a resolved device.
        node_rank: the rank's number among those of its machine.

    Raises:
        UsageError: if this machine has no GPU, whatever rank 0's has.
    """
    if config.device == "cpu":
        return torch.device("cpu")
    _require_cuda()
    return torch.device("cuda", node_rank % torch.cuda.device_count())


def _require_cuda() -> None:
    if not torch.cuda.is_available():
        raise UsageError(f'device = "cuda": {_why_no_cuda()}; use device = "cpu" or "auto"')


def _why_no_cuda() -> str:
    """What torch says when it is made to look for a GPU, as one line."""
    try:
        torch.zeros(1, device="cuda")
    except (RuntimeError, AssertionError) as error:
        return f"torch {torch.__version__} finds no GPU ({' '.join(str(error).split())})"
    return f"torch {torch.__version__} finds no GPU"
