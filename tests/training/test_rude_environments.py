"""An environment may change the directory, umask, numpy's errors, stdout and signal handlers: a run is what it was."""

from __future__ import annotations

import os
import signal
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.classic_control import CartPoleEnv

from esd.api.training import train
from esd.config.plugins import import_name
from esd.run.files import absolute
from esd.training.process_state import kept_process_state
from esd.training.stop import StoppedAtStartError, StopRequest
from tests.helpers.configs import small
from tests.helpers.rude import RudeCartPole
from tests.helpers.training import trained

RUDE = 'env.id="tests.helpers.rude:Rude-v0"'


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside the working directory."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "elsewhere"


def test_what_code_changes_of_the_process_is_put_back(elsewhere: Path) -> None:
    def snapshot() -> tuple[object, ...]:
        umask = os.umask(0)
        os.umask(umask)
        return Path.cwd(), umask, np.geterr(), sys.stdout, sys.stderr

    def change_and_fail() -> None:
        os.chdir(elsewhere)
        os.umask(0o123)
        np.seterr(all="raise")
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        raise ZeroDivisionError

    before = snapshot()
    with pytest.raises(ZeroDivisionError), kept_process_state():
        change_and_fail()
    assert snapshot() == before


def test_an_exit_in_the_users_code_is_one_of_theirs_and_not_ours() -> None:
    with pytest.raises(SystemExit, match=r"os\._exit\(0\)"), kept_process_state():
        os._exit(0)
    with kept_process_state():
        child = os.fork()
        if child == 0:
            os._exit(7)  # a child's exit is its own
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    child = os.fork()
    if child == 0:
        os._exit(5)  # as before
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5


def test_a_relative_run_is_found_again_although_its_environment_changes_the_directory(
    elsewhere: Path,
) -> None:
    config = small("cartpole", RUDE, f"env.kwargs={{where = {str(elsewhere)!r}}}")
    stop = StopRequest()
    with stop.listening():
        first = trained(config, Path("run"), stop=stop)
    assert (first.finished, Path.cwd()) == (True, elsewhere.parent / "here")
    assert not [*elsewhere.iterdir()]
    files = [path for path in Path("run").rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & stat.S_IRUSR for path in files)
    assert "generation-00000005.safetensors" in {path.name for path in files}
    again = trained(config, Path("run"))
    assert again.state.h_sha256() == first.state.h_sha256()
    gentle = small("cartpole", "env.max_steps=60", "env.kwargs={}")
    assert trained(gentle, Path("gentle")).state.h_sha256() == first.state.h_sha256()


def test_relative_paths_in_a_config_mean_the_same_in_every_episode_and_variant(
    elsewhere: Path,
) -> None:
    Path("track.txt").write_text("straight on")
    kwargs = f"{{where = {str(elsewhere)!r}, reads = 'track.txt'}}"
    bodies = 'env.variants=[{name = "a"}, {name = "b"}]'
    config = small("cartpole", RUDE, f"env.kwargs={kwargs}", bodies, "env.rebuild=always")
    assert trained(config, Path("run")).finished


def test_the_python_api_finds_the_run_again_too(elsewhere: Path) -> None:
    settings = {
        "population": 6,
        "env": {"id": "tests.helpers.rude:Rude-v0", "kwargs": {"where": str(elsewhere)}},
    }
    run = train(run="run", generations=2, settings=settings, verbose=False)
    assert run.finished
    os.chdir(elsewhere)
    assert run.generation == 2  # esd.Run keeps its place
    os.chdir(elsewhere.parent / "here")
    again = train(run="run", generations=2, settings=settings, verbose=False)
    np.testing.assert_array_equal(again.h(), run.h())
    assert not [*elsewhere.iterdir()]


def test_a_signal_at_the_start_that_the_environment_takes_stops_before_anything_is_written(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(environment: RudeCartPole, **how: object) -> object:
        environment.be_rude()
        os.kill(os.getpid(), signal.SIGTERM)
        return CartPoleEnv.reset(environment)

    monkeypatch.setattr(RudeCartPole, "reset", reset)
    config = small(
        "cartpole", RUDE, f"env.kwargs={{where = {str(elsewhere)!r}}}", "run.allow_drift=true"
    )
    stop = StopRequest()
    with stop.listening(), pytest.raises(StoppedAtStartError):  # the canary plays episodes
        trained(config, Path("run"), stop=stop)
    assert stop.number == signal.SIGTERM
    assert not Path("run").exists()


def test_a_signal_during_a_generation_that_the_environment_takes_ends_the_run_after_it(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resets = []

    def reset(environment: RudeCartPole, **how: object) -> object:
        environment.be_rude()
        resets.append(how)
        if Path(elsewhere.parent / "here" / "run" / "journal.bin").exists():  # training has begun
            os.kill(os.getpid(), signal.SIGUSR1)
        return CartPoleEnv.reset(environment, **how)

    monkeypatch.setattr(RudeCartPole, "reset", reset)
    config = small("cartpole", RUDE, f"env.kwargs={{where = {str(elsewhere)!r}}}")
    stop = StopRequest()
    with stop.listening():
        ending = trained(config, Path("run"), stop=stop)
    assert (ending.reason, ending.state.generation) == ("signal", 1)


def test_a_module_that_changes_the_directory_while_it_is_imported_moves_nothing(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("moving_module.py").write_text(f"import os\nos.chdir({str(elsewhere)!r})\nthing = 1\n")
    monkeypatch.syspath_prepend(Path.cwd())
    before = Path.cwd()
    assert import_name("moving_module:thing", "test") == 1
    assert Path.cwd() == before


def test_a_path_below_a_removed_directory_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(
        Exception, match="run: is relative to a working directory that no longer exists"
    ):
        absolute(Path("run"))
