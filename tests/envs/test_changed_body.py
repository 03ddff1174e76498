"""The wrapper: what is asked for arrives in the model, and is gone with the episode."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv

from esd.config.experiment_files import read_experiment
from esd.config.tables import parse
from esd.episodes.rollout import Rollout
from esd.episodes.seeds import EpisodeSeeds
from esd_envs import ChangedBody
from esd_envs.damaged_ant import DamagedAnt

IDS = ("HalfCheetah-v5", "Walker2d-v5", "Hopper-v5", "Ant-v5")
EVERYWHERE = pytest.mark.parametrize("id", IDS)
PAGE = Path(__file__).parent.parent.parent / "docs" / "worlds.md"


def made(id: str, **kwargs: Any) -> tuple[ChangedBody, mujoco.MjModel, mujoco.MjModel]:
    """A wrapped environment after a reset, its model, and the model of one that isn't wrapped."""
    env = ChangedBody(gymnasium.make(id, disable_env_checker=True), **kwargs)
    env.reset(seed=1)
    return env, env.unwrapped.model, gymnasium.make(id).unwrapped.model


def played(env: gymnasium.Env[Any, Any], steps: int = 15) -> np.ndarray:
    """Observations of an episode of random actions."""
    rng = np.random.default_rng(0)
    size = env.action_space.shape
    seen = [env.reset(seed=3)[0]]
    seen += [env.step(rng.uniform(-1, 1, size).astype(np.float32))[0] for _ in range(steps)]
    return np.array(seen)


@EVERYWHERE
def test_factors_of_1_change_no_bit(id: str) -> None:
    expected = played(gymnasium.make(id))
    name = gymnasium.make(id).unwrapped.model.geom(2).name
    same = {name: 1.0}
    for kwargs in ({}, {"scale": same, "mass": same, "friction": 1.0, "sensor_noise": 0}):
        assert np.array_equal(played(made(id, **kwargs)[0]), expected)


@EVERYWHERE
def test_gravity_friction_and_actuators_arrive_in_the_model(id: str) -> None:
    _, model, plain = made(id, gravity=1.5, friction=0.5, actuators=0.7)
    assert np.array_equal(model.opt.gravity, plain.opt.gravity * 1.5)
    assert model.opt.gravity[2] < -14
    assert np.array_equal(model.geom_friction, plain.geom_friction * 0.5)
    assert np.array_equal(model.actuator_gainprm, plain.actuator_gainprm * 0.7)


@EVERYWHERE
def test_a_weaker_motor_gives_less_force(id: str) -> None:
    env, model, _ = made(id, actuators=0.7)
    plain = gymnasium.make(id)
    plain.reset(seed=1)
    action = np.ones(env.action_space.shape, np.float32)
    for each in (env, plain):
        each.step(action)
    assert env.unwrapped.data.actuator_force == pytest.approx(
        0.7 * plain.unwrapped.data.actuator_force
    )
    assert np.array_equal(model.actuator_gear, plain.unwrapped.model.actuator_gear)


def test_a_reversed_motor_does_with_an_action_what_the_other_does_with_its_opposite() -> None:
    reversed_motors = {"bshin": -1.0, "ffoot": -1.0}
    env, _, _ = made("HalfCheetah-v5", actuators=reversed_motors)
    plain = gymnasium.make("HalfCheetah-v5")
    assert np.array_equal(env.reset(seed=3)[0], plain.reset(seed=3)[0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        opposite = action * np.array([1, -1, 1, 1, 1, -1], np.float32)
        assert np.array_equal(env.step(action)[0], plain.step(opposite)[0])


def test_the_reversed_cheetahs_of_training_are_balanced_and_none_is_tested() -> None:
    """Of any three motors each of the eight combinations is trained on twice."""
    env = parse(read_experiment("cheetah-reversed")[1], "cheetah-reversed").env
    motors = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
    ways: dict[bool, list[tuple[bool, ...]]] = {False: [], True: []}
    for variant in env.variants:
        (changed,) = [wrapper.kwargs for wrapper in variant.wrappers or ()] or [{}]
        factors = changed.get("actuators", {})
        assert set(factors) <= set(motors)
        ways[variant.unseen].append(tuple(factors.get(motor, 1.0) < 0 for motor in motors))
    for three in itertools.combinations(range(6), 3):
        counted = Counter(tuple(way[i] for i in three) for way in ways[False])
        assert sorted(counted.values()) == [2] * 8
    assert len(ways[True]) == len({*ways[True]}) == 13
    assert not {*ways[True]} & {*ways[False]}


def test_single_parts_and_actuators_are_changed_by_name() -> None:
    _, model, plain = made("Walker2d-v5", friction={"foot": 0.5}, actuators={"leg_joint": 0.2})
    changed = np.flatnonzero((model.geom_friction != plain.geom_friction).any(axis=1))
    assert [model.geom(i).name for i in changed] == ["foot_geom"]
    assert model.geom("foot_geom").friction[0] == pytest.approx(0.95)
    assert model.actuator_gainprm[:, 0].tolist() == [1.0, 0.2, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("id", "part", "geom", "radius"),
    [
        ("HalfCheetah-v5", "bshin", "bshin", 0.046),
        ("Walker2d-v5", "leg", "leg_geom", 0.04),
        ("Hopper-v5", "thigh", "thigh_geom", 0.05),
        ("Ant-v5", "left_ankle_geom", "left_ankle_geom", 0.08),
    ],
)
@pytest.mark.parametrize("factor", [0.5, 1.4])
def test_a_scaled_part_has_the_length_and_mass_of_that_capsule_and_no_other_mass_changes(
    id: str, part: str, geom: str, radius: float, factor: float
) -> None:
    _, model, plain = made(id, scale={part: factor})
    body = plain.geom(geom).bodyid[0]
    half = plain.geom(geom).size[1]
    assert model.geom(geom).size[:2] == pytest.approx([radius, half * factor])
    joint = plain.jnt_pos[plain.body(body).jntadr[0]]
    places = [m.geom(geom).pos - joint for m in (model, plain)]
    assert places[0] == pytest.approx(factor * places[1])

    def volume(half_length: float) -> float:
        return math.pi * radius**2 * (2 * half_length + 4.0 / 3.0 * radius)

    masses = plain.body_mass.copy()
    masses[body] *= volume(half * factor) / volume(half)
    assert model.body_mass == pytest.approx(masses)
    assert np.flatnonzero(model.body_mass != plain.body_mass).tolist() == [body]
    assert (model.body_inertia[body] < plain.body_inertia[body]).all() == (factor < 1.0)


def joint_places(model: mujoco.MjModel) -> np.ndarray:
    """Where the joints are in the model's first pose, [joint, 3]."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    places: np.ndarray = data.xanchor.copy()
    return places


@pytest.mark.parametrize(
    ("id", "part", "above", "below"),
    [
        ("HalfCheetah-v5", "bshin", "bshin", "bfoot"),
        ("Walker2d-v5", "thigh", "thigh_joint", "leg_joint"),
        ("Walker2d-v5", "leg", "leg_joint", "foot_joint"),
        ("Humanoid-v5", "right_thigh", "right_hip_x", "right_knee"),
    ],
)
def test_what_hangs_on_a_scaled_part_moves_with_its_end(
    id: str, part: str, above: str, below: str
) -> None:
    _, model, plain = made(id, scale={part: 0.6})
    a, b = plain.joint(above).id, plain.joint(below).id
    old, new = joint_places(plain), joint_places(model)
    assert new[a] == pytest.approx(old[a])
    assert new[b] - new[a] == pytest.approx(0.6 * (old[b] - old[a]))
    rest = slice(b + 1, b + 2)  # a joint further down goes along
    if plain.jnt_bodyid[b] in plain.body_parentid[plain.jnt_bodyid[rest]]:
        assert (new - old)[rest] == pytest.approx((new - old)[[b]])


def test_a_site_goes_along_with_the_end_that_it_marks() -> None:
    env, model, plain = made("InvertedDoublePendulum-v5", scale={"pole2": 0.5})
    assert model.site("tip").pos == pytest.approx(0.5 * plain.site("tip").pos)
    assert env.unwrapped.data.site("tip").xpos[2] == pytest.approx(0.6 + 0.3, abs=0.02)


def test_the_wrapper_shortens_an_ant_s_leg_as_the_damaged_ant_does() -> None:
    _, model, _ = made("Ant-v5", scale={"left_ankle_geom": 0.25})
    ant = DamagedAnt(leg="front_left", fraction=0.25)
    ant.reset(seed=1)
    for name in ("geom_size", "geom_pos", "body_mass", "body_inertia", "body_ipos", "geom_rbound"):
        assert getattr(model, name) == pytest.approx(getattr(ant.model, name)), name


def test_masses_are_scaled_by_body_or_geom() -> None:
    _, model, plain = made("HalfCheetah-v5", mass={"torso": 2.0, "bfoot": 3.0})
    factors = model.body_mass[1:] / plain.body_mass[1:]
    assert factors == pytest.approx([2, 1, 1, 3, 1, 1, 1])
    assert model.body("torso").inertia == pytest.approx(2 * plain.body("torso").inertia)
    assert np.array_equal(model.geom_size, plain.geom_size)
    _, model, plain = made("HalfCheetah-v5", mass={"head": 2.0})
    assert 1.0 < model.body("torso").mass[0] / plain.body("torso").mass[0] < 2.0


@EVERYWHERE
def test_a_change_begins_with_its_step_and_ends_with_its_episode(id: str) -> None:
    name = gymnasium.make(id).unwrapped.model.geom(2).name
    kwargs = {"scale": {name: 0.8}, "gravity": 0.5, "sensor_noise": 0.01, "at_step": 6}
    env, model, plain = made(id, **kwargs)
    expected, seen = played(gymnasium.make(id)), played(env)
    assert np.array_equal(seen[:6], expected[:6])
    assert not np.array_equal(seen[6], expected[6]), "what step 6 acts on is noisy already"
    assert not np.array_equal(model.geom_size, plain.geom_size)
    assert np.array_equal(played(env), seen)
    env.reset(seed=1)
    for name in ("geom_size", "geom_rbound", "body_mass", "body_inertia", "dof_invweight0"):
        assert np.array_equal(getattr(model, name), getattr(plain, name)), name
    assert np.array_equal(model.opt.gravity, plain.opt.gravity)
    assert model.stat.meaninertia == plain.stat.meaninertia


def test_sensor_noise_is_gaussian_of_that_deviation_and_the_episode_s_own() -> None:
    env, *_ = made("HalfCheetah-v5", sensor_noise=0.05)
    plain = gymnasium.make("HalfCheetah-v5")
    noise = played(env, 400) - played(plain, 400)
    assert noise.dtype == np.float64
    assert noise.std() == pytest.approx(0.05, rel=0.03)
    assert abs(noise.mean()) < 0.003
    assert np.array_equal(played(env, 400) - played(plain, 400), noise)
    first, second = (env.reset(seed=seed)[0] - plain.reset(seed=seed)[0] for seed in (1, 2))
    assert not np.array_equal(first, second)


def gravities(env: gymnasium.Env[Any, Any], steps: int) -> list[float]:
    """The factor on gravity in each step of an episode."""
    env.reset(seed=1)
    found = []
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape, np.float32))
        found.append(env.unwrapped.model.opt.gravity[2] / -9.81)
    return found


@pytest.mark.parametrize("inner", [0, 2, 3])
@pytest.mark.parametrize("outer", [0, 2, 4])
def test_factors_of_nested_wrappers_multiply_whichever_comes_first(inner: int, outer: int) -> None:
    within = ChangedBody(gymnasium.make("Hopper-v5"), gravity=2.0, at_step=inner)
    env = ChangedBody(within, gravity=0.25, at_step=outer)
    expected = [
        (2.0 if step >= inner else 1.0) * (0.25 if step >= outer else 1.0) for step in range(6)
    ]
    for _ in range(2):
        assert gravities(env, 6) == expected
    assert gravities(within, 6)[-1] == 0.5, "a reset of the inner one alone leaves the outer one's"


def test_every_kind_of_factor_multiplies_in_nested_wrappers() -> None:
    within = made("Hopper-v5", friction=0.5, actuators=0.5, mass={"foot": 2.0})[0]
    env = ChangedBody(within, friction={"foot": 4.0}, actuators={"leg_joint": 0.0}, gravity=-1.0)
    for _ in range(2):
        env.reset(seed=1)
        model, plain = env.unwrapped.model, gymnasium.make("Hopper-v5").unwrapped.model
        factors = model.geom_friction / plain.geom_friction
        feet = model.geom_bodyid == model.body("foot").id
        assert (factors[feet] == 2.0).all()
        assert (factors[~feet] == 0.5).all()
        assert model.actuator_gainprm[:, 0].tolist() == [0.5, 0.0, 0.5]
        assert model.body("foot").mass == pytest.approx(2 * plain.body("foot").mass)
        assert model.opt.gravity[2] == 9.81


def test_variants_change_the_body_that_the_environment_has_changed() -> None:
    env = {
        "id": "HalfCheetah-v5",
        "max_steps": 20,
        "wrappers": [{"id": "esd_envs:ChangedBody", "kwargs": {"gravity": 1.2, "friction": 0.8}}],
        "variants": [
            {
                "name": what,
                "wrappers": [{"id": "esd_envs:ChangedBody", "kwargs": {what: factor}}],
            }
            for what, factor in (("gravity", 1.0), ("friction", 0.01), ("actuators", 0.5))
        ],
    }
    rollout = Rollout(parse({"env": env, "policy": {"hidden": [6]}}, "variants"))
    seeds = [EpisodeSeeds(1, 1, variant) for variant in range(3)]
    outcome = rollout.evaluate(rollout.policy.initial_parameters(0), seeds)
    assert len({*outcome.returns}) == 3
    assert not np.isnan(outcome.returns).any()


@pytest.mark.parametrize("reshaped", ["wrapper", "ant"])
def test_a_later_factor_leaves_the_inertia_of_a_body_with_other_parts(reshaped: str) -> None:
    within: gymnasium.Env[Any, Any] = DamagedAnt(leg="front_left")
    if reshaped == "wrapper":
        within = ChangedBody(gymnasium.make("HalfCheetah-v5"), scale={"bshin": 0.5})
    env = ChangedBody(within, gravity=3.0, at_step=2)
    for _ in range(2):
        env.reset(seed=1)
        changed = env.unwrapped.model.stat.meaninertia
        for _ in range(4):
            env.step(np.zeros(env.action_space.shape, np.float32))
        assert env.unwrapped.model.stat.meaninertia == changed


def test_wrapping_an_environment_in_the_middle_of_an_episode_changes_nothing_yet() -> None:
    within, model, plain = made("Hopper-v5", gravity=2.0)
    env = ChangedBody(within, gravity=3.0)
    assert model.opt.gravity[2] == 2 * plain.opt.gravity[2]
    assert gravities(env, 2) == pytest.approx([6.0, 6.0])


def test_wrappers_and_a_damaged_ant_within_each_other_come_and_go_in_peace() -> None:
    ant = DamagedAnt(leg="front_left", fraction=0.0, damage_step=4)
    before = {name: getattr(ant.model, name).copy() for name in ("body_mass", "geom_friction")}
    env = ChangedBody(ChangedBody(ant, gravity=2.0), friction=0.5, actuators=0.5, at_step=6)
    first = played(env)
    assert ant.model.opt.gravity[2] == pytest.approx(2 * -9.81)
    assert ant.model.actuator_gainprm[:, 0].tolist() == [0.5] * 8
    assert not np.array_equal(ant.model.body_mass, before["body_mass"])
    assert np.array_equal(played(env), first)
    env.reset(seed=1)
    for name, value in before.items():
        assert np.array_equal(getattr(ant.model, name), value)


@pytest.mark.parametrize(
    ("id", "kwargs", "message"),
    [
        ("Hopper-v5", {"scale": {"tors": 2.0}}, "scale: no part 'tors'; there are .*torso, .*foot"),
        ("Hopper-v5", {"mass": {"arm": 2.0}}, "mass: no part 'arm'"),
        ("Hopper-v5", {"friction": {"arm": 2.0}}, "friction: no part 'arm'"),
        ("Hopper-v5", {"actuators": {"arm": 2.0}}, "actuators: no 'arm'; there are thigh_joint, "),
        ("Hopper-v5", {"scale": {"foot": 0.0}}, "scale.foot = 0.0: expected a number above 0"),
        ("Hopper-v5", {"scale": {"floor": 2.0}}, "'floor' is part of the world"),
        ("Hopper-v5", {"mass": {"foot": -1.0}}, "mass.foot = -1.0"),
        ("Hopper-v5", {"friction": "low"}, "friction = 'low': expected a number"),
        ("Hopper-v5", {"scale": 0.5}, "scale = 0.5: expected numbers by part, such as"),
        ("Hopper-v5", {"gravity": math.nan}, "gravity = nan"),
        ("Hopper-v5", {"gravity": True}, "gravity = True"),
        ("Hopper-v5", {"sensor_noise": -0.1}, "sensor_noise = -0.1"),
        ("Hopper-v5", {"at_step": -1}, "at_step = -1: expected a whole number from 0 on"),
        ("Hopper-v5", {"at_step": 1.5}, "at_step = 1.5: expected a whole number from 0 on"),
        ("CartPole-v1", {"gravity": 1.5}, "CartPoleEnv is not a MuJoCo environment"),
    ],
)
def test_what_it_cannot_do_is_said(id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChangedBody(gymnasium.make(id), **kwargs)


def test_numbers_of_numpy_are_numbers() -> None:
    kwargs = {
        "gravity": np.int64(2),
        "friction": np.float32(1.5),
        "mass": {"foot": np.float64(2.0)},
        "at_step": np.int64(1),
    }
    plain = {"gravity": 2.0, "friction": 1.5, "mass": {"foot": 2.0}, "at_step": 1}
    assert np.array_equal(
        played(made("Hopper-v5", **kwargs)[0]), played(made("Hopper-v5", **plain)[0])
    )


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}


class WithoutEzPickle(HopperEnv):
    """Copied with the model as it is at this time, which a wrapper may have changed."""

    def __init__(self) -> None:
        super().__init__()
        self.mujoco_renderer = None  # nobody can copy it

    __getstate__ = object.__getstate__

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("world", ["Hopper-v5", "esd/DamagedAnt-v0", "without EzPickle"])
@pytest.mark.parametrize("at_step", [0, 4])
def test_a_copy_plays_the_changed_body_whenever_it_was_made(
    way: str, world: str, at_step: int
) -> None:
    def nested() -> ChangedBody:
        kwargs = {"leg": "front_left", "damage_step": 3} if "Ant" in world else {}
        own: gymnasium.Env[Any, Any] = (
            WithoutEzPickle() if "without" in world else gymnasium.make(world, **kwargs)
        )
        reshaped = {} if "Ant" in world else {"mass": {"foot": 3.0}}
        return ChangedBody(ChangedBody(own, gravity=2.0, **reshaped), gravity=0.7, at_step=at_step)

    env = nested()
    expected = played(env)
    assert not np.array_equal(expected, played(nested().env))
    for copied in (COPIES[way](nested()), COPIES[way](env)):
        assert np.array_equal(played(copied), expected)
        assert copied.unwrapped.model is not env.unwrapped.model
    assert np.array_equal(played(env), expected)


def test_a_body_is_reshaped_by_one_wrapper_only() -> None:
    inner = ChangedBody(gymnasium.make("Hopper-v5"), mass={"foot": 2.0})
    with pytest.raises(ValueError, match="one wrapper"):
        ChangedBody(inner, scale={"leg": 0.5})
    with pytest.raises(ValueError, match="changed already"):
        ChangedBody(DamagedAnt(leg="front_left"), mass={"torso": 2.0})
    ChangedBody(DamagedAnt(), mass={"torso": 2.0})
    ChangedBody(inner, gravity=0.5)


class OfXml(gymnasium.Env[Any, Any]):
    """A MuJoCo environment from a file of its own."""

    def __init__(self, path: Path, body: str, actuator: str = "", contact: str = "") -> None:
        path.write_text(
            f"<mujoco><worldbody><body name='arm'>{body}</body></worldbody>"
            f"<actuator>{actuator}</actuator><contact>{contact}</contact></mujoco>"
        )
        self.fullpath = str(path)
        self.model = mujoco.MjModel.from_xml_path(self.fullpath)
        self.observation_space = gymnasium.spaces.Dict()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Nothing moves."""
        return {}, {}


HINGE = "<joint name='shoulder'/>"
ROD = "<geom name='rod' type='capsule' size='0.1 0.3'/>"


@pytest.mark.parametrize(
    ("body", "kwargs", "message"),
    [
        (
            f"{HINGE}<inertial pos='0 0 0' mass='1' diaginertia='1 1 1'/>{ROD}",
            {"scale": {"arm": 2.0}},
            "'arm' defines its own inertia",
        ),
        (f"{HINGE}<frame pos='1 0 0'>{ROD}</frame>", {"scale": {"rod": 2.0}}, "by a frame"),
        (f"{HINGE}{ROD}", {"actuators": 0.5}, "'pull' has no linear force"),
        (f"{HINGE}{ROD}", {"sensor_noise": 0.5}, "expected a Box of floats"),
    ],
)
def test_bodies_it_would_get_wrong_are_refused(
    body: str, kwargs: dict[str, Any], message: str, tmp_path: Path
) -> None:
    muscle = "<muscle name='pull' joint='shoulder' lengthrange='0.1 1'/>"
    with pytest.raises(ValueError, match=message):
        ChangedBody(OfXml(tmp_path / "model.xml", body, muscle), **kwargs)


def test_friction_changes_also_where_a_pair_of_geoms_has_its_own(tmp_path: Path) -> None:
    hand = "<body name='hand'><geom name='palm' size='0.1'/></body>"
    pair = "<pair geom1='rod' geom2='palm' friction='3 2 1 0.5 0.25'/>"
    env = OfXml(tmp_path / "model.xml", f"{HINGE}{ROD}{hand}", contact=pair)
    ChangedBody(env, friction=0.5).reset()
    assert env.model.pair_friction.tolist() == [[1.5, 1.0, 0.5, 0.25, 0.125]]


def test_a_servo_whose_damping_follows_from_the_mass_is_not_scaled_as_well(tmp_path: Path) -> None:
    servo = "<position name='pull' joint='shoulder' kp='5' dampratio='1'/>"
    env = OfXml(tmp_path / "model.xml", f"{HINGE}{ROD}", servo)
    mass, force = {"mass": {"arm": 2.0}}, {"actuators": 0.5}
    message = "scale and mass change the damping of a servo, which actuators scales"
    with pytest.raises(ValueError, match=message):
        ChangedBody(env, **mass, **force)
    for inner, outer in ((mass, force), (force, mass)):
        with pytest.raises(ValueError, match=message):
            ChangedBody(ChangedBody(env, **inner), **outer)
    ChangedBody(ChangedBody(env, **mass), gravity=0.5)


EXAMPLES = [
    text
    for text in re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    if "[env" in text
    and "my_worlds" not in text  # those of a package of one's own have their own test
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: text.split('"')[1])
def test_the_page_s_examples_run(example: str) -> None:
    config = parse({"policy": {"hidden": [6]}, **tomllib.loads(example)}, "docs/worlds.md")
    rollout = Rollout(config)
    h = rollout.policy.initial_parameters(0)
    assert rollout.evaluate(h, [EpisodeSeeds(1, 1)], limit=5).steps == 5


def test_the_page_shows_the_wrapper_on_the_environments_asked_for() -> None:
    for id in ("HalfCheetah-v5", "Walker2d-v5"):
        assert any(id in text and "ChangedBody" in text for text in EXAMPLES)
