"""What a run's settings name is imported only if it is of an installed package, or the run was created here."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from esd.config.identity import identity
from esd.config.installed import installed_folders, is_installed, place_of
from esd.config.kinds import POLICIES
from esd.config.references import Reference, references_in
from esd.config.settings import Config
from esd.config.tables import parse, to_table
from esd.errors import UntrustedError, UsageError
from esd.evaluation.groups import read_groups
from esd.mpi.comm import Alone, JobFailedError
from esd.run import made_here
from esd.run.folder import RunFolder
from esd.run.trust import Trust, remember
from esd.training.plan import TrainRequest, make_plan
from esd.training.trusted import trusted_run
from tests.helpers.written_runs import evaluation, written

NUMBERS = itertools.count()
MODULE = """
import pathlib
pathlib.Path({marker!r}).write_text("imported")

from dataclasses import dataclass
import gymnasium
from esd.config.fields import setting
from esd.evolution.openai_es import OPENAI_ES as Algorithm


class Env(gymnasium.Env):
    pass


class Wrapper(gymnasium.Wrapper):
    pass


class Policy:
    pass


@dataclass(frozen=True)
class Optimizer:
    rate: float = setting(1.0, "a rate of its own")
    moment_names = ()

    def initial_scalars(self):
        return {{}}

    def step(self, ascent):
        return {{}}


def function(x):
    return 0.0
"""
OBJECTIVE = {"direction": "minimize", "parameters": {"x": {"shape": [2], "initial": 1.0}}}
KINDS: dict[str, dict[str, Any]] = {
    "env.id": {"env": {"id": "MODULE:Env"}},
    "env.variants.id": {"env": {"variants": [{"name": "a", "id": "MODULE:Env"}]}},
    "env.wrappers.id": {"env": {"wrappers": ["MODULE:Wrapper"]}},
    "env.variants.wrappers.id": {"env": {"variants": [{"name": "a", "wrappers": [{"id": "MODULE:Wrapper"}]}]}},
    "policy.kind": {"policy": {"kind": "MODULE:Policy"}},
    "es.algorithm": {"es": {**to_table(Config())["es"], "algorithm": "MODULE:Algorithm"}},
    "es.optimizer": {"es": {"optimizer": "MODULE:Optimizer", "rate": 3.0}},
    "objective.function": {"objective": {"function": "MODULE:function", **OBJECTIVE}},
    "env.kwargs.inner": {"env": {"kwargs": {"inner": "MODULE:Env"}}},
}  # fmt: skip
RESULTS = {"a": 1.0}


def named(value: Any, module: str) -> Any:
    """Tables with a module's name in place of MODULE."""
    if isinstance(value, dict):
        return {key: named(item, module) for key, item in value.items()}
    if isinstance(value, list):
        return [named(item, module) for item in value]
    return value.replace("MODULE", module) if isinstance(value, str) else value


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module in the working directory, of a name that no other test has used."""
    name = f"planted_{next(NUMBERS)}"
    before = [*sys.path]
    monkeypatch.chdir(tmp_path)
    Path(f"{name}.py").write_text(MODULE.format(marker=str(tmp_path / "marker")))
    yield name
    sys.path[:] = before
    sys.modules.pop(name, None)


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are remembered, in a home of its own."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("ESD_STATE_HOME", raising=False)
    user = pwd.getpwuid(os.geteuid())
    fields = [*user[:5], str(home), user[6]]
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd(fields))
    return home / ".local" / "state" / "esd" / "runs"


def planted(path: Path, table: dict[str, Any]) -> RunFolder:
    """A run that somebody else has written."""
    written(path, evaluation(RESULTS), importing=False, **table)
    return RunFolder(path)


def created(folder: RunFolder) -> None:
    """Remember a run as a training does."""
    config = RunFolder(folder.path, Trust.NEVER).config()
    assert remember(folder.place, folder.journal_file, to_table(config))


def refused(folder: RunFolder) -> str:
    """The message with which a folder's settings are refused; empty if they are not."""
    try:
        RunFolder(folder.path).config()
    except UntrustedError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_no_command_imports_what_a_strangers_run_names(
    kind: str, module: str, state: Path, tmp_path: Path
) -> None:
    run = planted(tmp_path / "run-s0", named(KINDS[kind], module)).path
    calls = [
        lambda: trusted_run(Alone(), run, False),
        lambda: make_plan(TrainRequest(run=run), print),
        lambda: make_plan(TrainRequest(run=tmp_path / "new", start_from=run), print),
        lambda: make_plan(TrainRequest("cartpole", tmp_path / "new", start_from=run), print),
    ]
    for call in calls:
        with pytest.raises((UntrustedError, JobFailedError)) as caught:
            call()
        error = caught.value.__cause__ or caught.value
        text = str(error)
        assert isinstance(error, UntrustedError)
        assert error.exit_code == 2
        assert f"{run}: " in text
        assert f"{kind} = '{module}:" in text
        assert "add --trust (in Python: trust=True)" in text
        if ".kwargs." not in kind:
            assert str(tmp_path / f"{module}.py") in text
    shown = RunFolder(run, Trust.NEVER)
    assert identity(shown.config())
    assert len(shown.metrics_lines(shown.config(), pytest.fail)) == 3
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_reports_compare_runs_without_their_code(
    kind: str, module: str, state: Path, tmp_path: Path
) -> None:
    table = named(KINDS[kind], module)
    words = []
    for name in ("a", "b"):
        runs = [planted(tmp_path / f"{name}-s{seed}", table).path for seed in (0, 1)]
        words.append(f"{name}={runs[0]},{runs[1]}")
    groups = read_groups(words)
    assert [len(group.runs) for group in groups] == [2, 2]
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("kind", ["es.algorithm", "es.optimizer"])
def test_trust_lets_it_be_imported(kind: str, module: str, state: Path, tmp_path: Path) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS[kind], module))
    assert trusted_run(Alone(), folder.path, True).trust is Trust.YES
    assert (tmp_path / "marker").exists()


def test_the_environment_variable_trusts_every_run(
    module: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS["es.optimizer"], module))
    monkeypatch.setenv("ESD_TRUST", "0")
    assert refused(folder)
    monkeypatch.setenv("ESD_TRUST", "1")
    assert not refused(folder)


def test_what_the_users_own_experiment_names_needs_no_trust(
    module: str, state: Path, tmp_path: Path
) -> None:
    table = {"seed": 0, "policy": {"hidden": [6]}, **named(KINDS["es.optimizer"], module)}
    folder = planted(tmp_path / "run-s0", table)
    parsed = parse(table, "test")
    assert refused(folder)
    assert not RunFolder(folder.path, given=references_in(to_table(parsed))).config().env.kwargs
    other = RunFolder(folder.path, given=[Reference("es.optimizer", "another:Optimizer")])
    with pytest.raises(UntrustedError):
        other.config()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_was_created_here_is_trusted_and_a_copy_is_not(
    kind: str, module: str, state: Path, tmp_path: Path
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS[kind], module))
    created(folder)
    assert not refused(folder)
    shutil.copytree(folder.path, tmp_path / "copy-s0")
    assert refused(RunFolder(tmp_path / "copy-s0"))
    moved = RunFolder(folder.path.rename(tmp_path / "moved-s0"))
    assert not refused(moved)
    os.utime(moved.journal_file, (1, 1))
    moved.journal_file.chmod(0o600)
    assert not refused(moved)


def test_a_copy_in_the_place_of_a_removed_run_is_not_trusted(
    module: str, state: Path, tmp_path: Path
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS["policy.kind"], module))
    if not made_here.FileIdentity.of(folder.journal_file).born:
        pytest.skip("this file system reports no time of birth")
    created(folder)
    for _ in range(5):  # the number of the removed journal is soon given to another file
        shutil.copytree(folder.path, tmp_path / "backup")
        shutil.rmtree(folder.path)
        shutil.copytree(tmp_path / "backup", folder.path)
        shutil.rmtree(tmp_path / "backup")
        assert refused(folder)


def test_a_namesake_in_another_folder_is_not_trusted(
    module: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS["policy.kind"], module))
    created(folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Path(f"{module}.py").write_text("raise SystemExit")
    assert str(tmp_path / "elsewhere" / f"{module}.py") in refused(folder)


@pytest.mark.parametrize("kind", [k for k in KINDS if "kwargs" not in k])
def test_a_run_of_ones_own_says_where_its_module_lies_if_that_is_not_found_from_here(
    kind: str, module: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planted(tmp_path / "runs" / "run-s0", named(KINDS[kind], module))
    created(folder)
    shutil.copytree(folder.path, tmp_path / "elsewhere" / "copy-s0")
    monkeypatch.chdir(tmp_path / "elsewhere")
    sys.path[:] = [path for path in sys.path if path != str(tmp_path)]
    said = refused(folder)
    assert f"module {module!r} is not found from {tmp_path / 'elsewhere'}" in said
    assert f"{module}.py lies in {tmp_path}: run the command there" in said
    assert "--trust" not in said
    assert "--trust" in refused(RunFolder(Path("copy-s0")))
    Path(tmp_path / f"{module}.py").unlink()
    assert f"run the command in the folder that holds {module}.py" in refused(folder)


def test_what_is_written_into_a_trusted_run_later_is_not_trusted(
    module: str, state: Path, tmp_path: Path
) -> None:
    folder = planted(tmp_path / "run-s0", {})
    created(folder)
    text = folder.config_file.read_text()
    assert not refused(folder)
    folder.config_file.write_text(text.replace('id = "CartPole-v1"', f'id = "{module}:Env"'))
    assert f"env.id = '{module}:Env'" in refused(folder)


def test_a_run_is_remembered_where_home_is_not_set(
    module: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS["policy.kind"], module))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    created(folder)
    assert [path.name for path in (tmp_path / "state/esd/runs").iterdir()] == os.listdir(state)  # noqa: PTH208
    monkeypatch.delenv("XDG_STATE_HOME")
    assert not refused(folder)
    monkeypatch.delenv("HOME")
    assert not refused(folder)
    monkeypatch.setattr(made_here.pwd, "getpwuid", dict[int, Any]().__getitem__)
    assert refused(folder)  # nobody knows this user's home


def test_a_folder_for_state_may_be_named(
    module: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS["policy.kind"], module))
    monkeypatch.setenv("ESD_STATE_HOME", str(tmp_path / "own"))
    created(folder)
    assert not refused(folder)
    assert len([*(tmp_path / "own" / "runs").iterdir()]) == 1
    assert not state.exists()
    monkeypatch.delenv("ESD_STATE_HOME")
    assert refused(folder)


def test_a_state_folder_that_others_can_write_is_not_believed(
    module: str, state: Path, tmp_path: Path
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS["policy.kind"], module))
    created(folder)
    state.chmod(0o770)
    assert refused(folder)
    state.chmod(0o700)
    assert not refused(folder)
    record = next(state.iterdir())
    record.rename(state / "elsewhere")
    record.symlink_to(state / "elsewhere")
    assert refused(folder)


def test_a_time_of_birth_that_is_not_known_is_not_compared() -> None:
    here, without = made_here.FileIdentity(0x123, 456), made_here.FileIdentity(0x123, 0)
    assert here.may_be(here.name)
    assert here.may_be(without.name)
    assert without.may_be(here.name)
    assert not here.may_be(made_here.FileIdentity(0x123, 457).name)
    assert not without.may_be(made_here.FileIdentity(0x124, 0).name)
    assert not here.may_be("nonsense")


def test_the_time_of_birth_is_what_stat_says(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    born = made_here.FileIdentity.of(path).born
    if not born:
        pytest.skip("this file system reports no time of birth")
    assert abs(born - path.stat().st_ctime_ns) < 10**9
    os.utime(path, ns=(1, 1))
    path.rename(tmp_path / "other")
    assert made_here.FileIdentity.of(tmp_path / "other").born == born


def test_the_runs_that_were_trained_last_are_remembered(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made_here, "MOST_RECORDS", 2)
    files = [tmp_path / name for name in "abc"]
    for number, file in enumerate(files):
        file.touch()
        assert made_here.remember(file, [["env.id", "m:E", "/"]], tmp_path)
        os.utime(state / made_here.FileIdentity.of(file).name, (number, number))
    assert [bool(made_here.remembered(file)) for file in files] == [False, True, True]


NOT_OF_THEIR_KIND: list[dict[str, Any]] = [
    {"env": {"id": "subprocess:Popen", "kwargs": {"args": ["touch", "marker"]}}},
    {"env": {"id": "gymnasium:make", "kwargs": {"id": "planted:Env"}}},
    {"env": {"wrappers": ["os:system"]}},
    {"env": {"wrappers": [{"id": "gymnasium:make"}]}},
    {"policy": {"kind": "subprocess:Popen"}},
    {"policy": {"kind": "numpy:load"}},
    {"es": {"algorithm": "antigravity:fly"}},
    {"es": {"optimizer": "numpy:save"}},
    {"objective": {"function": "shutil:rmtree", **OBJECTIVE}},
    {"objective": {"function": "numpy:save", **OBJECTIVE}},
]


@pytest.mark.parametrize("table", NOT_OF_THEIR_KIND, ids=str)
def test_a_stranger_does_not_choose_which_function_is_called(
    table: dict[str, Any], state: Path, tmp_path: Path
) -> None:
    assert "antigravity" not in sys.modules
    assert "add --trust" in refused(planted(tmp_path / "run-s0", table))
    assert "antigravity" not in sys.modules


OF_INSTALLED_PACKAGES: list[dict[str, Any]] = [
    {},
    {"env": {"id": "esd/DamagedAnt-v0"}},
    {"env": {"id": "esd_envs:esd/DamagedAnt-v0"}},
    {"env": {"id": "gymnasium.envs.classic_control:CartPoleEnv", "max_steps": 9}},
    {"env": {"wrappers": ["esd_envs:ZeroAction", "gymnasium.wrappers:FlattenObservation"]}},
    {"env": {"kwargs": {"render_mode": "rgb_array", "inner": "esd/HiddenCartPole-v0"}}},
    {"policy": {"kind": "gru"}},
    {"es": {"algorithm": "snes"}},
    {"es": {"optimizer": "adam"}},
    {"es": {"optimizer": "esd.evolution.optimizers:Adam"}},
    {"objective": {"function": "sphere", **OBJECTIVE}},
]


@pytest.mark.parametrize("table", OF_INSTALLED_PACKAGES, ids=str)
def test_what_packages_have_for_a_setting_needs_no_trust(
    table: dict[str, Any], state: Path, tmp_path: Path
) -> None:
    assert not refused(planted(tmp_path / "run-s0", table))


PATHS = ["/etc/passwd", "../model.xml", "~/x.pt", "..", "C:\\x", "https://a.b/c", "there.xml"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "place", ["env.kwargs", "env.reset_options", "env.wrappers", "objective.kwargs"]
)
def test_a_path_in_the_settings_needs_trust(
    path: str, place: str, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.xml").touch()
    given = {"deep": [{"world": path}]}
    tables: dict[str, dict[str, Any]] = {
        "env.kwargs": {"env": {"kwargs": given}},
        "env.reset_options": {"env": {"reset_options": given}},
        "env.wrappers": {"env": {"wrappers": [{"id": "esd_envs:ZeroAction", "kwargs": given}]}},
        "objective.kwargs": {"objective": {"function": "sphere", "kwargs": given, **OBJECTIVE}},
    }
    folder = planted(tmp_path / "run-s0", tables[place])
    assert "may name a file or a module" in refused(folder)
    created(folder)
    assert not refused(folder)


def test_an_argument_that_is_called_a_file_needs_trust(state: Path, tmp_path: Path) -> None:
    recorder = {"id": "gymnasium.wrappers:RecordVideo", "kwargs": {"video_folder": "x"}}
    folder = planted(tmp_path / "run-s0", {"env": {"wrappers": [recorder]}})
    assert "video_folder" in refused(folder)


def test_a_message_is_one_line_whatever_the_settings_hold(state: Path, tmp_path: Path) -> None:
    wrappers = [{"id": f"evil{n}\n\x1b[2J:{'x' * 5000}"} for n in range(50)]
    text = refused(planted(tmp_path / "run-s0", {"env": {"wrappers": wrappers}}))
    assert len(text) <= 1000
    assert text.isprintable()
    assert "and 47 more" in text


@pytest.mark.parametrize("kind", ["es.algorithm", "es.optimizer", "policy.kind"])
def test_what_takes_code_to_be_rebuilt_is_not_shown(
    kind: str, module: str, state: Path, tmp_path: Path
) -> None:
    folder = planted(tmp_path / "run-s0", named(KINDS[kind], module))
    created(folder)  # even then
    shown = RunFolder(folder.path, Trust.NEVER)
    config = shown.config()
    with pytest.raises(UntrustedError, match="this command never imports"):
        shown.last_state(config, pytest.fail)
    with pytest.raises(UntrustedError, match="this command never imports"):
        shown.state_at(1, config, shown.journal(config))
    assert not (tmp_path / "marker").exists()


def test_settings_read_without_their_class_are_the_same(module: str) -> None:
    for kind in ("es.algorithm", "es.optimizer"):
        table = to_table(parse(named(KINDS[kind], module), "test"))
        unimported = parse(table, "test", importing=False)
        assert to_table(unimported) == table
        assert identity(unimported) == identity(parse(table, "test"))


@pytest.mark.parametrize(
    "table",
    [
        {"policy": {"kind": "of_a_package", "keep": 0.5}},
        {"es": {"algorithm": "of_a_package", "parents": 3}},
        {"es": {"optimizer": "of_a_package", "lion_beta2": 0.5}},
    ],
    ids=lambda table: next(iter(table)),
)
def test_a_run_is_looked_at_without_the_package_that_it_was_trained_with(
    table: dict[str, Any], tmp_path: Path
) -> None:
    folder = RunFolder(planted(tmp_path / "run-s0", table).path, Trust.NEVER)
    config = folder.config()
    (section,) = table
    assert table[section].items() <= to_table(config)[section].items()
    with pytest.raises(UntrustedError, match=r"a package that is not installed here; install it"):
        folder.last_state(config, pytest.fail)
    with pytest.raises(UsageError, match="'of_a_package': known: "):
        RunFolder(folder.path).config()


@pytest.mark.parametrize(
    "es",
    [
        {"optimizer": "m:O", "problems": 1, "class": 2, "__init__": 3, "others": {"a": [1]}},
        {"algorithm": "m:A", "sigma": -1.0},
        {"algorithm": "m:A", "optimizer": 7},
        {"algorithm": "unheard", "optimizer": "m:O"},
        {"optimizer": "m:O", "x": float("nan")},
    ],
    ids=str,
)
def test_any_key_beside_an_unknown_class_is_read_or_refused(es: dict[str, Any]) -> None:
    with contextlib.suppress(UsageError):
        assert {**to_table(parse({"es": es}, "test", importing=False))["es"], **es}


def test_where_modules_come_from(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for installed in ("sys", "os", "json", "numpy", "gymnasium.wrappers", "esd", "esd_envs"):
        assert is_installed(installed), installed
    found = place_of(f"{module}.sub")
    assert not found.installed
    assert found.folders == (str(tmp_path.resolve()),)
    assert found.file == str(tmp_path / f"{module}.py")
    for nothing in ("", ".", "..x", "a b", "no_such_module", "__main__", "x" * 5000):
        assert not is_installed(nothing), nothing
    assert module not in sys.modules
    monkeypatch.syspath_prepend(str(tmp_path))  # and so it hides a package of the same name
    hidden = tmp_path / "safetensors.py"
    hidden.touch()
    monkeypatch.delitem(sys.modules, "safetensors")
    assert not is_installed("safetensors")
    hidden.unlink()


def test_folders_of_pth_files_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, project = tmp_path / "site-packages", tmp_path / "project"
    packages.mkdir()
    project.mkdir()
    (packages / "project.pth").write_text(f"# mine\nimport os\n{project}\n")
    (project / "edited_module.py").touch()
    monkeypatch.syspath_prepend(str(project))
    assert not place_of("edited_module").installed
    monkeypatch.setattr("site.getsitepackages", lambda: [str(packages)])
    installed_folders.cache_clear()
    try:
        assert place_of("edited_module").installed
    finally:
        installed_folders.cache_clear()


def test_a_package_that_only_lies_in_the_working_directory_offers_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = tmp_path / "evil-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[esd.policies]\nevil = evil:Policy\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    POLICIES.__dict__.pop("installed", None)
    assert "evil" in POLICIES.installed  # on the path, and not in the working directory
    POLICIES.__dict__.pop("installed")
    monkeypatch.chdir(tmp_path)
    try:
        assert "evil" not in POLICIES.installed
    finally:
        POLICIES.__dict__.pop("installed", None)
