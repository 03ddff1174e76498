"""Training from Python is the training of the command line."""

from __future__ import annotations

import copy
import hashlib
import importlib
import itertools
import json
import pickle
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import esd
from esd.evolution.global_generators import kept_generators
from tests.helpers import user_functions
from tests.helpers.shell import TINY
from tests.helpers.shell import esd as command

SETTINGS: dict[str, Any] = {"population": 6, "env": {"max_steps": 60}}
NORMALIZED = {**SETTINGS, "env.normalize_observations": True}


def trained(run: Path, **changes: Any) -> esd.Run:
    given = {"seed": 4, "generations": 3, "settings": SETTINGS, "verbose": False, **changes}
    return esd.train("cartpole", run=run, **given)


def test_train_gives_the_h_of_the_command_line(tmp_path: Path) -> None:
    result = command("train", "cartpole", "--run", "other", *TINY, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = trained(tmp_path / "run")
    other = esd.Run(tmp_path / "other")
    assert run.finished
    assert run.generation == 3
    assert run.config == other.config
    np.testing.assert_array_equal(run.h(), other.h())
    assert len(run.metrics()) == 4  # three generations and the last center


def test_leaving_the_loop_leaves_a_run_that_goes_on_to_the_same_h(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    given = {"seed": 4, "generations": 3, "settings": SETTINGS}
    seen = [
        report.generation
        for report in itertools.islice(
            esd.generations("cartpole", run=tmp_path / "left", **given), 2
        )
    ]
    left = esd.Run(tmp_path / "left")
    assert seen == [0, 1]
    assert left.generation == 2
    assert not left.finished
    resumed = esd.resume(tmp_path / "left", verbose=False)
    assert resumed.finished
    np.testing.assert_array_equal(resumed.h(), whole.h())


def test_an_exception_in_the_loop_leaves_a_run_that_goes_on(tmp_path: Path) -> None:
    def fail_in_the_first() -> None:
        for _ in esd.generations("cartpole", run=tmp_path, seed=4, settings=SETTINGS):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_first()
    assert esd.Run(tmp_path).generation == 1
    assert trained(tmp_path).generation == 3


def test_generations_report_what_the_metrics_hold(tmp_path: Path) -> None:
    given = {"seed": 4, "generations": 2, "settings": SETTINGS}
    reports = list(esd.generations("cartpole", run=tmp_path, **given))
    lines = esd.Run(tmp_path).metrics()
    assert [report.line() for report in reports] == lines
    assert not list(esd.generations("cartpole", run=tmp_path, **given))  # it is finished


def test_a_past_h_is_rebuilt_and_has_its_names(tmp_path: Path) -> None:
    run = trained(tmp_path)
    first = run.h(0)
    assert not np.array_equal(first, run.h(1))
    arrays = run.parameters(0)
    assert arrays["layer0.A"].shape == (4, 16)
    np.testing.assert_array_equal(np.concatenate([a.ravel() for a in arrays.values()]), first)


@pytest.mark.parametrize("settings", [SETTINGS, NORMALIZED], ids=["plain", "normalized"])
def test_the_policy_plays_what_an_evaluation_plays(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    from esd.evaluation.test_episodes import episode_seeds

    run = trained(tmp_path, settings=settings)
    for checkpoint in ("best", "last"):
        found = run.evaluate(episodes=3, checkpoint=checkpoint)
        policy = run.policy(checkpoint)
        returns = []
        for episode in range(3):
            seeds = episode_seeds(0, episode, 0)
            env = gymnasium.make("CartPole-v1", max_episode_steps=60)
            observation, _ = env.reset(seed=seeds.environment)
            policy.reset(seeds.policy)
            total, over = 0.0, False
            while not over:
                action = policy.act(observation)
                assert policy.action_space.contains(action)
                observation, reward, terminated, truncated, _ = env.step(action)
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
        assert found["mean"] == np.mean(returns)
    assert len(list((tmp_path / "evaluations").iterdir())) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"env.normalize_observations": True},
        {"policy.kind": "gru"},
        {"policy.kind": "reformer"},
        {"policy.kind": "tests.helpers.user_code:SmallModule"},
    ],
    ids=str,
)
def test_a_copied_policy_acts_as_the_policy_does(tmp_path: Path, settings: dict[str, Any]) -> None:
    short = {"population": 4, "env.max_steps": 9, "env.episodes_per_member": 1, **settings}
    run = esd.train("pendulum", run=tmp_path, generations=1, settings=short, verbose=False)
    policy, generator = run.policy(), np.random.default_rng(0)
    observations = generator.uniform(-1.0, 1.0, (5, 3)).astype(np.float32)

    def actions(own: esd.Policy) -> list[float]:
        return [float(own.act(each)[0]) for each in observations]

    policy.reset(3)
    expected = actions(policy)
    assert len({*expected}) > 1
    for copied in (copy.copy, copy.deepcopy, lambda own: pickle.loads(pickle.dumps(own))):
        assert actions(copied(policy)) == expected  # from the last reset on
    policy.reset(3)
    other = copy.deepcopy(policy)
    mixed = [(policy.act(each)[0], other.act(each)[0]) for each in observations]
    assert mixed == [(each, each) for each in expected]


def test_torch_is_left_as_it_was(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'esd-mpi[torch]'")
    settings = {**SETTINGS, "policy.kind": "tests.helpers.user_code:SmallModule"}
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        state = torch.get_rng_state()
        for report in esd.generations(
            "cartpole", run=tmp_path / "a", seed=4, generations=2, settings=settings
        ):
            assert torch.get_num_threads() == 2, report
        run = trained(tmp_path / "b", settings=settings)
        run.evaluate(episodes=2)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("draw", ["run", "member"])
def test_weights_that_are_not_an_episodes_own_are_those_of_the_evaluation(
    draw: str, tmp_path: Path
) -> None:
    """The policy's ``reset(e)`` begins with the set of weights that test episode e has."""
    from esd.evaluation.test_episodes import episode_seeds

    run = trained(tmp_path, settings={**SETTINGS, "policy.draw_weights": draw}, generations=1)
    returns, policy = [], run.policy()
    for episode in range(8):
        env = gymnasium.make("CartPole-v1", max_episode_steps=60)
        observation, _ = env.reset(seed=episode_seeds(0, episode, 0).environment)
        policy.reset(episode)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(policy.act(observation))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    found = run.evaluate(episodes=8)
    assert len({*returns}) > 1
    assert (found["mean"], found["std"]) == (
        np.mean(returns),
        pytest.approx(np.std(returns, ddof=1)),
    )


def test_values_of_every_sort_become_settings(tmp_path: Path) -> None:
    settings = {
        **SETTINGS,
        "policy.kind": "static",
        "policy.hidden": [3, 2],
        "es.optimizer": "adam",
        "run.center_every": 0,
        "env.variants": [{"name": "a"}, {"name": "b", "unseen": True}],
    }
    config = trained(tmp_path, generations=1, settings=settings).config
    assert config.policy.kind == "static"
    assert config.policy.settings.hidden == (3, 2)
    assert config.es.optimizer == "adam"
    assert [variant.name for variant in config.env.variants] == ["a", "b"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: esd.train("cartpol", run=run), "did you mean 'cartpole'"),
        (lambda run: esd.train(run=run, settings={"es.sigmma": 1}), "did you mean 'sigma'"),
        (
            lambda run: esd.train(run=run, settings={"seed": object()}),
            "expected a string, a number",
        ),
        (lambda run: esd.resume(run), "does not exist"),
        (esd.Run, "does not exist"),
    ],
    ids=["experiment", "setting", "value", "resume", "run"],
)
def test_a_mistake_is_a_usage_error_and_leaves_nothing(
    call: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(esd.UsageError, match=message):
        call(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_wrong_words_of_a_run_are_named(tmp_path: Path) -> None:
    run = trained(tmp_path, generations=1)
    with pytest.raises(
        esd.UsageError, match=r"checkpoint = 'newest': expected one of 'best', 'last'"
    ):
        run.policy("newest")
    with pytest.raises(esd.UsageError, match=r"rules = 'none'"):
        run.evaluate(rules="none")
    with pytest.raises(esd.UsageError, match="no such variant"):
        run.policy(variant="x")
    with pytest.raises(esd.UsageError, match="generation 9: the journal"):
        run.h(9)


def test_settings_may_hold_numpy_values(tmp_path: Path) -> None:
    given = {**SETTINGS, "es.sigma": np.float64(0.125), "policy.hidden": np.array([4, 4])}
    numpys = trained(tmp_path / "a", seed=np.int64(4), generations=np.int32(1), settings=given)
    given |= {"es.sigma": 0.125, "policy.hidden": [4, 4]}
    ours = trained(tmp_path / "b", seed=4, generations=1, settings=given)
    assert numpys.config == ours.config
    np.testing.assert_array_equal(numpys.h(), ours.h())


def test_wrong_arguments_get_one_clear_line(tmp_path: Path) -> None:
    wrong: Any = ["es.sigma=1"]
    with pytest.raises(esd.UsageError, match=r"settings = .*expected a dict"):
        esd.train("cartpole", run=tmp_path / "new", settings=wrong)
    assert not (tmp_path / "new").exists()
    run = trained(tmp_path / "run", generations=1)
    for generation in ("a", 1.0, True, -1):
        with pytest.raises(esd.UsageError, match=r"generation = .*whole number"):
            run.h(generation)  # type: ignore[arg-type]
    for episodes in (0, -1, "5", 2.5):
        with pytest.raises(esd.UsageError, match=r"episodes = .*whole number of 1 or more"):
            run.evaluate(episodes=episodes)  # type: ignore[arg-type]
    for seed in (-1, 2**64):
        with pytest.raises(esd.UsageError, match=r"seed = .*whole number from 0"):
            run.evaluate(seed=seed)
        with pytest.raises(esd.UsageError, match=r"seed = .*whole number from 0"):
            run.policy().reset(seed)
    for variants in ("abc", [], ()):
        with pytest.raises(esd.UsageError, match=r"variants = .*expected a list of names, or None"):
            run.evaluate(variants=variants)
    assert not (run.path / "evaluations").exists()
    for observation in (np.zeros(3), np.zeros((2, 4)), "abc"):
        with pytest.raises(esd.UsageError, match="observation: expected an element of Box"):
            run.policy().act(observation)
    with pytest.raises(esd.UsageError, match="seed = 4: settings has seed = 5; give one of them"):
        trained(tmp_path / "run", settings={"seed": 5})
    with pytest.raises(esd.UsageError, match=r"es.sigma is given twice, .* and in 'es'"):
        trained(tmp_path / "run", settings={"es.sigma": 0.1, "es": {"sigma": 0.2}})
    for argument in ("run", "start_from"):
        with pytest.raises(esd.UsageError, match=f"{argument} = 3: expected the path"):
            esd.train("cartpole", **{argument: 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["cartpole", "rosenbrock"])
def test_the_generators_of_the_caller_go_on_as_if_nothing_had_been_trained(
    what: str, tmp_path: Path
) -> None:
    """A random search in a script would try one value again and again."""
    given = SETTINGS if what == "cartpole" else {"population": 6}

    def drawn() -> tuple[float, float]:
        return random.random(), np.random.random()  # noqa: NPY002

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = [drawn() for _ in range(5)]
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    found = [drawn()]
    run = esd.train(what, run=tmp_path / "a", generations=1, settings=given, verbose=False)
    found.append(drawn())
    for _ in esd.generations(run=tmp_path / "a", generations=4):
        found.append(drawn())
        if len(found) == 4:
            break
    run.evaluate(episodes=2)
    found.append(drawn())
    assert found == expected


def test_two_threads_do_not_train_at_the_same_time(tmp_path: Path) -> None:
    """They would seed the same generators; a loop that waits at its yield, and a training in an objective, do not."""

    def trained_meanwhile(name: str) -> list[str]:
        """What a training in another thread says."""
        said: list[str] = []

        def train() -> None:
            try:
                trained(tmp_path / name, generations=1)
            except esd.UsageError as error:
                said.append(str(error))

        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        return said

    for _ in esd.generations("rosenbrock", run=tmp_path / "a", generations=1):
        assert trained_meanwhile("b") == []
    with kept_generators():
        (text,) = trained_meanwhile("c")
        assert text.startswith("another thread of this process is training")
        assert not (tmp_path / "c").exists()
        trained(tmp_path / "d", generations=1)
    assert trained_meanwhile("e") == []


def test_a_module_that_was_edited_after_its_import_is_named_and_recorded_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python keeps the old code, also in a notebook."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "edited_function.py"
    experiment = tmp_path / "edited.toml"
    experiment.write_text(
        'population = 6\nobjective.function = "edited_function:value"\n'
        'objective.direction = "minimize"\nobjective.parameters.x.shape = [3]\n'
    )

    def train(name: str, offset: int) -> tuple[float, str]:
        file.write_text(f"def value(x):\n    return float((x**2).sum()) + {offset}\n")
        run = esd.train(experiment, run=tmp_path / name, generations=1)
        (call,) = json.loads((run.path / "provenance.json").read_text())
        return run.metrics()[0]["center_return"], call["modules"]["edited_function"]["sha256"]

    one, recorded = train("one", 0)
    said = "edited_function.py: changed since this process imported it"
    assert said not in capsys.readouterr().out
    assert train("two", 100) == (one, recorded)
    assert said in capsys.readouterr().out
    importlib.reload(sys.modules["edited_function"])
    three, reloaded = train("three", 100)
    assert three == pytest.approx(one + 100)
    assert reloaded == hashlib.sha256(file.read_bytes()).hexdigest() != recorded
    assert said not in capsys.readouterr().out


def signalled_objective(number: int) -> dict[str, Any]:
    """The settings of an objective whose first call sends a signal to its process."""
    user_functions.signalled.clear()
    return {
        "population": 6,
        "objective.function": "tests.helpers.user_functions:signals_once",
        "objective.kwargs": {"number": number},
        "objective.check_at_start": False,
    }


def test_ctrl_c_keeps_the_generation_and_raises_keyboard_interrupt(tmp_path: Path) -> None:
    given = {"settings": signalled_objective(signal.SIGINT), "run": tmp_path, "verbose": False}
    with pytest.raises(KeyboardInterrupt):
        esd.train("rosenbrock", **given)
    run = esd.Run(tmp_path)
    assert (run.generation, run.finished) == (1, False)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_sigterm_reaches_the_program_s_own_handler_after_the_generation(tmp_path: Path) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        settings = signalled_objective(signal.SIGTERM)
        run = esd.train("rosenbrock", settings=settings, run=tmp_path, verbose=False)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (seen, run.generation, run.finished) == ([signal.SIGTERM], 1, False)


def test_sigusr1_returns_the_unfinished_run(tmp_path: Path) -> None:
    settings = signalled_objective(signal.SIGUSR1)
    run = esd.train("rosenbrock", settings=settings, run=tmp_path, verbose=False)
    assert (run.generation, run.finished) == (1, False)
    assert esd.resume(tmp_path, settings={"generations": 3}, verbose=False).finished
