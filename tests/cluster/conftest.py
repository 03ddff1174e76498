"""Hosts for the tests in this folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster.hosts import Cluster, missing


@pytest.fixture(scope="session")
def hosts_can_be_made() -> None:
    """Skip tests that make hosts where none can be made; with ESD_TEST_CLUSTER=1 that is a failure instead."""
    reason = missing()
    if reason and os.environ.get("ESD_TEST_CLUSTER") == "1":
        pytest.fail(
            f"ESD_TEST_CLUSTER=1, but several hosts can't be made of this machine: {reason}"
        )
    if reason:
        pytest.skip(f"several hosts can't be made of this machine: {reason}")


@pytest.fixture(scope="session")
def two_hosts(
    hosts_can_be_made: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """Two hosts on one switch. A test that breaks one makes its own ``Cluster``, in a fraction of a second."""
    with Cluster(tmp_path_factory.mktemp("hosts")) as cluster:
        yield cluster
