"""A run that was trained once, for all tests that export it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.configs import small
from tests.helpers.training import trained


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run with normalized observations, whose best checkpoint is not its last."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    settings = ("env.normalize_observations=true", "policy.hidden=[5]", "es.optimizer=adam")
    trained(small("cartpole", *settings, max_steps=40), folder)
    return folder
