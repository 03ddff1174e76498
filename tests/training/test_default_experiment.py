"""The default experiment learns, also with a seed whose members all drop the pole at once for the first generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.config.experiment_files import read_experiment
from esd.config.tables import apply_settings, parse
from tests.helpers.training import trained


# with σ = 0.1 the first of them never leaves the plateau at a return of 15
@pytest.mark.parametrize("seed", [4, 6])
def test_the_center_holds_the_pole(seed: int, tmp_path: Path) -> None:
    """All of the seeds 0 to 19: python -m benchmarks.default_experiment."""
    _, table = read_experiment("cartpole")
    config = parse(apply_settings(table, [f"seed={seed}"]), "cartpole")
    ending = trained(config, tmp_path / "run")
    assert ending.reason == "target_return"
    assert ending.state.generation <= 15
