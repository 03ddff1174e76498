"""What all tests share."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from esd import watch
from esd.mpi import session_folders

# Box2D's wrapper warns while it is imported, and dies if the warning is an error
with warnings.catch_warnings(), contextlib.suppress(ImportError):
    warnings.simplefilter("ignore", DeprecationWarning)
    import Box2D  # noqa: F401

# how long an example takes says something of the machine, not of the code
hypothesis.settings.register_profile(
    "esd", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("esd")


@pytest.fixture(autouse=True)
def _importable_user_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests start processes in empty folders: there, too, ``tests.helpers`` and this ``esd_envs`` are found."""
    repository = Path(__file__).parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{repository}{os.pathsep}{repository / 'envs'}")
    # a test's working directory, which esd has put there, has modules whose namesakes the next test means
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """Launchers that tests have killed, or their process ids, are in no other test's way, and no watch is left on."""
    session_folders.sweep()
    before = watch.WATCH.runs
    yield
    if watch.WATCH.runs and not before:  # as a command does that ends with its process
        watch.stop()


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What esd remembers of the runs that tests create is not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ESD_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.delenv("ESD_TRUST", raising=False)
        yield


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Groups of tests that share something costly must be what pytest-xdist sees of them: a suffix of their names."""
    if hasattr(config, "workerinput") and config.getvalue("loadgroup"):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(
                    f"this pytest {pytest.__version__} hides xdist_group of {item.nodeid} from pytest-xdist: "
                    "install the versions of pyproject.toml"
                )


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """With ESD_REQUIRE_MPI_TESTS=1 a session in which no test passed has failed, however green it looks."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if os.environ.get("ESD_REQUIRE_MPI_TESTS") == "1" and not reporter.stats.get("passed"):
        print("no MPI test has run")
        session.exitstatus = 1
