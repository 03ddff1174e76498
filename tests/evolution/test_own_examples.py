"""The optimizer and the algorithm of docs/algorithms.md work as the page says, from a file of one's own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from esd.config.descriptions import describe_settings
from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.kinds import ALGORITHMS, OPTIMIZERS
from esd.config.tables import apply_settings, parse, to_table
from esd.config.unused_settings import without_effect
from esd.errors import UsageError
from esd.evolution.layout import Layout
from esd.evolution.state import make_strategy
from esd.run.folder import RunFolder
from esd.run.trust import Trust
from tests.helpers.configs import small
from tests.helpers.shell import esd
from tests.helpers.training import from_journal, trained

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text("utf-8")
TINY = (
    "--set", "population=8", "--set", "env.max_steps=30", "--set", "run.checkpoint_every=2",
    "--set", "run.center_every=0",
)  # fmt: skip


def written(folder: Path) -> None:
    """The page's Python files."""
    examples = re.findall(r'```python\n("""(\w+\.py): .*?)```', PAGE, re.DOTALL)
    assert [name for _, name in examples] == ["my_optimizer.py", "my_algorithm.py"]
    for text, name in examples:
        (folder / name).write_text(text)


def command(containing: str) -> list[str]:
    """The words of the page's command that contains this."""
    (line,) = [
        line for line in PAGE.splitlines() if line.startswith("esd train") and containing in line
    ]
    return line.split()[1:]  # fmt: skip


@pytest.mark.parametrize("name", ["my_optimizer:Lion", "my_algorithm:KIND", "es.algorithm=snes"])
def test_the_pages_commands_train_and_resume(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [*command(name), *TINY]
    assert words[1] in experiment_names()
    hashes = []
    for run, generations in (("whole", 4), ("parts", 2), ("parts", 4)):
        result = esd(
            *words, "--run", run, "--set", f"generations={generations}", "--json", cwd=tmp_path
        )
        assert result.returncode == 0, result.stderr
        hashes.append(json.loads(result.stdout)["h_sha256"])
    assert hashes[0] == hashes[2] != hashes[1]
    assert from_journal(Path("whole")).h_sha256() == hashes[0]


def test_another_optimizer_drops_what_only_the_old_one_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    lion = {"optimizer": "my_optimizer:Lion", "lion_beta2": 0.95, "learning_rate": 0.01}
    Path("lion.toml").write_text(tomli_w.dumps({"extends": "cartpole", "es": lion}))
    Path("adam.toml").write_text('extends = "lion.toml"\n[es]\noptimizer = "adam"\n')
    _, table = read_experiment("lion.toml")
    changed = apply_settings(table, ["es.beta1=0.5", "es.optimizer=adam"])
    for own in (read_experiment("adam.toml")[1], changed):
        assert "lion_beta2" not in own["es"]
        assert parse(own, "test").es.learning_rate == 0.01  # type: ignore[attr-defined]
    back = apply_settings(changed, ["es.lion_beta2=0.9", "es.optimizer=my_optimizer:Lion"])
    assert parse(back, "test").es.lion_beta2 == 0.9  # type: ignore[attr-defined]
    both = ["es.optimizer=adam", "es.algorithm=pgpe"]
    assert parse(apply_settings(table, both), "test").es.optimizer == "adam"  # type: ignore[attr-defined]
    mistyped = apply_settings(table, ["es.lion_beta3=0.9", "es.optimizer=adam"])
    with pytest.raises(UsageError, match=r"es\.lion_beta3: unknown key"):
        parse(mistyped, "test")


@pytest.mark.parametrize("since", ["", ", since=2"])
def test_a_run_goes_on_after_a_setting_was_added_to_the_class(
    since: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [*command("Lion"), *TINY, "--run", "run", "--json"]
    assert esd(*words, "--set", "generations=1", cwd=tmp_path).returncode == 0
    code = Path("my_optimizer.py").read_text("utf-8")
    added = f'    lion_cut: float = setting(0.0, "Smallest step"{since})\n    moment_names'
    Path("my_optimizer.py").write_text(code.replace("    moment_names", added))
    again = esd(*words, "--set", "generations=2", cwd=tmp_path)
    assert again.returncode == (0 if since else 2), again.stderr
    changed = esd(*words, "--set", "generations=3", "--set", "es.lion_cut=0.5", cwd=tmp_path)
    assert changed.returncode == 2
    if since:
        assert "es.lion_cut = 0.5, but the run has 'unset'" in changed.stderr
        assert RunFolder(Path("run"), Trust.NEVER).config().es.optimizer == "my_optimizer:Lion"  # type: ignore[attr-defined]


def test_an_optimizers_own_settings_are_read_checked_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    monkeypatch.chdir(tmp_path)
    words = [*command("Lion"), *TINY, "--set", "generations=1", "--run", "run"]
    assert esd(*words, cwd=tmp_path).returncode == 0
    es = RunFolder(Path("run")).config().es
    assert (es.optimizer, es.lion_beta2) == ("my_optimizer:Lion", 0.95)  # type: ignore[attr-defined]
    wrong = esd(*words, "--set", "es.lion_beta2=1.5", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "es.lion_beta2 = 1.5: expected 0 or more and below 1" in wrong.stderr
    unknown = esd(*words, "--set", "es.lion_beta3=0.5", cwd=tmp_path)
    assert "es.lion_beta3: unknown key" in unknown.stderr
    assert "lion_beta2" in unknown.stderr


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The examples as the page says that they become a part of esd: their files, and a line each in the tables."""
    written(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = dict(re.findall(r'`"(lion|best_quarter)": "esd\.evolution\.\w+:(\w+)"`', PAGE))
    for table, name, module in (
        (OPTIMIZERS, "lion", "my_optimizer"),
        (ALGORITHMS, "best_quarter", "my_algorithm"),
    ):
        monkeypatch.setitem(table.built_in, name, f"{module}:{lines[name]}")  # type: ignore[misc]
    yield
    for module in ("my_optimizer", "my_algorithm"):
        sys.modules.pop(module, None)


ANY = Layout({"h": (1,)})


@pytest.mark.usefixtures("built_in")
def test_both_are_parts_of_esd_by_one_line_with_settings_of_their_own(tmp_path: Path) -> None:
    plain = to_table(parse({"es": {"optimizer": "sgd"}}, "plain"))
    described = describe_settings()
    assert "Decay rate of Lion's momentum" in described["es.<lion>.lion_beta2"]
    assert "Factor on sigma" in described["es.<best_quarter>.sigma_decay"]
    config = small("pendulum", "es.optimizer=lion", "es.lion_beta2=0.5", "generations=2")
    assert make_strategy(config, ANY).optimizer.lion_beta2 == 0.5  # type: ignore[attr-defined]
    ending = trained(config, tmp_path / "run")
    assert from_journal(tmp_path / "run").sha256() == ending.state.sha256()
    assert make_strategy(small("pendulum", "es.algorithm=best_quarter"), ANY).sigma_decay == 0.99  # type: ignore[attr-defined]
    assert list(
        without_effect({"es.beta2": 0.5}, parse({"es": {"optimizer": "lion", "beta2": 0.5}}, "x"))
    )
    # and who does not use it sees nothing of it
    assert "lion_beta2" not in plain["es"]
    assert list(without_effect({"es.beta1": 0.5}, parse({"es": {"beta1": 0.5}}, "x"))) == [
        "es.beta1: no effect with es.optimizer = 'sgd'"
    ]
    with pytest.raises(UsageError, match=r"es.lion_beta2: unknown key"):
        parse({"es": {"optimizer": "adam", "lion_beta2": 0.5}}, "x")
