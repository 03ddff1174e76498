"""The runs of a report: which form a group, and what runs and groups are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from esd.commands.console import Quiet
from esd.config.tables import parse
from esd.errors import UsageError
from esd.evaluation.groups import STARTED_FROM
from esd.mpi.comm import Alone
from esd.report.runs import Arm, read_arms
from esd.report.settings import differences
from esd.training.plan import TrainRequest, make_plan
from esd.training.prepare import train
from esd.training.stop import StopRequest
from tests.helpers.training import trained
from tests.helpers.written_runs import written

TABLE = {
    "env": {"id": "CartPole-v1", "max_steps": 20},
    "policy": {"hidden": [3]},
    "population": 4,
    "generations": 2,
}


def arms_of(*words: str | Path) -> list[Arm]:
    """The groups, of runs about which there is nothing to say."""
    warnings: list[str] = []
    arms = read_arms(list(map(str, words)), warnings.append)
    assert warnings == []
    return arms


def child(parent: Path, folder: Path, seed: int) -> Path:
    """Train as ``esd train --from PARENT --run FOLDER --set seed=SEED`` does."""
    request = TrainRequest(run=folder, settings=(f"seed={seed}",), start_from=parent)
    train(Alone(), make_plan(request, lambda text: None), StopRequest(), Quiet())
    return folder


def test_runs_that_began_with_other_parameters_are_other_groups(tmp_path: Path) -> None:
    for seed in (1, 2):
        trained(parse({**TABLE, "seed": seed}, "test"), tmp_path / f"origin-s{seed}")
    first, second = tmp_path / "origin-s1", tmp_path / "origin-s2"
    ours = [child(first, tmp_path / f"ours-s{seed}", seed) for seed in (5, 6)]
    theirs = child(second, tmp_path / "theirs-s5", 5)  # the same settings and the same seed
    arms = arms_of(*ours, theirs, first)
    assert [[run.name for run in arm.runs] for arm in arms] == [
        ["ours-s5", "ours-s6"],
        ["theirs-s5"],
        ["origin-s1"],
    ]
    assert differences(arms) == [[STARTED_FROM, "another run", "another run", "–"]]
    (pooled,) = arms_of(f"all={ours[0]},{theirs}")
    assert [run.name for run in pooled.runs] == ["ours-s5", "theirs-s5"]
    with pytest.raises(UsageError, match="differs from the first run of this group"):
        arms_of(f"all={first},{theirs}")


@pytest.mark.parametrize(
    ("folders", "name"),
    [
        (("plastic-s1", "plastic-s2"), "plastic"),
        (("cartpole-s10", "cartpole-s11", "cartpole-s12"), "cartpole"),
        (("cartpole-s1", "cartpole-s10"), "cartpole"),
        (("ants-10", "ants-11"), "ants"),
        (("ants-1", "ants-2"), "ants"),
        (("cross-0", "cross-1"), "cross"),
        (("results0", "results1"), "results"),
        (("v2_seed_1", "v2_seed_2"), "v2"),
        (("deep.v3.s1", "deep.v3.s2"), "deep.v3"),
        (("0", "1"), "0"),
    ],
)
def test_a_group_is_called_what_the_names_of_its_folders_share(
    folders: tuple[str, ...], name: str, tmp_path: Path
) -> None:
    for seed, folder in enumerate(folders):
        written(tmp_path / f"s{seed}").rename(tmp_path / folder)
    (arm,) = arms_of(tmp_path)
    assert arm.name == name


def named(path: Path, seed: int, **table: Any) -> Path:
    """A run whose folder has this name, and no seed in it."""
    return written(path.with_name(f"s{seed}"), **table).rename(path)


def test_runs_of_the_same_folder_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    places = [tmp_path / place for place in ("a/x/run", "b/x/run", "b/y/run", "b/y/other")]
    for seed, place in enumerate(places):
        named(place, seed)
    (arm,) = arms_of(*places)
    assert [run.name for run in arm.runs] == ["a/x/run", "b/x/run", "y/run", "other"]
    wide = named(tmp_path / "c/run", 7, es={"sigma": 0.5})
    two = named(tmp_path / "d/run", 7, es={"sigma": 0.6})
    assert [arm.name for arm in arms_of(wide, two)] == ["c/run", "d/run"]
    (pooled,) = arms_of(places[0], places[2])
    assert pooled.name == "run"
