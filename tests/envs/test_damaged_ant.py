"""The damaged ant: whose body it is, what it measures, what it pays."""

from __future__ import annotations

import math
import pickle
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from esd_envs.damaged_ant import ANKLES, DamagedAnt

RADIUS, LENGTH, DENSITY = 0.08, 0.4 * math.sqrt(2.0), 5.0  # of a lower leg, in the model's file
CAPSULES = dict(zip(ANKLES, ("left", "right", "third", "fourth"), strict=True))
LEGS = pytest.mark.parametrize("leg", ANKLES)


def capsule_mass(fraction: float) -> float:
    """A cylinder and two half spheres [kg]."""
    return DENSITY * math.pi * (RADIUS**2 * LENGTH * fraction + 4.0 / 3.0 * RADIUS**3)


def lower_leg(ant: DamagedAnt, leg: str) -> tuple[Any, Any]:
    """Its geom and its body in the model."""
    geom = ant.model.geom(f"{CAPSULES[leg]}_ankle_geom")
    return geom, ant.model.body(geom.bodyid[0])


def played(
    env: gymnasium.Env[Any, Any], steps: int = 120, seed: int = 3
) -> tuple[np.ndarray, list[Any]]:
    """Observations and infos of an episode of random actions."""
    rng = np.random.default_rng(seed)
    observations, infos = [env.reset(seed=seed)[0]], []
    for _ in range(steps):
        observation, *_, info = env.step(rng.uniform(-1, 1, 8).astype(np.float32))
        observations.append(observation)
        infos.append(info)
    return np.array(observations), infos


@pytest.mark.parametrize("observation", [27, 105])
@pytest.mark.parametrize(
    "kwargs", [{}, {"leg": "front_left", "fraction": 1}, {"leg": "back_left", "damage_step": 500}]
)
def test_an_intact_body_is_that_of_ant_v5_bit_for_bit(
    observation: int, kwargs: dict[str, Any]
) -> None:
    original = gymnasium.make(
        "Ant-v5",
        terminate_when_unhealthy=False,
        include_cfrc_ext_in_observation=observation == 105,
    )
    ours = DamagedAnt(observation=observation, terminate_when_unhealthy=False, **kwargs)
    for seed in (3, 4):
        theirs, infos = played(original, seed=seed)
        mine, own_infos = played(ours, seed=seed)
        assert mine.shape == (121, observation)
        assert np.array_equal(mine, theirs)
        assert [info["x_position"] for info in own_infos] == [info["x_position"] for info in infos]
        velocities = [
            [(i["x_velocity"], i["y_velocity"]) for i in each] for each in (infos, own_infos)
        ]
        assert np.allclose(*velocities, atol=0.1)  # theirs is one substep late
    assert ours.observation_space.shape == (observation,)


@LEGS
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.9])
def test_a_shortened_leg_has_the_length_mass_and_place_of_a_shorter_capsule(
    leg: str, fraction: float
) -> None:
    ant = DamagedAnt(leg=leg, fraction=fraction)
    intact, body = lower_leg(ant, leg)
    position, inertia = intact.pos.copy(), body.inertia.copy()
    assert body.mass[0] == pytest.approx(capsule_mass(1.0))
    ant.reset(seed=1)
    geom, body = lower_leg(ant, leg)
    assert 2 * geom.size[1] == pytest.approx(LENGTH * fraction)
    assert geom.size[0] == RADIUS
    assert geom.pos == pytest.approx(position * fraction)
    assert body.mass[0] == pytest.approx(capsule_mass(fraction))
    assert body.ipos == pytest.approx(position * fraction)
    assert max(body.inertia) < max(inertia) * fraction
    others = [name for name in ANKLES if name != leg]
    assert all(2 * lower_leg(ant, name)[0].size[1] == pytest.approx(LENGTH) for name in others)
    whole = DamagedAnt().model
    lost = capsule_mass(1.0) - capsule_mass(fraction)
    assert ant.model.body_mass.sum() == pytest.approx(whole.body_mass.sum() - lost)
    assert ant.model.body_subtreemass[0] == pytest.approx(whole.body_subtreemass[0] - lost)
    assert ant.model.stat.meaninertia < whole.stat.meaninertia


@LEGS
def test_the_reference_s_damage_is_the_default(leg: str) -> None:
    ant = DamagedAnt(leg=leg)
    ant.reset(seed=1)
    geom, _ = lower_leg(ant, leg)
    assert np.abs(2 * geom.pos[:2]) == pytest.approx([0.1, 0.1])  # its end, from the knee


@LEGS
@pytest.mark.parametrize("damage_step", [0, 30])
def test_a_removed_leg_weighs_nothing_touches_nothing_reads_0_and_its_motor_does_nothing(
    leg: str, damage_step: int
) -> None:
    ant = DamagedAnt(leg=leg, fraction=0.0, damage_step=damage_step, observation=105)
    joint = ant.model.joint(ANKLES[leg])
    angle, velocity = joint.qposadr[0] - 2, 13 + joint.dofadr[0]
    motor = int(np.flatnonzero(ant.model.actuator_trnid[:, 0] == joint.id)[0])
    geom, body = lower_leg(ant, leg)
    forces = slice(27 + 6 * (body.id - 1), 27 + 6 * body.id)
    rng = np.random.default_rng(0)
    for other in (-1.0, 1.0):
        seen = []
        rng = np.random.default_rng(0)
        ant.reset(seed=2)
        for step in range(100):
            action = rng.uniform(-1, 1, 8).astype(np.float32)
            if step >= damage_step:
                action[motor] = other
            seen.append(ant.step(action)[0])
            if step >= damage_step:
                touching = {int(g) for g in np.ravel(ant.data.contact.geom)}
                assert geom.id not in touching
        after = np.array(seen[damage_step:])
        assert not after[:, [angle, velocity]].any()
        assert not after[:, forces].any()
        if other < 0.0:
            before = after
    assert np.array_equal(before, after)
    _, body = lower_leg(ant, leg)
    assert body.mass[0] == 0.0
    assert ant.model.body_mass.sum() == pytest.approx(
        DamagedAnt().model.body_mass.sum() - capsule_mass(1.0)
    )


def test_the_lower_legs_of_an_intact_ant_touch_the_ground_and_are_felt() -> None:
    ant = DamagedAnt(observation=105)
    observations, _ = played(ant, steps=100)
    feet = [lower_leg(ant, leg)[1].id for leg in ANKLES]
    assert all(observations[:, 27 + 6 * (i - 1) : 27 + 6 * i].any() for i in feet)


@pytest.mark.parametrize("fraction", [0.25, 0.0])
def test_damage_begins_with_its_step_and_ends_with_its_episode(fraction: float) -> None:
    whole = DamagedAnt(terminate_when_unhealthy=False)
    ant = DamagedAnt(
        leg="front_left", fraction=fraction, damage_step=30, terminate_when_unhealthy=False
    )
    expected, _ = played(whole)
    observations, _ = played(ant)
    assert np.array_equal(observations[:31], expected[:31])
    assert not np.array_equal(observations[31], expected[31])
    changes = np.abs(np.diff(observations, axis=0))[:, :5].max(axis=1)
    assert changes[30] < 2 * changes.max(), "the torso jumped"
    again, _ = played(ant)
    assert np.array_equal(again, observations)
    early = DamagedAnt(leg="front_left", fraction=fraction, terminate_when_unhealthy=False)
    assert not np.array_equal(played(early)[0][1], expected[1])


@pytest.mark.parametrize("damage_step", [0, 9])
def test_a_reset_leaves_nothing_of_the_last_episode_in_mujoco_s_data(damage_step: int) -> None:
    kwargs = {"leg": "back_right", "fraction": 0.0, "damage_step": damage_step}
    used, fresh = DamagedAnt(**kwargs), DamagedAnt(**kwargs)
    played(used, steps=60, seed=1)
    assert used.data.time > 0.0
    assert used.data.qacc_warmstart.any()
    used.reset(seed=2)
    fresh.reset(seed=2)
    compared = 0
    for name in dir(fresh.data):
        value = getattr(fresh.data, name)
        # constraints lie in an arena whose unused parts are never written
        if not name.startswith(("_", "efc_", "iefc_")) and isinstance(value, np.ndarray):
            assert np.array_equal(getattr(used.data, name), value), name
            compared += 1
    assert compared > 50
    states = []
    for ant in (used, fresh):  # what MuJoCo says a step depends on
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        states.append(np.empty(mujoco.mj_stateSize(ant.model, kind)))
        mujoco.mj_getState(ant.model, ant.data, states[-1], kind)
    assert np.array_equal(*states)
    assert used.data.time == 0.0
    models = [used.model, fresh.model]
    assert np.array_equal(*[m.body_mass for m in models])
    assert np.array_equal(*[m.geom_size for m in models])


@pytest.mark.parametrize("frame_skip", [5, 2])
def test_meters_and_meters_per_second_agree_with_positions(frame_skip: int) -> None:
    ant = DamagedAnt(
        leg="front_right", damage_step=20, frame_skip=frame_skip, terminate_when_unhealthy=False
    )
    _, infos = played(ant)
    seconds = 0.01 * frame_skip
    _, start = ant.reset(seed=3)
    assert (start["distance"], start["speed"]) == (0.0, 0.0)
    _, infos = played(ant)
    final = infos[-1]
    assert final["distance"] == final["x_position"] - start["x_position"]
    assert abs(final["distance"]) > 0.05
    assert sum(i["x_velocity"] for i in infos) * seconds == pytest.approx(final["distance"])
    assert final["speed"] == pytest.approx(final["distance"] / (120 * seconds))
    assert final["x_position"] == ant.data.qpos[0]


def test_the_reward_is_the_forward_velocity_less_the_cost_asked_for() -> None:
    action = np.full(8, 0.5, np.float32)
    for kwargs, weight, cost in (
        ({}, 1.0, 0.0),
        ({"ctrl_cost_weight": 0.5}, 1.0, 0.5 * 8 * 0.25),
        ({"forward_reward_weight": 0.05}, 0.05, 0.0),
    ):
        ant = DamagedAnt(**kwargs)
        ant.reset(seed=1)
        _, reward, terminated, truncated, info = ant.step(action)
        assert reward == pytest.approx(weight * info["x_velocity"] - cost)
        assert (terminated, truncated) == (False, False)
    assert "reward_survive" not in info


def test_an_unhealthy_ant_ends_its_episode_only_if_asked_to() -> None:
    for ends in (True, False):
        ant = DamagedAnt(terminate_when_unhealthy=ends, healthy_z_range=(0.9, 1.0))
        ant.reset(seed=1)
        assert ant.step(np.zeros(8, np.float32))[2] == ends


def test_a_step_limit_of_1000_is_its_own() -> None:
    assert gymnasium.make("esd/DamagedAnt-v0").spec.max_episode_steps == 1000


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"leg": "middle"}, "leg = 'middle': expected none, front_left"),
        ({"fraction": 1.5}, "fraction = 1.5: expected a number from 0 to 1"),
        ({"fraction": "half"}, "fraction = 'half'"),
        ({"fraction": math.nan}, "fraction = nan"),
        ({"damage_step": -1}, "damage_step = -1"),
        ({"damage_step": 2.5}, "damage_step = 2.5"),
        ({"leg": ["front_left"]}, "leg = .'front_left'.: expected none, front_left"),
        ({"frame_skip": 0}, "frame_skip = 0: expected a whole number from 1"),
        ({"frame_skip": -1}, "frame_skip = -1"),
        ({"observation": 28}, "observation = 28: expected 27 or 105"),
    ],
)
def test_what_it_cannot_be_is_said(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DamagedAnt(**kwargs)


@pytest.mark.parametrize("name", ["healthy_reward", "contact_cost_weight", "xml_file", "wheels"])
def test_a_keyword_that_would_have_no_effect_is_refused(name: str) -> None:
    expected = (
        "unexpected keyword" if name == "wheels" else f"{name} = 1.0: can't be changed; it is "
    )
    with pytest.raises(TypeError, match=expected):
        DamagedAnt(**{name: 1.0})


def test_numbers_of_numpy_are_numbers() -> None:
    kwargs = {"damage_step": np.int64(3), "fraction": np.float32(0.5), "frame_skip": np.int64(4)}
    ant = DamagedAnt(leg="back_left", **kwargs)
    ant.reset(seed=0)
    assert ant.dt == pytest.approx(0.04)


def test_a_pickled_copy_is_damaged_alike() -> None:
    ant = DamagedAnt(leg="back_left", fraction=0.5, damage_step=5, frame_skip=4)
    copy = pickle.loads(pickle.dumps(ant))
    assert np.array_equal(played(copy, 20)[0], played(ant, 20)[0])
