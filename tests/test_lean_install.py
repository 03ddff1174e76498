"""What works without torch, MuJoCo and Box2D, and what a setting says that needs one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from esd.errors import EXTRAS, MissingPackageError, missing_module
from tests.helpers.forks import run_forked
from tests.helpers.shell import REPOSITORY, TINY, environment

BLOCKED = ("torch", "mujoco", "Box2D", "pygame")
# Python imports it at its start; then a hidden module fails as one that is not installed does
HIDE = f"""
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PYTHONPATH on which the optional packages can't be imported."""
    folder = tmp_path_factory.mktemp("hidden")
    (folder / "sitecustomize.py").write_text(HIDE, "utf-8")
    return os.pathsep.join(map(str, (folder, REPOSITORY, REPOSITORY / "envs")))


def run(hidden: str, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run esd where the optional packages are missing."""
    return run_forked([*words], cwd, environment(PYTHONPATH=hidden))


@pytest.mark.parametrize("module", BLOCKED)
def test_the_packages_really_are_hidden(hidden: str, tmp_path: Path, module: str) -> None:
    (tmp_path / "my_policy.py").write_text(f"import {module}\nclass Policy: pass\n")
    done = run(hidden, tmp_path, "train", *TINY, "--set=policy.kind=my_policy:Policy")
    assert done.returncode == 2
    assert "needs" in done.stderr


def test_the_default_experiment_trains_and_is_evaluated(hidden: str, tmp_path: Path) -> None:
    trained = run(hidden, tmp_path, "train", *TINY, "--run=run", "--json")
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["finished"]
    evaluated = run(hidden, tmp_path, "eval", "run", "--episodes=2", "--json")
    assert evaluated.returncode == 0, evaluated.stderr


@pytest.mark.parametrize("topic", ["environments", "settings", "experiments"])
def test_everything_is_listed(hidden: str, tmp_path: Path, topic: str) -> None:
    listed = json.loads(run(hidden, tmp_path, "list", topic, "--json").stdout)[topic]
    expected = {
        "environments": {"Ant-v5", "CarRacing-v3", "esd/DamagedAnt-v0", "esd/FastCarRacing-v3"},
        "settings": {"device", "batch_members"},
        "experiments": {"halfcheetah", "car-racing"},
    }[topic]
    assert expected <= set(listed)


def test_the_doctor_notes_what_is_missing_and_finds_the_machine_fit(
    hidden: str, tmp_path: Path
) -> None:
    done = run(hidden, tmp_path, "doctor", "--json")
    assert done.returncode == 0, done.stdout
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["packages"]["state"] == "ok"
    optional = checks["optional packages"]
    assert optional["state"] == "note"
    extras = optional["text"].partition("pip install 'esd-mpi[")[2].removesuffix("]'").split(",")
    assert {"torch", "mujoco", "box2d"} <= set(extras)
    assert "PyTorch (device, batch_members and torch modules); MuJoCo (" in optional["text"]


def test_the_noise_is_compared_with_numpys(hidden: str, tmp_path: Path) -> None:
    done = run(hidden, tmp_path, "bench", "noise", "--rounds=1", "--json")
    assert done.returncode == 0, done.stderr
    assert "numpy" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["halfcheetah"], "env.id = 'HalfCheetah-v5': needs MuJoCo|mujoco"),
        (["ant-damage"], "env.id = 'esd/DamagedAnt-v0': needs MuJoCo|mujoco"),
        (["car-racing"], "env.id = 'esd/FastCarRacing-v3': needs Box2D|box2d"),
        (["--set=env.id=LunarLander-v3"], "env.id = 'LunarLander-v3': needs Box2D|box2d"),
        (["--set=env.id=CarRacing-v3"], "env.id = 'CarRacing-v3': needs Box2D|box2d"),
        (
            ['--set=env.wrappers=[{id = "esd_envs:ChangedBody"}]'],
            "env.wrappers = 'esd_envs:ChangedBody': needs MuJoCo|mujoco",
        ),
        (["--set=device=cuda"], "device = 'cuda': needs PyTorch|torch"),
        (["--set=device=auto"], "device = 'auto': needs PyTorch|torch"),
        (["--set=batch_members=4"], "batch_members = 4: needs PyTorch|torch"),
        (["--set=policy.kind=my_net:Net"], "policy.kind = 'my_net:Net': needs PyTorch|torch"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_needs_a_missing_package_says_so_in_one_line(
    hidden: str, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "my_net.py").write_text("import torch\nclass Net(torch.nn.Module): pass\n")
    done = run(hidden, tmp_path, "train", *words)
    text, extra = message.split("|")
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"esd: {text}; install it with pip install 'esd-mpi[{extra}]'\n"
    assert not (tmp_path / "runs").exists()


def test_a_missing_module_that_no_extra_brings_is_named_as_it_is(
    hidden: str, tmp_path: Path
) -> None:
    (tmp_path / "my_policy.py").write_text("import no_such_library\n")
    done = run(hidden, tmp_path, "train", "--set=policy.kind=my_policy:Policy")
    assert done.returncode == 2
    assert "no_such_library" in done.stderr
    assert "pip install" not in done.stderr


def test_a_missing_package_is_found_behind_what_it_caused() -> None:
    def failing(second: Exception, module: str) -> Exception:
        try:
            try:
                raise ModuleNotFoundError(name=module)
            except ImportError as first:
                raise second from first
        except Exception as error:
            return error

    assert missing_module(failing(RuntimeError(), "torch")) == "torch"
    assert missing_module(failing(RuntimeError(), "torch.no_such_part")) is None  # torch is there
    assert missing_module(failing(RuntimeError(), "torchvision")) is None
    assert missing_module(ImportError("libcuda.so", name="torch")) is None
    assert MissingPackageError("x = 1", "Box2D").extra == "box2d"


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ([], ""),
        (["cartpole-hidden", "--set", "seed=3"], ""),
        (["walker-damage"], "mujoco"),
        (["car-racing-quick"], "box2d"),
        (["--set=device=cuda"], "torch"),
        (["no-such-experiment"], ""),  # for esd train to say
        (["--no-such-option"], ""),
    ],
    ids=str,
)
def test_the_quickstart_finds_which_extra_to_install(
    hidden: str, tmp_path: Path, words: list[str], extra: str
) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "launch" / "missing_extra.py"), *words],
        env={**os.environ, "PYTHONPATH": hidden},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{extra}\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_quickstart_finds_the_extra_of_an_objective(hidden: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        '[objective]\nfunction = "mine:loss"\ndirection = "minimize"\nparameters.x.shape = [2]\n'
    )
    (tmp_path / "mine.py").write_text('print("imported")\nimport torch\n')
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "launch" / "missing_extra.py"), "mine.toml"],
        env={**os.environ, "PYTHONPATH": hidden},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "torch\n"), done.stderr


def project() -> dict[str, Any]:
    """The project's metadata."""
    table: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    return table["project"]  # type: ignore[no-any-return]


def test_the_base_requires_no_optional_package_and_every_extra_that_is_named_exists() -> None:
    base = " ".join(project()["dependencies"]).lower()
    extras = project()["optional-dependencies"]
    for name, (_, extra) in EXTRAS.items():
        assert name.lower() not in base
        assert extra in extras
    assert "[" not in base


def test_typed_packages_say_so() -> None:
    packages = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]
    for package in packages["build"]["targets"]["wheel"]["packages"]:
        assert (REPOSITORY / package / "py.typed").exists()
