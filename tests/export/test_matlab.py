"""A real GNU Octave rebuilds the matrices from h and takes our ten steps; SciPy reads the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import esd
from esd.errors import MissingPackageError
from esd.export import matlab
from tests.helpers.configs import objective
from tests.helpers.exported import subject_of
from tests.helpers.training import trained

scipy_io = pytest.importorskip("scipy.io", reason="needs SciPy: pip install 'esd-mpi[mat]'")
OCTAVE = shutil.which("octave-cli") or shutil.which("octave")
PENDULUM = {"id": "Pendulum-v1", "normalize_observations": True}
ORDERS = ("C", "F")


def write(path: Path, order: str) -> Any:
    policy = {"hidden": [6, 5], "rate": 0.5, "order": order}
    subject = subject_of(policy, PENDULUM, seed=3)
    matlab.write(path, subject, print)
    return subject


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Octave prints for a file of each order, by the program of docs/export.md."""
    if OCTAVE is None:
        pytest.skip("needs GNU Octave: apt-get install --no-install-recommends octave")
    page = (Path(__file__).parents[2] / "docs/export.md").read_text("utf-8")
    (program,) = re.findall(r"```octave\n(.*?)```", page, re.DOTALL)
    folder = tmp_path_factory.mktemp("octave")
    script = ""
    for order in ORDERS:
        write(folder / f"{order}.mat", order)
        script += program.replace("load policy.mat", f"clear all\nload {order}.mat") + (
            "fprintf('h has %d rows, layer1_A differs by %g\\n', rows(h), "
            "max(abs(M.layer1_A(:) - double(layer1_A(:)))));\n"
        )
    (folder / "program.m").write_text(script)
    done = subprocess.run(
        [OCTAVE, "--norc", "--no-history", "program.m"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_octave_gets_our_ten_steps_in_both_orders(printed: str) -> None:
    errors = [float(number) for number in re.findall(r"largest error: (\S+)", printed)]
    assert len(errors) == 2
    assert 0.0 < max(errors) < 1e-5


def test_octave_rebuilds_the_named_matrices_from_h(printed: str) -> None:
    assert (
        re.findall(r"h has (\d+) rows, layer1_A differs by (\S+)", printed)
        == [(str(5 * (3 * 6 + 6 * 5 + 5)), "0")] * 2
    )


@pytest.mark.parametrize("order", ORDERS)
def test_scipy_reads_h_its_matrices_and_the_example(order: str, tmp_path: Path) -> None:
    subject = write(tmp_path / "policy.mat", order)
    found = scipy_io.loadmat(tmp_path / "policy.mat", simplify_cells=True)
    assert np.array_equal(found["h"], subject.state.h)
    arrays = subject.layout.unpack(subject.state.h)
    assert np.array_equal(found["layer0_eta"], arrays["layer0.eta"])
    part = found["layout"]["parts"][7]
    assert (part["name"], part["variable"]) == ("layer1.C", "layer1_C")
    values = found["h"][int(part["first"]) - 1 : int(part["last"])]
    shape = part["shape"].astype(int)
    assert np.array_equal(values.reshape(shape, order=order), arrays["layer1.C"])
    assert np.allclose(found["normalizer"]["mean"], subject.scale[0])
    assert json.loads(found["config"])["policy"]["order"] == order
    assert found["example"]["observations"].shape == (10, 3)


def test_every_kind_of_policy_has_a_file_and_names_that_matlab_takes(tmp_path: Path) -> None:
    for policy in (
        {"kind": "gru", "units": 3, "head": "ABCD_lr"},
        {"kind": "reformer", "width": 4, "head_size": 2, "heads": 2},
        {"kind": "static", "hidden": [3]},
    ):
        subject = subject_of(policy, {"id": "CartPole-v1"})
        matlab.write(tmp_path / "policy.mat", subject, print)
        found = scipy_io.loadmat(tmp_path / "policy.mat", simplify_cells=True)
        parts = found["layout"]["parts"]
        names = [part["variable"] for part in (parts if isinstance(parts, list) else [*parts])]
        assert all(re.fullmatch(r"[A-Za-z]\w{0,30}", name) for name in names)
        assert len({*names}) == len(subject.layout.shapes)
        assert sum(found[name].size for name in names) == found["h"].size
    names_of = matlab._names(["h", "a.b", "a_b", "é" * 40, "1x", "layout"])
    assert len({*names_of.values()}) == 6
    assert not {*names_of.values()} & {*matlab.RESERVED}


@pytest.fixture
def of_an_objective(tmp_path: Path) -> tuple[Path, esd.Run]:
    """The file of an objective whose parameters have all numbers of axes, and bounds that h leaves, and its run."""
    config = objective(
        "tests.helpers.user_functions:constant",
        number={"initial": 3.0, "low": 1.0, "high": 5.0},
        column={"shape": [3], "initial": 0.5},
        cube={"shape": [2, 3, 4], "initial": 0.5},
    )
    trained(config, tmp_path / "run")
    run = esd.Run(tmp_path / "run")
    run.export(tmp_path / "policy.mat", checkpoint="last")
    return tmp_path / "policy.mat", run


def test_the_parameters_of_an_objective_are_those_of_its_function(
    of_an_objective: tuple[Path, esd.Run],
) -> None:
    path, run = of_an_objective
    found = scipy_io.loadmat(path, simplify_cells=True)["parameters"]
    for name, expected in run.parameters().items():
        np.testing.assert_array_equal(found[name], expected)


def test_octave_rebuilds_arrays_of_any_number_of_axes(
    of_an_objective: tuple[Path, esd.Run],
) -> None:
    if OCTAVE is None:
        pytest.skip("needs GNU Octave: apt-get install --no-install-recommends octave")
    path, _ = of_an_objective
    page = (Path(__file__).parents[2] / "docs/export.md").read_text("utf-8")
    (program,) = re.findall(r"```octave\n(.*?)```", page, re.DOTALL)
    rebuild = program.partition("\nW = ")[0]
    checks = "".join(
        f"printf('%d', isequal(M.{name}, double({name})));\n"
        for name in ("number", "column", "cube")
    )
    (path.parent / "program.m").write_text(f"{rebuild}\n{checks}")
    done = subprocess.run(
        [OCTAVE, "--norc", "--no-history", "program.m"],
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "111"), done.stderr


def test_without_scipy_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of({"kind": "static", "hidden": [3]}, {"id": "CartPole-v1"})
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'esd-mpi\[mat\]'"):
        matlab.write(tmp_path / "policy.mat", subject, print)
