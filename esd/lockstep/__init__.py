"""Many members in lock-step through torch, on the CPU or a GPU.

Everything that esd computes here itself is made of single elementwise operations, each rounded as IEEE 754 says, in the
order of the compiled kernels, so that the bits are theirs. Nothing is contracted (no addcmul, no ``alpha=``), nothing
re-associated (no matrix product), nothing left to a library's tanh or log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from esd.errors import MissingPackageError, missing_module

if TYPE_CHECKING:
    from esd.config.settings import Config


def require_torch(config: Config) -> None:
    """Make sure that torch is installed before a module of this package is imported.

    Args:
        config: which asks for lock-step evaluation.

    Raises:
        MissingPackageError: if it isn't.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        if (missing := missing_module(error)) is None:
            raise
        members = f"batch_members = {config.batch_members}"
        setting = members if config.device == "cpu" else f"device = {config.device!r}"
        raise MissingPackageError(setting, missing) from error
