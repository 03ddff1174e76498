"""A run with every algorithm: resumed, rebuilt from its journal, in lock-step, and begun from another run's h."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from esd.config.kinds import ALGORITHMS
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse, to_table
from esd.errors import UsageError
from esd.run.folder import RunFolder
from tests.helpers.configs import small
from tests.helpers.shell import esd
from tests.helpers.training import from_journal, trained

algorithms = pytest.mark.parametrize("algorithm", ALGORITHMS.built_in)


def config_of(algorithm: str, *settings: str) -> Config:
    """Pendulum's returns are never equal, so every update counts; with a penalty, which sums up whole members."""
    return small("pendulum", f"es.algorithm={algorithm}", "es.fitness_penalty=0.01", *settings)


@algorithms
def test_a_stopped_run_goes_on_to_the_same_bits(algorithm: str, tmp_path: Path) -> None:
    whole = trained(config_of(algorithm), tmp_path / "whole").state
    trained(config_of(algorithm, "generations=3"), tmp_path / "parts")
    parts = trained(config_of(algorithm), tmp_path / "parts").state
    assert whole.generation == parts.generation == 5
    assert parts.sha256() == whole.sha256()
    assert parts.evolution.scalars == whole.evolution.scalars


@algorithms
def test_the_journal_alone_rebuilds_every_state(algorithm: str, tmp_path: Path) -> None:
    config = config_of(algorithm)
    state = trained(config, tmp_path).state
    folder = RunFolder(tmp_path)
    for path in folder.checkpoint_files():
        kept = folder.load_checkpoint(path, config).state
        assert from_journal(tmp_path, kept.generation).sha256() == kept.sha256()
    assert from_journal(tmp_path).sha256() == state.sha256()


@algorithms
def test_members_in_lock_step_give_the_same_h(algorithm: str, tmp_path: Path) -> None:
    config = config_of(algorithm, "generations=3")
    alone = trained(config, tmp_path / "alone").state
    together = trained(dataclasses.replace(config, batch_members=5), tmp_path / "lockstep").state
    assert together.sha256() == alone.sha256()


@algorithms
def test_another_runs_h_is_gone_on_from_with_the_algorithms_own_beginning(
    algorithm: str, tmp_path: Path
) -> None:
    trained(config_of(algorithm), tmp_path / "parent")
    result = esd(
        "train", "--from", "parent", "--run", "child", "--set", "generations=0", "--json", cwd=tmp_path
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    parent, child = from_journal(tmp_path / "parent"), from_journal(tmp_path / "child")
    assert np.array_equal(child.h, parent.h)
    assert (
        child.evolution.scalars
        == trained(
            config_of(algorithm, "generations=0"), tmp_path / "fresh"
        ).state.evolution.scalars
    )


@algorithms
def test_show_and_the_metrics_tell_how_far_deviations_lie_apart(
    algorithm: str, tmp_path: Path
) -> None:
    state = trained(config_of(algorithm), tmp_path / "run").state
    shown = json.loads(esd("show", "run", "--json", cwd=tmp_path).stdout)
    assert (shown["sigma_min"], shown["sigma_max"]) == state.evolution.sigma_range
    assert shown["sigma"] == state.evolution.sigma
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-2])
    assert line["sigma_min"] <= line["sigma"] <= line["sigma_max"]
    if algorithm in ("pgpe", "snes", "cr_fm_nes"):
        assert line["sigma_min"] < line["sigma_max"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["es.algorithm=snes", "es.optimizer=adam"], "es.optimizer: unknown key of es.algorithm = 'snes'"),
        (["es.algorithm=cr_fm_nes", "es.shaping=raw"], "es.shaping: unknown key of es.algorithm = 'cr_fm_nes'"),
        (["es.algorithm=pgpe", "es.sigma_decay=0.9"], "es.sigma_decay: unknown key of es.algorithm = 'pgpe'"),
        (["es.sigma_learning_rate=0.1"], "es.sigma_learning_rate: unknown key of es.algorithm = 'openai_es'"),
        (["es.algorithm=snes", "es.noise=rademacher"], "every ε² is 1"),
        (["es.algorithm=sness"], "es.algorithm = 'sness': did you mean 'snes'?"),
        (["es.algorithm=json:dumps"], "es.algorithm = 'json:dumps': expected an AlgorithmKind"),
        (["es.optimizer=adm"], "es.optimizer = 'adm': did you mean 'adam'?"),
    ],
)  # fmt: skip
def test_settings_of_another_algorithm_are_refused_by_name(
    settings: list[str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse(apply_settings({}, settings), "asked")
    assert message in str(caught.value)


def test_another_algorithm_keeps_only_the_settings_that_all_have() -> None:
    """A learning rate of OpenAI-ES would be a wrong one of SNES, though both have one."""
    table = to_table(Config())
    table["es"] |= {"learning_rate": 0.7, "sigma": 0.3}
    changed = parse(apply_settings(table, ["es.algorithm=snes"]), "changed")
    assert changed.es.sigma == 0.3
    assert to_table(changed)["es"]["learning_rate"] == 1.0
