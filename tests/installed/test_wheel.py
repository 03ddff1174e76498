"""A wheel in an empty environment, outside of the repository: every shipped experiment, other Pythons, other MPIs.

ESD_TEST_INSTALLED=1 asks for these tests. Two further environments pair another Python with another MPI and one end of
the declared range of numpy, numba and Gymnasium; a Python that is not there is replaced by this one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.configs import OBJECTIVES, WORLDS
from tests.helpers.experiment_hashes import EXPECTED
from tests.helpers.shell import MPIRUN, REPOSITORY, TINY, command, environment, esd, messages
from tests.installed.environments import Environment, find_python, make_wheel, require_asked

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("installed")]

# what plays these may compute other bits with another version or processor; all else is our own arithmetic
ENGINES = ("ant", "car-racing", "cheetah", "halfcheetah", "walker")
EXPERIMENTS = """
import hashlib, json, sys
import esd
from esd.config.experiment_files import experiment_names, read_experiment

found = {}
for name in sys.argv[1:]:
    small = {"population": 8, "run.center_every": 0}
    if "objective" not in read_experiment(name)[1]:
        small["env.max_steps"] = 60
    run = esd.train(name, run=f"runs/{name}", generations=3, settings=small, verbose=False)
    assert run.finished, name
    found[name] = hashlib.sha256(run.h().tobytes()).hexdigest()
json.dump([experiment_names(), found], sys.stdout)
"""
# Python, MPI and versions; an empty version is the newest
OTHERS = {
    "MPICH": ("3.12", "mpich", ("numpy==2.0.*", "numba==0.61.*", "gymnasium==1.1.*")),
    "Intel": ("3.13", "impi-rt", ("numpy", "numba", "gymnasium")),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    require_asked()
    return make_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def h_here(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of h that a training has here."""
    done = esd("train", *TINY, "--json", cwd=tmp_path_factory.mktemp("here"))
    return str(json.loads(done.stdout)["h_sha256"])


@pytest.fixture(scope="module", params=OTHERS)
def other(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Environment]:
    """The name of another MPI, and an environment with it."""
    version, mpi, packages = OTHERS[request.param]
    python = find_python(version) or find_python("3.11") or ""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, Environment.made(folder / "venv", python, [str(wheel), mpi, *packages])


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_a_python_that_is_claimed_is_there_to_be_tested(version: str) -> None:
    require_asked()
    if find_python(version) is None:
        pytest.skip(f"no Python {version} here; the tests run with another one instead")


def test_experiments_of_every_world_train_from_the_wheel_to_the_h_of_the_repository(
    wheel: Path, tmp_path: Path
) -> None:
    """With MuJoCo and Box2D; no experiment needs torch. All are shipped; two of a world differ in settings only."""
    python = find_python("3.11") or find_python("3.12") or find_python("3.13") or ""
    made = Environment.made(tmp_path / "venv", python, [f"{wheel}[box2d,mujoco]"])
    assert "torch" not in made.versions(tmp_path)
    compiled = ("env", f"XDG_CACHE_HOME={kernels_of_the_repository(tmp_path / 'cache')}")
    trained = (*WORLDS, *OBJECTIVES)
    done = made.run(*compiled, made.program("python"), "-c", EXPERIMENTS, *trained, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    shipped, found = json.loads(done.stdout)
    expected = json.loads(EXPECTED.read_text())["h"]
    assert shipped == sorted(expected)
    own = {name: expected[name] for name in trained if not name.startswith(ENGINES)}
    assert len(own) > 10
    assert {name: found[name] for name in own} == own


def kernels_of_the_repository(folder: Path) -> Path:
    """A cache with what tests have compiled here: its folders are named by sources, processor and compiler."""
    (folder / "esd").mkdir(parents=True)
    for place in (REPOSITORY / "esd", REPOSITORY / "envs"):
        for compiled in place.rglob("__pycache__/kernels-*"):
            (folder / "esd" / compiled.name).symlink_to(compiled)
    return folder


def test_h_is_the_same_with_another_mpi_python_and_numpy(
    other: tuple[str, Environment], h_here: str, tmp_path: Path
) -> None:
    """Alone, on two ranks under its own mpirun, and under esd launch."""
    name, made = other
    program, mpirun = made.program("esd"), made.program("mpirun")
    words = ("train", *TINY, "--json", "--run")
    for number, start in enumerate(
        ([program], [mpirun, "-n", "2", program], [program, "launch", "-n", "2"])
    ):
        done = made.run(*start, *words, f"runs/{number}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["h_sha256"] == h_here
    provenance = json.loads((tmp_path / "runs" / "1" / "provenance.json").read_text())
    assert name in json.dumps(provenance)


def test_the_doctor_is_content_with_another_mpi_and_names_a_launcher_that_is_not_its(
    other: tuple[str, Environment], tmp_path: Path
) -> None:
    name, made = other
    done = made.run(made.program("esd"), "doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert name in checks["MPI library"]["text"]
    assert checks["mpirun"]["state"] == "ok"
    assert checks["lost ranks"]["state"] == "note"
    assert MPIRUN is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mpirun").symlink_to(MPIRUN)
    ours_first = ("env", f"PATH={tmp_path / 'bin'}:/usr/bin:/bin")
    done = made.run(*ours_first, made.program("esd"), "doctor", "--json", cwd=tmp_path)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert (done.returncode, checks["mpirun"]["state"]) == (1, "FAILED")
    assert "is a launcher of Open MPI, but" in checks["mpirun"]["text"]


def test_a_launcher_of_another_kind_is_refused_in_one_line(
    other: tuple[str, Environment], tmp_path: Path
) -> None:
    """Ours with their library, and theirs with ours: each rank would train alone, into one folder."""
    _, made = other
    ours, theirs = command("train", *TINY, ranks=2), [made.program("esd"), "train", *TINY]
    mpirun, esd_here = ours[: ours.index("2") + 1], ours[ours.index("2") + 1 :]
    with_path = ("env", f"PYTHONPATH={environment()['PYTHONPATH']}")
    for words in (
        [*mpirun, *theirs],
        [made.program("mpirun"), "-n", "2", *with_path, *esd_here],
    ):
        for _ in range(
            3
        ):  # a launcher was seen to lose once what a rank had said right before its end
            done = made.run(*words, cwd=tmp_path)
            assert done.returncode == 2, done.stdout + done.stderr
            lines = list(messages(done.stderr.splitlines()))
            if lines:
                break
        assert len(lines) == 1, done.stdout + done.stderr
        assert "they do not work together" in lines[0]
        assert "suspicious" not in done.stderr
        assert not (tmp_path / "runs").exists()
