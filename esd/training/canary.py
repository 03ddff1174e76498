"""Whether all ranks compute the same."""

from __future__ import annotations

import hashlib

import numpy as np

from esd.errors import RunError
from esd.evolution.canary import Canary
from esd.mpi.comm import Communicator, gather
from esd.run.provenance import collect


def compare(comm: Communicator, canary: Canary, allow_drift: bool) -> None:
    """Make sure that all ranks compute the same.

    Raises:
        RunError: naming the ranks that differ from rank 0, unless drift is allowed.
    """
    values = gather(comm, int(canary.evaluator, 16), "comparing canaries")
    different = np.flatnonzero(values != values[0])
    if different.size and not allow_drift:
        ranks = ", ".join(str(rank) for rank in different[:8])
        raise RunError(
            f"{different.size} of {comm.size} ranks compute other bits than rank 0 (ranks {ranks}): {_why(comm)}, or "
            "accept it with run.allow_drift = true"
        )


def _why(comm: Communicator) -> str:
    """What else differs between the ranks, and what to do; all of them ask."""
    call = collect(comm.size)
    modules = {name: module["sha256"] for name, module in call["modules"].items()}
    versions = (call["packages"], call["python"])
    for what, text in (
        (
            modules,
            "their own modules (of environments, policies, …) differ. Give all of them the same files",
        ),
        (
            versions,
            "their package versions differ (esd doctor under mpirun says which). Install the same ones",
        ),
        (call["machine"], "their processors differ. Use machines of one kind"),
    ):
        number = int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:8])
        numbers = gather(comm, number, "comparing what they have loaded")
        if (numbers != numbers[0]).any():
            return text
    return (
        "their modules and package versions are the same, so the environment, the policy or the objective depends on "
        "the rank, the time or the process (esd doctor examines it), or the physics engine depends on the processor. "
        "Use machines of one kind"
    )
