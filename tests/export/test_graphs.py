"""ONNX Runtime and PyTorch compute what the policy itself does, step by step, from the files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces

from esd.episodes.rollout import Rollout
from esd.errors import UsageError
from esd.export import matlab, onnx_graph, torch_program
from esd.export.network import network_of
from esd.export.subject import Subject
from esd.policies.base import Traceable
from tests.helpers.exported import subject_of, ten_steps

CARTPOLE = {"id": "CartPole-v1"}
PENDULUM = {"id": "Pendulum-v1", "normalize_observations": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "hebbian": ({"hidden": [7, 5]}, CARTPOLE),
    "hebbian, shared rules": ({"hidden": [5], "rules": 4}, CARTPOLE),
    "hebbian, bounded actions": ({"hidden": [7], "rate": 0.1, "order": "F"}, PENDULUM),
    "hebbian, raw, l2": (
        {"hidden": [6], "output": "raw", "normalization": "l2", "rule": "ABCD_lr_D_in_and_out"},
        PENDULUM,
    ),
    "hebbian, D outside alone": ({"hidden": [6], "rule": "ABCD_lr_D_out", "rate": 0.2}, CARTPOLE),
    "hebbian, A alone, not normalized": (
        {"hidden": [6], "rule": "A", "normalization": "none", "rate": 0.01, "activation": "relu"},
        CARTPOLE,
    ),
    "hebbian, frozen": ({"hidden": [6], "freeze_after": 4}, CARTPOLE),
    "hebbian, coevolved": ({"hidden": [6], "initial_weights": "coevolved", "order": "F"}, CARTPOLE),
    "static": ({"kind": "static", "hidden": [7, 5]}, PENDULUM),
    "static, relu": ({"kind": "static", "hidden": [7], "activation": "relu"}, CARTPOLE),
    "gru": ({"kind": "gru", "units": 5}, CARTPOLE),
    "gru with a clock that learns": (
        {"kind": "gru", "units": 4, "clock": [3, 7], "head": "ABCD_lr", "order": "F"},
        PENDULUM,
    ),
    "convolutions": (
        {"convolutions": True, "hidden": [6], "rate": 0.1},
        {"id": "tests.helpers.exported_worlds:Pictures", "max_steps": 9},
    ),
    "several actions": (
        {"kind": "static", "hidden": [7]},
        {"id": "tests.helpers.exported_worlds:Several", "max_steps": 9},
    ),
    "doubles": (
        {"kind": "static", "hidden": [7]},
        {
            "id": "tests.helpers.exported_worlds:Doubles",
            "max_steps": 9,
            "normalize_observations": True,
        },
    ),
}


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def subject(request: pytest.FixtureRequest) -> Subject:
    policy, env = CASES[request.param]
    return subject_of(policy, env)


def scale_of(subject: Subject) -> float:
    return 255.0 if subject.interface.observation_size > 1000 else 1.0


def in_space(space: gymnasium.Space[Any], found: dict[str, Any], name: str = "action") -> bool:
    """Whether the named parts are in a space, cast to its type."""
    if isinstance(space, spaces.Dict):
        return all(in_space(part, found, f"{name}.{key}") for key, part in space.items())
    return np.asarray(found[name]).astype(space.dtype) in space


def same_action(found: dict[str, Any], action: Any) -> bool:
    """Whether the named parts are an action of the environment's space."""
    if isinstance(action, dict):
        return all(np.allclose(found[f"action.{k}"], a, atol=1e-5) for k, a in action.items())
    return np.shape(found["action"]) == np.shape(action) and np.allclose(
        found["action"], action, atol=1e-5
    )


def test_onnxruntime_takes_the_same_ten_steps(subject: Subject, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'esd-mpi[onnx]'")
    runtime = pytest.importorskip(
        "onnxruntime", reason="needs onnxruntime: pip install onnxruntime"
    )
    path = tmp_path / "policy.onnx"
    onnx_graph.write(path, subject, print)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    observations, actions, outputs, weights = ten_steps(subject, scale_of(subject))
    names = [output.name for output in session.get_outputs()]
    state: dict[str, npt.NDArray[Any]] = {}  # the file's own, in the first step
    for observation, action, expected in zip(observations, actions, outputs, strict=True):
        last = state
        results = session.run(None, {"observation": observation, **state})
        found = dict(zip(names, results, strict=True))
        np.testing.assert_allclose(found["outputs"], expected, atol=1e-5)
        assert same_action(found, action)
        assert in_space(subject.spaces[1], found)
        state = {k.removeprefix("next."): v for k, v in found.items() if k.startswith("next.")}
    for number, layer in enumerate(weights):
        if f"layer{number}.w" in last:
            np.testing.assert_allclose(last[f"layer{number}.w"], layer, atol=1e-5)
    words = session.get_modelmeta().custom_metadata_map
    assert words["h_sha256"] == subject.state.h_sha256()
    assert len(json.loads(words["spaces"])) == 2


def test_pytorch_takes_the_same_ten_steps_from_the_file_alone(
    subject: Subject, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'esd-mpi[torch]'")
    path = tmp_path / "policy.pt2"
    torch_program.write(path, subject, print)
    extra = {torch_program.DESCRIPTION: ""}
    program = torch.export.load(path, extra_files=extra)
    described = json.loads(extra[torch_program.DESCRIPTION])
    assert described["h_sha256"] == subject.state.h_sha256()
    state = {
        name: program.state_dict[f"initial_{name.replace('.', '_')}"] for name in described["state"]
    }
    observations, actions, outputs, _ = ten_steps(subject, scale_of(subject))
    policy = program.module()
    for observation, action, expected in zip(observations, actions, outputs, strict=True):
        found, given, state = policy(torch.from_numpy(observation), state)
        np.testing.assert_allclose(given.numpy(), expected, atol=1e-5)
        assert same_action(found, action)
        assert in_space(subject.spaces[1], found)


def actions_of_module(subject: Subject, path: Path) -> list[dict[str, Any]]:
    """The actions of an exported module in ten steps, after a look that they and its outputs are the policy's."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'esd-mpi[torch]'")
    torch_program.write(path, subject, print)
    policy = torch.export.load(path).module()
    observations, actions, outputs, _ = ten_steps(subject)
    taken = []
    for observation, action, expected in zip(observations, actions, outputs, strict=True):
        found, given, _ = policy(torch.from_numpy(observation), {})
        np.testing.assert_allclose(given.numpy(), expected, atol=1e-5)
        taken.append({name: value.numpy() for name, value in found.items()})
        assert same_action(taken[-1], action)
    return taken


def test_a_module_is_exported_with_its_own_forward_and_one_with_a_memory_is_refused(
    tmp_path: Path,
) -> None:
    env = {"id": "Pendulum-v1", "normalize_observations": True}
    subject = subject_of({"kind": "tests.helpers.exported_modules:TwoLayers"}, env)
    path = tmp_path / "policy.pt2"
    assert len(actions_of_module(subject, path)) == 10
    remembering = subject_of({"kind": "tests.helpers.exported_modules:Remembering"}, env)
    with pytest.raises(UsageError, match=r"has a reset\(\)"):
        torch_program.write(path, remembering, print)


def test_a_module_that_adds_an_axis_is_exported_with_the_outputs_that_it_was_trained_with(
    tmp_path: Path,
) -> None:
    subject = subject_of({"kind": "tests.helpers.exported_modules:Row"}, CARTPOLE)
    for found in actions_of_module(subject, tmp_path / "policy.pt2"):
        assert found["action"].shape == ()


def test_parts_of_an_action_with_names_that_look_alike_keep_their_own_bounds(
    tmp_path: Path,
) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'esd-mpi[torch]'")
    subject = subject_of({"hidden": [3]}, {"id": "tests.helpers.exported_worlds:LookAlike"})
    path = tmp_path / "policy.pt2"
    torch_program.write(path, subject, print)
    policy = torch.export.load(path).module()
    observations, actions, _, _ = ten_steps(subject)
    network = network_of(subject, "torch")
    state = {k: torch.from_numpy(v.copy()) for k, v in network.initial_state().items()}
    for observation, action in zip(observations, actions, strict=True):
        found, _, state = policy(torch.from_numpy(observation), state)
        np.testing.assert_allclose(found["action.a.b"], action["a"]["b"], atol=1e-5)
        np.testing.assert_allclose(found["action.a_b"], action["a_b"], atol=1e-5)


def test_two_parts_of_one_name_are_refused(tmp_path: Path) -> None:
    subject = subject_of({"hidden": [3]}, {"id": "tests.helpers.exported_worlds:Twice"})
    with pytest.raises(
        UsageError, match=r"two parts of the action space are called 'action\.a\.b'"
    ):
        onnx_graph.write(tmp_path / "policy.onnx", subject, print)


@pytest.mark.parametrize("write", [onnx_graph.write, torch_program.write])
def test_a_policy_without_a_graph_is_refused_in_one_line(write: Any, tmp_path: Path) -> None:
    policy = {"kind": "reformer", "width": 4, "head_size": 2}
    with pytest.raises(UsageError, match=r"not supported for policy\.kind = 'reformer'") as refused:
        write(tmp_path / "policy", subject_of(policy, CARTPOLE), print)
    assert len(str(refused.value)) < 300
    assert not (tmp_path / "policy").exists()


def test_updates_of_every_other_step_are_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"policy.every = 2 is not supported"):
        network_of(subject_of({"every": 2}, CARTPOLE), "onnx")


def test_observations_are_read_as_float64_where_training_normalizes_them_from_it() -> None:
    env = {"id": "tests.helpers.exported_worlds:Doubles", "max_steps": 9}
    assert subject_of({}, {**env, "normalize_observations": True}).observation_dtype == "float64"
    assert subject_of({}, env).observation_dtype == "float32"
    assert subject_of({}, PENDULUM).observation_dtype == "float32"


def test_the_network_of_a_run_knows_its_first_state() -> None:
    subject = subject_of({"kind": "gru", "units": 4, "clock": [3], "head": "AD"}, PENDULUM)
    state = network_of(subject, "onnx").initial_state()
    assert [*state] == ["gru.h", "layer0.w", "step"]
    assert not network_of(subject_of({"kind": "static"}, CARTPOLE), "onnx").initial_state()


@pytest.mark.parametrize("draw", ["member", "run"])
def test_the_first_state_is_that_of_the_first_member_where_weights_persist(draw: str) -> None:
    subject = subject_of({"hidden": [4], "draw_weights": draw}, CARTPOLE)
    rollout = Rollout(subject.config)
    (weights,) = {seeds.policy for seeds in rollout.member_seeds(0, 0)}
    rollout.policy.reset(weights)
    expected = [layer.copy() for layer in cast(Traceable, rollout.policy).weights()]
    state = network_of(subject, "onnx").initial_state()
    cells = matlab.example(subject)["initial_weights"]
    for number, layer in enumerate(expected):
        np.testing.assert_array_equal(state[f"layer{number}.w"], layer)
        np.testing.assert_array_equal(cells[number], layer)


def test_without_onnx_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'esd-mpi\[onnx\]'"):
        onnx_graph.write(tmp_path / "p.onnx", subject_of({"kind": "static"}, CARTPOLE), print)
