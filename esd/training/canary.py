"""Whether all ranks compute the same."""

from __future__ import annotations

import numpy as np

from esd.errors import RunError
from esd.evolution.canary import Canary
from esd.mpi.comm import Communicator, gather


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
            f"{different.size} of {comm.size} ranks compute other bits than rank 0 (ranks {ranks}): their versions of "
            "the environment, the policy, the objective or a library differ, or the physics engine depends on the "
            "processor. Use machines of one kind, or accept it with run.allow_drift = true"
        )
