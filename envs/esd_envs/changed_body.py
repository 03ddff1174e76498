"""A wrapper that makes another body, or another world, of any MuJoCo environment: what a policy has not trained on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from esd_envs.compiled_around import StepAround
from esd_envs.compiled_steps import CompiledStep, NotCompiledError
from esd_envs.keywords import ENDLESS, by_part, finite, number, span
from esd_envs.model_change import ModelChange, read_specification, scale_mass
from esd_envs.nested_changes import Changes, ModelFactors, NestedChanges, Scaled

Factors = Mapping[str, float]
Float64s = npt.NDArray[np.float64]

LENGTHS = {  # which sizes of a geom are lengths along it: capsules and cylinders keep their radius
    mujoco.mjtGeom.mjGEOM_SPHERE: slice(0, 1),
    mujoco.mjtGeom.mjGEOM_CAPSULE: slice(1, 2),
    mujoco.mjtGeom.mjGEOM_CYLINDER: slice(1, 2),
    mujoco.mjtGeom.mjGEOM_ELLIPSOID: slice(0, 3),
    mujoco.mjtGeom.mjGEOM_BOX: slice(0, 3),
}
# actuators whose force is linear in these parameters: motors, servos and dampers
LINEAR_GAINS = {int(mujoco.mjtGain.mjGAIN_FIXED), int(mujoco.mjtGain.mjGAIN_AFFINE)}
LINEAR_BIASES = {int(mujoco.mjtBias.mjBIAS_NONE), int(mujoco.mjtBias.mjBIAS_AFFINE)}


class ChangedBody(gymnasium.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """A MuJoCo environment whose body or world is changed from a step of each episode on.

    A part is a body of the model or a geom. Scaling a body scales the lengths of its geoms and where its children
    hang, both away from the body's joint; a geom is scaled alone. Densities stay, so masses and inertias follow.
    Factors of nested wrappers multiply.

    Attributes:
        reshapes: whether it changes lengths or masses.
        changes_at: the first step that may be changed, by the keyword that sets it.
        nested_changes: what this wrapper and those within it change of the model.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, Any],
        scale: Factors | None = None,
        mass: Factors | None = None,
        friction: float | Factors = 1.0,
        gravity: float = 1.0,
        actuators: float | Factors = 1.0,
        sensor_noise: float = 0.0,
        at_step: int | Sequence[int] = 0,
    ) -> None:
        """Compile the changed body.

        Args:
            env: a Gymnasium environment with MuJoCo's ``model`` (and for ``scale`` and ``mass`` its ``fullpath``).
            scale: factors on lengths, by part.
            mass: factors on masses and inertias, by part.
            friction: factor on all friction coefficients of all geoms, or factors by part. Two geoms in contact have
                the larger coefficients of both, unless the model gives one of them priority.
            gravity: factor.
            actuators: factor on the force of all actuators, or factors by actuator (or its joint, if it has no name).
            sensor_noise: standard deviation of Gaussian noise on each number of each observation, in its own unit,
                drawn from the environment's own generator.
            at_step: the first step of an episode, counted from 0, that is taken with the change; or the first and the
                last of the steps among which it is drawn in every episode, from the environment's own generator.

        Raises:
            ValueError: if a name or a number is not what is expected, or the environment can't be changed so.
        """
        RecordConstructorArgs.__init__(
            self,
            scale=scale,
            mass=mass,
            friction=friction,
            gravity=gravity,
            actuators=actuators,
            sensor_noise=sensor_noise,
            at_step=at_step,
        )
        gymnasium.Wrapper.__init__(self, env)
        if not isinstance(getattr(env.unwrapped, "model", None), mujoco.MjModel):
            raise ValueError(f"{type(env.unwrapped).__name__} is not a MuJoCo environment")
        self._scale, self._mass = (
            by_part(name, value, number) for name, value in (("scale", scale), ("mass", mass))
        )
        self._friction = (
            by_part("friction", friction, _not_negative)
            if isinstance(friction, Mapping)
            else _not_negative("friction", friction)
        )
        self._gravity = finite("gravity", gravity)
        self._actuators = (
            by_part("actuators", actuators, finite)
            if isinstance(actuators, Mapping)
            else finite("actuators", actuators)
        )
        self._noise = _not_negative("sensor_noise", sensor_noise)
        self._first, self._last = span("at_step", at_step, 0, most=ENDLESS)
        space = env.observation_space
        if self._noise and not (
            isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating)
        ):
            raise ValueError(f"sensor_noise: expected a Box of floats to add it to, not {space}")
        self.reshapes = bool(self._scale or self._mass)
        self.changes_at = {"at_step": self._first}
        self._at_step = self._first
        self._steps = 0
        self._find_changes()

    def _find_changes(self) -> None:
        """Find what is to be changed in the model of the environment, which others may have changed already."""
        env = self.env
        self._model: mujoco.MjModel = env.unwrapped.model  # type: ignore[attr-defined]
        self.nested_changes: NestedChanges = (
            env.get_wrapper_attr("nested_changes")
            if env.has_wrapper_attr("nested_changes")
            else NestedChanges()
        )
        with self.nested_changes.intact():
            self._factors = self._other_world(self._friction, self._gravity, self._actuators)
            self._body = [self._other_body(self._scale, self._mass)] if self.reshapes else []
        self._changes: Changes = [self._factors, *self._body]
        self.nested_changes.add(self._changes)

    def __getstate__(self) -> dict[str, Any]:
        """All but the changes, which are of this model: a copied environment has another."""
        ours = ("_model", "_factors", "_body", "_changes", "nested_changes")
        state = {name: value for name, value in vars(self).items() if name not in ours}
        now = copy.copy(self._model)
        with self.nested_changes.intact():
            intact = copy.copy(self._model)
        applied = self.nested_changes.has_applied(self._changes)
        return {**state, "_copied": (now, intact, applied)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Change the model of the copied environment, which may be a new one or a copy."""
        now, intact, applied = state.pop("_copied")
        vars(self).update(state)
        ModelChange(self.env.unwrapped.model, intact, now).apply()  # type: ignore[attr-defined]
        self._find_changes()
        if applied:
            self.nested_changes.apply(self._changes)

    def _other_world(
        self, friction: float | Factors, gravity: float, actuators: float | Factors
    ) -> ModelFactors:
        """Factors on what needs no compiling."""
        model, everything = self._model, slice(None)
        factors: list[Scaled] = [(model.opt.gravity, everything, gravity)]
        if isinstance(friction, Mapping):
            factors += [
                (model.geom_friction, self._geoms("friction", part), factor)
                for part, factor in friction.items()
            ]
        else:
            factors.append((model.geom_friction, everything, friction))
            factors.append((model.pair_friction, everything, friction))
        names = [self._actuator_name(i) for i in range(model.nu)]
        for name, factor in (
            actuators if isinstance(actuators, Mapping) else dict.fromkeys(names, actuators)
        ).items():
            if name not in names:
                raise ValueError(f"actuators: no {name!r}; there are {', '.join(names)}")
            i = names.index(name)
            linear = (
                int(model.actuator_gaintype[i]) in LINEAR_GAINS
                and int(model.actuator_biastype[i]) in LINEAR_BIASES
            )
            if not linear and factor != 1.0:
                raise ValueError(
                    f"actuators: {name!r} has no linear force that could be scaled (a muscle?)"
                )
            factors.append((model.actuator_gainprm, i, factor))
            factors.append((model.actuator_biasprm, i, factor))
        return ModelFactors(factors)

    def _actuator_name(self, i: int) -> str:
        model = self._model
        name = model.actuator(i).name
        if not name and int(model.actuator_trntype[i]) == int(mujoco.mjtTrn.mjTRN_JOINT):
            name = model.joint(model.actuator_trnid[i, 0]).name
        return name or f"actuator {i}"

    def _geoms(self, what: str, part: str) -> list[int]:
        """The geoms of a body, or the one geom of that name."""
        model = self._model
        bodies = [model.body(i).name for i in range(model.nbody)]
        geoms = [model.geom(i).name for i in range(model.ngeom)]
        if part in bodies:
            return np.flatnonzero(model.geom_bodyid == bodies.index(part)).tolist()
        if part in geoms:
            return [geoms.index(part)]
        if what != "friction":  # the world has no length and no mass
            geoms = [geoms[i] for i in np.flatnonzero(model.geom_bodyid)]
        known = dict.fromkeys(name for name in [*bodies[1:], *geoms] if name)
        raise ValueError(f"{what}: no part {part!r}; there are {', '.join(known)}")

    def _other_body(self, scale: Factors, mass: Factors) -> ModelChange:
        """Compile the body with other lengths and masses.

        Raises:
            ValueError: if there is no such part, or the body can't be changed so.
        """
        if self.env.has_wrapper_attr("reshapes") and self.env.get_wrapper_attr("reshapes"):
            raise ValueError(
                "scale and mass: the body within is changed already; give all its changes to one wrapper"
            )
        path = getattr(self.env.unwrapped, "fullpath", None)
        if path is None:
            raise ValueError(
                "scale and mass: expected an environment that knows its model's file, as fullpath"
            )
        for what, factors in (("scale", scale), ("mass", mass)):
            for part in factors:
                if 0 in self._model.geom_bodyid[self._geoms(what, part)]:
                    raise ValueError(f"{what}: {part!r} is part of the world, not of a body")

        intact, edited = (read_specification(self._model, path) for _ in range(2))
        for part, factor in scale.items():
            self._scale_part(edited, part, factor)
        for part, factor in mass.items():
            body = edited.body(part)
            for geom in body.geoms if body is not None else [edited.geom(part)]:
                self._require_mass_of_geoms(edited, geom.parent)
                scale_mass(geom, factor)
        return ModelChange(self._model, edited.compile(), intact.compile())

    def _scale_part(self, specification: mujoco.MjSpec, part: str, factor: float) -> None:
        body = specification.body(part)
        if body is None:
            geom = specification.geom(part)
            self._require_mass_of_geoms(specification, geom.parent)
            self._scale_geom(geom, factor, self._anchor(geom.parent))
            return
        self._require_mass_of_geoms(specification, body)
        anchor = self._anchor(body)
        for geom in body.geoms:
            self._scale_geom(geom, factor, anchor)
        for site in body.sites:
            site.pos += (factor - 1.0) * (site.pos - anchor)
        for child in body.bodies:
            # a child hangs on its joint, which need not be at its origin (as in Walker2d)
            joint = np.empty(3)
            mujoco.mju_rotVecQuat(joint, self._anchor(child), self._model.body_quat[child.id])
            child.pos += (factor - 1.0) * (child.pos + joint - anchor)

    def _anchor(self, body: mujoco.MjsBody) -> Float64s:
        """Where a body's joint is, in its own frame [m]; the origin of one that hangs on the world or is welded."""
        joints = self._model.body(body.id).jntadr
        if joints[0] < 0 or self._model.body_parentid[body.id] == 0:
            return np.zeros(3)
        anchor: Float64s = self._model.jnt_pos[joints[0]].copy()
        return anchor

    @staticmethod
    def _scale_geom(geom: mujoco.MjsGeom, factor: float, anchor: Float64s) -> None:
        if geom.type not in LENGTHS:
            raise ValueError(f"scale: {geom.name!r} is a {geom.type.name}, which has no length")
        if np.isnan(geom.fromto[0]):
            geom.pos += (factor - 1.0) * (geom.pos - anchor)
            geom.size[LENGTHS[geom.type]] *= factor
        else:
            ends = geom.fromto.reshape(2, 3)
            geom.fromto = (ends + (factor - 1.0) * (ends - anchor)).ravel()

    @staticmethod
    def _require_mass_of_geoms(specification: mujoco.MjSpec, body: mujoco.MjsBody) -> None:
        """Refuse a body whose inertia doesn't follow from its geoms, or whose parts are placed by a frame.

        Raises:
            ValueError: naming the body.
        """
        from_geoms = specification.compiler.inertiafromgeom
        if not from_geoms or (
            from_geoms == mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO and body.explicitinertial
        ):
            raise ValueError(
                f"scale and mass: {body.name!r} defines its own inertia, which does not follow from its geoms"
            )
        if any(part.frame is not None for part in [*body.geoms, *body.sites, *body.bodies]):
            raise ValueError(f"scale and mass: parts of {body.name!r} are placed by a frame")

    def _sensed(self, observation: Any) -> Any:
        if not self._noise or self._steps < self._at_step:
            return observation
        noise = self.env.unwrapped.np_random.normal(0.0, self._noise, observation.shape)
        return (observation + noise).astype(observation.dtype)

    @property
    def changes_only_at_reset(self) -> bool:
        """Whether a step is the environment's own: nothing breaks in the middle, no noise is added."""
        return self._last == 0 and self._noise == 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with the body that it begins with, whatever became of the last one."""
        self.nested_changes.undo(self._changes)
        if self._last == 0:
            self.nested_changes.apply(self._changes)
        self._steps = 0
        observation, info = self.env.reset(seed=seed, options=options)
        if self._first < self._last:
            drawn = self.env.unwrapped.np_random.integers(self._first, self._last, endpoint=True)
            self._at_step = int(drawn)
        return self._sensed(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act, changed or not yet."""
        if self._steps == self._at_step and self._last:
            self.nested_changes.apply(self._changes)
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps += 1
        return self._sensed(observation), reward, terminated, truncated, info

    def compiled_around(self, inside: Any) -> StepAround:
        """See ``compiled_around.GoesAround``."""
        from esd_envs.kernels import around

        if self._noise:
            raise NotCompiledError("the wrapper ChangedBody adds sensor_noise to every observation")
        if not isinstance(inside, StepAround | CompiledStep) or (self.reshapes and inside.weighs):
            raise NotCompiledError("the wrapper ChangedBody changes its steps")
        try:
            factors = self._factors.doubles()
            written = [pair for body in self._body for pair in body.doubles()]
        except ValueError as error:
            raise NotCompiledError(str(error)) from error
        table = [(len(factors), 0.0), *factors, *written]
        return _Changing(self, inside, around.step_changing.address, table)


class _Changing(StepAround):
    """The step that changes a body."""

    def __init__(
        self,
        wrapper: ChangedBody,
        inside: StepAround | CompiledStep,
        step_address: int,
        table: Sequence[tuple[int | float, float]],
    ) -> None:
        """Prepare the step of a wrapper."""
        from esd_envs.kernels import around

        super().__init__(inside, step_address, table, inside.observation, around.CHANGING_STATE)
        self._wrapper, self._kernels = wrapper, around

    def begin(self) -> None:
        """See ``StepAround``."""
        super().begin()
        self.state[self._kernels.STEPS] = 0.0
        self.state[self._kernels.CHANGES_AT] = self._wrapper._at_step


def _not_negative(name: str, value: Any) -> float:
    return number(name, value, zero=True)
