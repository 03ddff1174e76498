"""Hosts for the tests in this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.hosts import Cluster, missing


@pytest.fixture(scope="session")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two hosts on one switch; with ESD_TEST_CLUSTER=1 whatever keeps them from being made is a failure.

    A test that breaks one for good makes its own ``Cluster``, which takes a fraction of a second.
    """
    reason = missing()
    if reason and os.environ.get("ESD_TEST_CLUSTER") == "1":
        pytest.fail(f"ESD_TEST_CLUSTER=1, but two hosts on this machine: {reason}")
    if reason:
        pytest.skip(f"two hosts on this machine: {reason}")
    with Cluster(tmp_path_factory.mktemp("hosts")) as cluster:
        yield cluster
