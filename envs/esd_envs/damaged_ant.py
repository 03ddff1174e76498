"""Gymnasium's Ant (v5) with one damaged leg, paid for forward progress only.

The damage is that of Najarro & Risi 2020 (arXiv 2007.02686), whose quadruped has one lower leg shortened from 0.4 to
0.1 (``fraction = 0.25`` here), at any leg, to any length, and at any step of an episode.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.utils import EzPickle

from esd_envs.keywords import ENDLESS, finite, share, whole
from esd_envs.model_change import ModelChange

# by the model file's names, for which +y is the front. It walks along +x, though: front_left (+x, +y) and back_right
# (+x, −y) lead, front_right (−x, +y) and back_left (−x, −y) follow
ANKLES = {
    "front_left": "ankle_1",
    "front_right": "ankle_2",
    "back_left": "ankle_3",
    "back_right": "ankle_4",
}
OBSERVATIONS = (27, 105)


class DamagedAnt(AntEnv):
    """Ant-v5 with a leg that may be shortened or lost; the reward is the forward velocity in m/s.

    Shortening a lower leg moves the free end of its capsule towards the knee; its mass and inertia are those of the
    shorter capsule of the same density. In the middle of an episode positions and velocities of all joints go on as
    they are: what breaks off takes its momentum along.

    A lower leg that is removed has no mass and touches nothing, its motor does nothing, and its joint reads angle 0
    and velocity 0.

    Attributes:
        reshapes: whether it changes its own body, which ``ChangedBody`` then leaves alone.
        changes_at: the first step with the damage, by the keyword that sets it.
        metadata: as Ant-v5's, and under "results" what ``info`` tells of a whole episode, with units.
    """

    def __init__(
        self,
        leg: str = "none",
        fraction: float = 0.25,
        damage_step: int = 0,
        observation: int = 27,
        forward_reward_weight: float = 1.0,
        ctrl_cost_weight: float = 0.0,
        **kwargs: Any,
    ) -> None:
        """Build it.

        Args:
            leg: "none", "front_left", "front_right", "back_left" or "back_right".
            fraction: of the lower leg's length that is left, 1 (intact) to 0 (removed).
            damage_step: the first step of an episode, counted from 0, that is taken with the damage.
            observation: 27 numbers (positions and velocities) or 105 (and contact forces), as in Ant-v5.
            forward_reward_weight: reward per m/s.
            ctrl_cost_weight: is multiplied by the sum of squares of the action and subtracted.
            kwargs: of Gymnasium's ``AntEnv``: frame_skip, terminate_when_unhealthy, healthy_z_range,
                contact_force_range, reset_noise_scale, render_mode and so on.

        Raises:
            ValueError: naming a keyword whose value is not what is expected.
            TypeError: naming a keyword of ``AntEnv`` that can't be changed here.
        """
        if not isinstance(leg, str) or leg not in ("none", *ANKLES):
            raise ValueError(f"leg = {leg!r}: expected none, {', '.join(ANKLES)}")
        fraction = share("fraction", fraction)
        damage_step = whole("damage_step", damage_step, 0, most=ENDLESS)
        observation = whole("observation", observation, 0)
        if observation not in OBSERVATIONS:
            raise ValueError(f"observation = {observation!r}: expected 27 or 105")
        forward_reward_weight = finite("forward_reward_weight", forward_reward_weight)
        ctrl_cost_weight = finite("ctrl_cost_weight", ctrl_cost_weight)
        if "frame_skip" in kwargs:
            kwargs["frame_skip"] = whole("frame_skip", kwargs["frame_skip"], 1)
        settled: dict[str, Any] = {
            "xml_file": "ant.xml",
            "contact_cost_weight": 0.0,
            "healthy_reward": 0.0,
            "main_body": 1,
            "exclude_current_positions_from_observation": True,
            "include_cfrc_ext_in_observation": observation == 105,
        }
        for name in settled.keys() & kwargs.keys():
            raise TypeError(
                f"{name} = {kwargs[name]!r}: can't be changed; it is {settled[name]!r} in this environment"
            )
        super().__init__(
            forward_reward_weight=forward_reward_weight,
            ctrl_cost_weight=ctrl_cost_weight,
            **settled,
            **kwargs,
        )
        EzPickle.__init__(
            self,
            leg,
            fraction,
            damage_step,
            observation,
            forward_reward_weight,
            ctrl_cost_weight,
            **kwargs,
        )
        self.metadata = {**self.metadata, "results": {"distance": "m", "speed": "m/s"}}
        self.reshapes = leg != "none" and fraction < 1.0
        self.changes_at = {"damage_step": damage_step} if self.reshapes else {}
        self._damage_step = damage_step
        self._fraction = fraction
        self._damaged = False
        if self.reshapes:
            joint = self.model.joint(ANKLES[leg])
            self._position, self._velocity = int(joint.qposadr[0]), int(joint.dofadr[0])
            self._damage = ModelChange(self.model, self._with_shorter(ANKLES[leg]))
        self._steps = 0
        self._start = 0.0

    def _with_shorter(self, ankle: str) -> mujoco.MjModel:
        """Compile the body with a shorter lower leg, which is a single capsule that starts at the joint."""
        specification = mujoco.MjSpec.from_file(self.fullpath)
        joint = specification.joint(ankle)
        (capsule,) = joint.parent.geoms
        if self._fraction > 0.0:
            capsule.fromto[3:] *= self._fraction
            return specification.compile()
        # The joint stays, so that states and observations keep their shapes, but nothing hangs on it. Its armature,
        # which couples to no other joint, keeps its equation solvable without any mass.
        # It collides with nothing: the ground's bit is 1. Without any, bounding volumes would be laid out anew.
        capsule.contype = 2
        capsule.rgba[3] = 0.0
        capsule.mass = 1e-12  # 0 doesn't compile
        joint.limited = mujoco.mjtLimited.mjLIMITED_FALSE
        for actuator in specification.actuators:
            if actuator.target == ankle:
                actuator.gear[:] = 0.0
        model = specification.compile()
        body = int(model.joint(ankle).bodyid[0])
        model.body_mass[body] = model.body_inertia[body] = model.body_subtreemass[body] = 0.0
        return model

    def _break_leg(self) -> None:
        self._damage.apply()
        self._damaged = True

    def _quieten(self, positions: Any, velocities: Any) -> None:
        """A joint without a leg reads 0."""
        if self._damaged and self._fraction == 0.0:
            positions[self._position] = 0.0
            velocities[self._velocity] = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float64], dict[str, Any]]:
        """Begin an episode with the body that it begins with."""
        if self._damaged:
            self._damage.undo()
            self._damaged = False
        if self.reshapes and self._damage_step == 0:
            self._break_leg()
        observation, _ = super().reset(seed=seed, options=options)
        self._steps = 0
        self._start = float(self.data.qpos[0])
        return observation, self._progress()

    def set_state(self, qpos: npt.NDArray[np.float64], qvel: npt.NDArray[np.float64]) -> None:
        """Set positions and velocities of all joints; those of a removed leg stay 0."""
        self._quieten(qpos, qvel)
        super().set_state(qpos, qvel)

    def step(
        self, action: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float64], Any, bool, bool, dict[str, Any]]:
        """Act for ``frame_skip`` frames.

        Returns:
            Observation, reward, whether the ant is unhealthy (if that ends an episode), False, and in ``info``
            positions and the distance from where the episode began [m], velocities over this step and the mean speed
            of the episode so far [m/s], and the parts of the reward.
        """
        if self.reshapes and not self._damaged and self._steps == self._damage_step:
            self._break_leg()
            self._quieten(self.data.qpos, self.data.qvel)
            self._quieten(self.data.qpos, self.data.qacc_warmstart)
        x, y = self.data.qpos[:2].copy()
        self.do_simulation(action, self.frame_skip)
        self._steps += 1
        info = self._progress()
        # by the joint's position, so that velocities add up to the distance; Ant-v5 takes the body's, which MuJoCo
        # computed before its last substep ended
        info["x_velocity"] = (info["x_position"] - x) / self.dt
        info["y_velocity"] = (info["y_position"] - y) / self.dt
        info["reward_forward"] = self._forward_reward_weight * info["x_velocity"]
        info["reward_ctrl"] = -float(self.control_cost(action))
        terminated = self._terminate_when_unhealthy and not self.is_healthy
        if self.render_mode == "human":
            self.render()
        reward = info["reward_forward"] + info["reward_ctrl"]
        return self._get_obs(), reward, bool(terminated), False, info

    def _progress(self) -> dict[str, Any]:
        x, y = self.data.qpos[:2].tolist()
        distance = x - self._start
        speed = distance / (self._steps * self.dt) if self._steps else 0.0
        return {"x_position": x, "y_position": y, "distance": distance, "speed": speed}
