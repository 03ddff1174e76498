"""Whether all ranks compute the same."""

from __future__ import annotations

import platform

import numpy as np

from esd.errors import RunError, shortened
from esd.evolution.canary import Canary
from esd.mpi.comm import Communicator, gather
from esd.mpi.differences import differences, differs
from esd.mpi.texts import node_names
from esd.run.provenance import PACKAGES, collect, processor, version


def compare(comm: Communicator, canary: Canary, allow_drift: bool) -> None:
    """Make sure that all ranks compute the same.

    Raises:
        RunError: naming the ranks and nodes that differ from rank 0 and what else differs, unless drift is allowed.
    """
    values = gather(comm, int(canary.evaluator, 16), "comparing canaries")
    different = np.flatnonzero(values != values[0])
    if different.size and not allow_drift:
        names = node_names(comm)
        nodes = ", ".join(dict.fromkeys(names[rank] for rank in different))
        ranks = ", ".join(str(rank) for rank in different[:8])
        raise RunError(
            f"{different.size} of {comm.size} ranks compute other bits than rank 0 (ranks {ranks}, on "
            f"{shortened(nodes, 200)}): {_why(comm)}, or accept it with run.allow_drift = true"
        )


def _why(comm: Communicator) -> str:
    """What else differs between the ranks, and what to do; all of them ask."""
    modules = {name: module["sha256"] for name, module in collect(comm.size)["modules"].items()}
    if differs(comm, repr(modules)):
        return "your modules (of environments, policies, …) differ between ranks. Use the same files on all of them"
    if found := differences(comm, what_bits_depend_on()):
        return f"{found}. Use machines of the same kind with the same versions"
    return (
        "their modules, package versions and processors are the same, so the environment, the policy or the "
        "objective depends on the rank, the time or the process (esd doctor checks this). Make it depend only on "
        "its seed"
    )


def what_bits_depend_on() -> dict[str, str]:
    """Versions and the processor of this machine: by them nodes may compute other bits."""
    packages = [name for name in PACKAGES if name not in ("mpi4py", "safetensors")]
    return {
        "Python": platform.python_version(),
        **{name: version(name) or "none" for name in packages},
        "the C library": " ".join(platform.libc_ver()),
        "the processor": processor(),
    }
