"""A run that is refused leaves nothing behind that stands in the way of the next."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from esd.api.run import Run
from esd.api.training import train
from esd.commands.console import Quiet
from esd.config.settings import Config
from esd.errors import EsdError, UsageError
from esd.evolution.layout import Layout
from esd.evolution.state import make_strategy, start
from esd.mpi.comm import Alone, JobFailedError
from esd.mpi.memory import available_memory
from esd.problems.make import make_problem
from esd.run.folder import RunFolder
from esd.run.journal import scan
from esd.training import room
from esd.training.perturbations import (
    changed_share,
    check_perturbations,
    smallest_useful_sigma,
)
from esd.training.plan import TrainRequest, make_plan
from esd.training.prepare import prepared
from esd.training.stop import StopRequest
from tests.helpers.configs import SMALL, objective, small
from tests.helpers.training import trained

MUCH = 10**10


def refusal(config: Config, folder: Path) -> str:
    """Why a config is refused; its folder must not be there then."""
    with pytest.raises(JobFailedError) as caught:
        trained(config, folder)
    assert isinstance(caught.value.__cause__, EsdError)
    assert not folder.exists()
    text = str(caught.value.__cause__)
    assert "\n" not in text
    assert len(text) <= 1000
    return text


def test_a_population_that_does_not_fit_is_refused_with_both_sizes(tmp_path: Path) -> None:
    text = refusal(small("cartpole", f"population={MUCH}"), tmp_path / "run")
    # 10¹⁰ rows of 6 numbers of 8 bytes, 6 times: in the loop 3, for the journal 3
    assert "population = 10,000,000,000: a generation's records take 2,880.0 GB" in text
    assert "are available; reduce population" in text


def test_the_center_s_episodes_are_named_if_it_is_they_that_do_not_fit(tmp_path: Path) -> None:
    text = refusal(small("cartpole", f"run.center_episodes={MUCH}"), tmp_path / "run")
    assert text.startswith("run.center_episodes = 10,000,000,000: ")


def test_batch_members_are_named_if_it_is_they_that_do_not_fit(tmp_path: Path) -> None:
    text = refusal(small("cartpole", f"batch_members={MUCH}"), tmp_path / "run")
    assert text.startswith(
        "batch_members = 10,000,000,000: members that are evaluated at once take "
    )
    assert "are available; reduce batch_members or" in text


@pytest.mark.parametrize(
    ("hidden", "words"),
    [
        ("[1000000, 1000000]", "policy.hidden = [1000000, 1000000]: a network of at least 1,000"),
        ("[1000000000000000000]", "a network of at least 2,000,000,000,000,000,000 weights"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(hidden: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(small("cartpole", f"policy.hidden={hidden}"), tmp_path / "run")


def test_a_network_that_is_built_but_whose_states_do_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "available_memory", lambda: 10_000_000)
    text = refusal(small("cartpole", "policy.hidden=[400, 400]"), tmp_path / "run")
    # 5 coefficients of 4·400 + 400·400 + 400·2 synapses; 4 states of 4 bytes each, and 4 bytes of a rank
    size = 5 * (4 * 400 + 400 * 400 + 400 * 2)
    assert (
        f"policy.hidden = [400, 400]: h has {size:,} coordinates, and 4 states of 1 such vector"
        in text
    )
    assert f"take {size * 20 / 1e6:.1f} MB of memory, and 20.0 MB more for each rank" in text
    assert "but 10.0 MB are available" in text


def test_parameters_of_an_objective_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    config = objective("sphere", x={"shape": [MUCH], "initial": 0.5})
    assert "objective.parameters: h has 10,000,000,000 coordinates" in refusal(
        config, tmp_path / "r"
    )


def test_a_journal_that_does_not_fit_on_the_disk_is_refused_or_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("cartpole", "generations=1000")
    told: list[str] = []

    class Listening(Quiet):
        def note(self, text: str) -> None:
            told.append(text)

    def check(free: int) -> None:
        monkeypatch.setattr(room, "_free_disk", lambda place: free)
        problem = make_problem(config)
        algorithm = make_strategy(config, problem.layout)
        folder = RunFolder(tmp_path / "run")
        room.check_disk(config, problem, algorithm, folder, Listening())

    # h of 1,040 coordinates: 4 checkpoints of 4,160 bytes; (14 + 3) rows × 6 × 8 bytes in a generation
    check(4 * 4160 + 816 * 1000)
    assert told == []
    check(4 * 4160 + 816 * 1000 - 1)
    assert "after 1,000 generations the journal takes 0.8 MB" in told[0]
    with pytest.raises(UsageError, match="are free on this disk"):
        check(4 * 4160 + 816 - 1)


def test_what_a_run_takes_grows_with_the_ranks_of_a_machine() -> None:
    config = small("cartpole", "env.normalize_observations=true", "es.optimizer=adam")
    problem = make_problem(config)
    sizes = room.sizes_of(config, problem, make_strategy(config, problem.layout))
    # h and Adam's two moments; 5 columns, a return, and the count, sums and squares of 4 numbers
    assert (sizes.coordinates, sizes.vectors) == (1040, 3)
    assert sizes.records == 8 * (14 + 3) * (5 + 1 + 9)
    state = 4 * 1040 * 3
    assert sizes.memory(1) == (4 * state + 4 * 1040, 6 * sizes.records)
    # with many ranks what each needs at its start is more: h_0 twice, and two states of its own
    assert sizes.memory(4) == (4 * (2 * state + 8 * 1040), 15 * sizes.records)


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/job/step", {"job/memory.max": "max", "job/step/memory.max": "3000"}, 8000 * 1024),
        (
            "0::/job/step",
            {
                "job/memory.max": "4000000",
                "job/memory.current": "1500000",
                "job/memory.stat": "anon 7\ninactive_file 500000\n",
                "job/step/memory.max": "max",
            },
            3_000_000,
        ),
        (
            "4:memory:/box",
            {
                "memory/box/memory.limit_in_bytes": "2000000",
                "memory/box/memory.usage_in_bytes": "300000",
            },
            1_700_000,
        ),
        ("nonsense", {}, 8000 * 1024),
    ],
)
def test_free_memory_is_the_machine_s_or_what_its_control_groups_leave(
    line: str, files: dict[str, str], expected: int, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:  8000 kB\n")
    (tmp_path / "proc/self/cgroup").write_text(f"{line}\n")
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert available_memory(tmp_path) == expected


@pytest.mark.parametrize("algorithm", ["openai_es", "pgpe", "snes", "cr_fm_nes"])
def test_a_sigma_that_float32_loses_is_refused_with_one_that_it_keeps(
    algorithm: str, tmp_path: Path
) -> None:
    settings = (f"es.algorithm={algorithm}", "policy.hidden=[4]")
    text = refusal(small("cartpole", *settings, "es.sigma=1e-50"), tmp_path / "run")
    assert "es.sigma = 1e-50: perturbations change none of h's" in text
    useful = text.rpartition("es.sigma=")[2].split()[0]
    assert trained(small("cartpole", *settings, f"es.sigma={useful}"), tmp_path / "run").finished


def test_the_share_of_coordinates_that_a_perturbation_changes_is_right() -> None:
    # ε of a normal distribution: σ ε is lost where it is less than half of 2^-23, the step of float32 above 1
    h = np.ones(200_000, np.float32)
    for sigma, expected in ((2.0**-23, 0.69), (2.0**-24, 0.48), (1e-9, 0.0), (0.1, 1.0)):
        config = objective("sphere", f"es.sigma={sigma}")
        algorithm = make_strategy(config, Layout({"x": h.shape}))
        share = changed_share(algorithm, start(algorithm, h, 0).evolution)
        # above 1 the step is 2^-23, below it 2^-24: lost below 2^-24 and 2^-25, half of the signs each
        low, high = _normal_above(2.0**-24 / sigma), _normal_above(2.0**-25 / sigma)
        assert share == pytest.approx((low + high) / 2, abs=0.01)
        assert share == pytest.approx(expected, abs=0.03)
    assert smallest_useful_sigma(h) == 16 * 2.0**-23


def _normal_above(limit: float) -> float:
    """The probability that |ε| is above a limit."""
    return math.erfc(limit / math.sqrt(2))


def test_a_sigma_that_float32_mostly_loses_is_warned_of() -> None:
    told: list[str] = []
    config = objective("sphere", "es.sigma=2e-8", x={"shape": [1000], "initial": 1.0})
    algorithm = make_strategy(config, Layout({"x": (1000,)}))
    state = start(algorithm, np.ones(1000, np.float32), 0).evolution
    check_perturbations(config, algorithm, state, told.append)
    assert "perturbations change only" in told[0]
    assert "--set es.sigma=2e-06 or more" in told[0]


def test_a_resumed_run_is_not_refused_for_its_sigma(tmp_path: Path) -> None:
    config = objective("sphere", "es.sigma=1e-3", "generations=2")
    trained(config, tmp_path)
    assert trained(dataclasses.replace(config, generations=3), tmp_path).finished


@pytest.mark.parametrize(
    "settings",
    [
        ('env.id="CartPole-v1"', 'env.wrappers=["tests.helpers.nowhere:Wrapper"]'),
        ('policy.kind="tests.helpers.user_code:LackingPolicy"',),
    ],
)
def test_a_run_refused_for_another_reason_leaves_no_folder_either(
    settings: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises((JobFailedError, UsageError)):
        trained(small("cartpole", *settings), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def begun_without_a_generation(folder: Path, *settings: str) -> Config:
    """A run that ended in its first generation."""
    config = small("cartpole", *settings)
    plan = dataclasses.replace(
        make_plan(TrainRequest(run=folder, settings=SMALL), lambda text: None), config=config
    )
    with prepared(Alone(), plan, StopRequest(), Quiet()):
        pass
    assert RunFolder(folder).is_run
    assert not scan(RunFolder(folder).journal_file).positions
    return config


def test_a_run_without_a_generation_is_replaced_by_the_next_with_other_settings(
    tmp_path: Path,
) -> None:
    begun_without_a_generation(tmp_path, "es.sigma=0.3")
    told: list[str] = []
    request = TrainRequest("cartpole", tmp_path, (*SMALL, "env.max_steps=60"))
    plan = make_plan(request, told.append)
    assert (plan.resumes, plan.erase) == (False, True)
    assert "it is replaced" in told[-1]
    settings = {"population": 14, "env": {"max_steps": 60}}
    run = train("cartpole", run=tmp_path, generations=2, settings=settings, verbose=False)
    assert run.finished
    assert run.config.es.sigma == 0.2


def test_a_run_without_a_generation_goes_on_with_its_own_settings(tmp_path: Path) -> None:
    config = begun_without_a_generation(tmp_path)
    again = make_plan(TrainRequest(run=tmp_path), lambda text: None)
    assert (again.resumes, again.erase, again.config) == (True, False, config)


def test_a_run_that_has_begun_since_it_was_looked_at_is_not_replaced(tmp_path: Path) -> None:
    config = begun_without_a_generation(tmp_path / "run", "es.sigma=0.3")
    request = TrainRequest("cartpole", tmp_path / "run", (*SMALL, "env.max_steps=60"))
    plan = make_plan(request, lambda text: None)
    trained(config, tmp_path / "run")  # another esd, meanwhile
    before = (tmp_path / "run" / "journal.bin").read_bytes()
    with (
        pytest.raises(JobFailedError) as caught,
        prepared(Alone(), plan, StopRequest(), Quiet()),
    ):
        pass
    assert "another esd process trained in this folder in the meantime" in str(
        caught.value.__cause__
    )
    assert (tmp_path / "run" / "journal.bin").read_bytes() == before


def test_a_child_that_failed_at_its_start_is_started_from_its_parent_again(tmp_path: Path) -> None:
    settings = (*SMALL, "env.max_steps=60")
    trained(small("cartpole"), tmp_path / "parent")
    request = TrainRequest("cartpole", tmp_path / "child", settings, start_from=tmp_path / "parent")
    plan = make_plan(request, lambda text: None)
    with prepared(Alone(), plan, StopRequest(), Quiet()):
        pass
    again = make_plan(request, lambda text: None)
    assert (again.erase, again.start_from) == (True, tmp_path / "parent")


def test_more_test_episodes_than_memory_holds_are_refused(tmp_path: Path) -> None:
    trained(objective("sphere"), tmp_path)
    with pytest.raises(UsageError, match=r"episodes = 10,000,000,000: .* 1,000\.0 GB of memory"):
        Run(tmp_path).evaluate(episodes=MUCH)


def test_a_file_system_without_a_size_is_not_called_full() -> None:
    text = refusal(small("cartpole-static"), Path("/proc/self/run"))
    assert "can't be created" in text
    assert "use another folder with --run" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 kB"), (1234, "1.2 kB"), (2e6, "2.0 MB"), (3e9, "3.0 GB")]
)
def test_sizes_are_told_in_units_that_fit(count: float, text: str) -> None:
    assert room._gb(count) == text


@pytest.mark.parametrize(
    ("text", "settings", "source"),
    [
        ("", ["population=-1"], "--set: "),
        ("population = -2\n", ["population=-1"], "own: "),
        ("[policy]\nunits = 3\n", ["policy.kind=gru", "population=-1"], "own: "),
    ],
    ids=["set alone", "both", "a file that --set completes"],
)
def test_a_wrong_value_of_set_is_not_said_of_a_file_that_is_right(
    text: str, settings: list[str], source: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match="population = -1: expected") as refused:
        make_plan(TrainRequest(str(file), tmp_path / "run", settings), print)
    assert str(refused.value).startswith(source)
