"""What a run keeps of the code that it was trained with, and what is said when that has changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esd.commands.console import Quiet
from esd.config.settings import Config
from esd.mpi.comm import JobFailedError
from esd.run import provenance
from esd.run.provenance import changed_modules, collect, what_changed
from esd.run.user_modules import own_modules
from tests.helpers.configs import of_table
from tests.helpers.training import trained

NETWORK = """
import numpy as np
from own_helpers import GAIN
from esd.evolution.layout import Layout

class Own:
    squashed = False

    def __init__(self, interface):
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})

    def initial_parameters(self, seed):
        return np.random.default_rng(seed).standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters):
        self.w = self.layout.unpack(parameters)["w"].copy()

    def reset(self, seed):
        self.steps = 0

    def act(self, observation):
        self.steps += 1
        return GAIN * (observation @ self.w) if self.steps < 200 else -observation @ self.w
"""
HELPERS = "import numpy as np\nGAIN = np.float32(1.0)\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with modules of a user's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_networks.py").write_text(NETWORK)
    (tmp_path / "own_helpers.py").write_text(HELPERS)
    yield tmp_path
    forget()


def forget() -> None:
    """As a new process begins."""
    for name in ("own_networks", "own_helpers"):
        sys.modules.pop(name, None)


def config(generations: int) -> Config:
    """A run with a policy of one's own, a few steps per episode."""
    return of_table(
        env={"id": "CartPole-v1", "max_steps": 10},
        policy={"kind": "own_networks:Own"},
        population=4,
        generations=generations,
        run={"center_every": 0},
    )


def resumed(place: Path) -> str:
    """What resuming the run says, as an error or by notes."""
    shutil.rmtree(place / "__pycache__", ignore_errors=True)
    forget()
    notes: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Quiet, "note", lambda self, text: notes.append(text))
        try:
            trained(config(2), place / "run")
        except JobFailedError as failure:
            return str(failure.__cause__)
    return " ".join(notes)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_keeps_the_hashes_of_all_modules_of_the_users_own(place: Path) -> None:
    trained(config(1), place / "run")
    (call,) = json.loads((place / "run" / "provenance.json").read_text())
    for name in ("own_networks", "own_helpers"):
        assert call["modules"][name] == {
            "file": f"{name}.py",
            "sha256": sha256(place / f"{name}.py"),
        }
    for name in call["modules"]:
        assert name.partition(".")[0] not in ("esd", "esd_envs", "numpy", "gymnasium", "json")


def test_a_resume_with_other_bits_says_which_module_has_changed(place: Path) -> None:
    trained(config(1), place / "run")
    before = sha256(place / "own_helpers.py")
    (place / "own_helpers.py").write_text(HELPERS.replace("1.0", "1.5"))
    text = resumed(place)
    assert "this machine computes other bits" in text
    after = sha256(place / "own_helpers.py")
    changed = f"own_helpers.py has changed since the run was started (sha256 {before[:12]} → {after[:12]})"
    assert changed in text
    assert "own_networks.py" not in text
    assert "run.allow_drift=true" in text


def test_a_change_that_the_start_does_not_show_is_noted(place: Path) -> None:
    trained(config(1), place / "run")
    (place / "own_networks.py").write_text(NETWORK.replace("200", "300"))
    text = resumed(place)
    assert "own_networks.py has changed since the last call" in text
    assert "other bits" not in text


def test_an_unchanged_run_says_nothing(place: Path) -> None:
    trained(config(1), place / "run")
    assert "has changed" not in resumed(place)


@pytest.mark.parametrize(
    "content",
    [
        "", "[", "{}", "[1]", "null", "[{}]", '[{"modules": 3}]', '[{"modules": {"a": 3}, "packages": []}]',
        '[{"modules": {"own_helpers": {}}, "packages": {"numpy": {}}}]', None,
    ],
)  # fmt: skip
def test_a_damaged_provenance_stops_nothing_and_is_one_line(
    content: str | None, place: Path
) -> None:
    trained(config(1), place / "run")
    file = place / "run" / "provenance.json"
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    text = what_changed(file, collect(1, config(1)))
    assert text
    assert "\n" not in text
    assert len(text) < 1000


def call(**more: Any) -> dict[str, Any]:
    """A training call as provenance.json holds it."""
    known = {"machine": "x86_64", "processor": "Model 1"}
    return {"packages": {"numpy": "2.0"}, "python": "3.11.1", **known} | more


def modules(**hashes: str) -> dict[str, Any]:
    return {name: {"file": f"{name}.py", "sha256": digest} for name, digest in hashes.items()}


def test_what_differs_between_two_calls_is_listed() -> None:
    before = call(modules=modules(a="1" * 64, b="2" * 64, c="3" * 64))
    now = call(modules=modules(a="1" * 64, b="4" * 64, d="5" * 64), packages={"numpy": "2.1"})
    assert changed_modules(before, now, "then") == [
        "b.py has changed since then (sha256 222222222222 → 444444444444)",
    ]
    assert changed_modules(call(), now, "then") == []


def test_versions_and_an_unknown_cause_are_told(tmp_path: Path) -> None:
    file = tmp_path / "provenance.json"
    file.write_text(json.dumps([call(modules={}), call(python="2.7")]))
    other = call(modules={}, packages={"numpy": "2.1"}, python="3.12.0")
    assert what_changed(file, other) == "numpy 2.0 → 2.1; Python 3.11.1 → 3.12.0"
    file.write_text(json.dumps([call(modules=modules(a="1", c="3"))]))
    assert what_changed(file, call(modules=modules(a="1", d="5"))) == (
        "c.py is no longer imported; d.py was not imported then"
    )
    file.write_text(json.dumps([call(modules={})]))
    assert "neither your modules, package versions nor the processor" in what_changed(
        file, call(modules={})
    )
    file.write_text(json.dumps([call()]))
    assert "has no hashes" in what_changed(file, call(modules={}))


def test_another_processor_is_told(tmp_path: Path) -> None:
    file = tmp_path / "provenance.json"
    file.write_text(json.dumps([call(modules={})]))
    other = call(modules={}, processor="Model 2")
    assert what_changed(file, other) == "processor Model 1 → Model 2"
    old = call(modules={})
    del old["processor"]  # as esd 0.1 wrote it
    file.write_text(json.dumps([old]))
    assert "or the processor (then x86_64 on" in what_changed(file, other)
    assert what_changed(file, call(modules={}, python="3.12.0")) == (
        "Python 3.11.1 → 3.12.0; the processor then is not known"
    )


def test_the_processor_is_named_by_its_model(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: A Model 3\nmodel name\t: B\n")
    assert provenance.processor(tmp_path / "cpuinfo") == "A Model 3"
    assert provenance.processor(tmp_path / "nowhere")
    assert collect(1)["processor"] == provenance.processor()


def test_the_package_that_an_environment_comes_from_is_kept_with_its_version() -> None:
    wrapped = of_table(env={"id": "CartPole-v1", "wrappers": ["pytest:Thing"]})
    assert provenance.collect(1, wrapped)["packages"]["pytest"] == pytest.__version__


def test_files_that_cannot_be_read_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    for name, file in (("gone", "gone.py"), ("pipe", "pipe.py"), ("folder", "")):
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / file)
        monkeypatch.setitem(sys.modules, name, module)
    assert not {"gone", "pipe", "folder"} & set(own_modules())


def test_multiprocessing_s_second_name_of_the_program_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = types.ModuleType("__main__")
    program.__file__ = str(tmp_path / "program.py")
    (tmp_path / "program.py").write_text("")
    monkeypatch.setitem(sys.modules, "__mp_main__", program)
    assert "__mp_main__" not in own_modules()
