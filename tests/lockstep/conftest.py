"""Where the tests of lock-step run: on torch's CPU device, and on a GPU where there is one."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", params=["cpu", *(["cuda"] * torch.cuda.is_available())])
def device(request: pytest.FixtureRequest) -> torch.device:
    """A device that is here."""
    return torch.device(request.param)
