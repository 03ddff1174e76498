"""Gymnasium's CarRacing-v3 with the same tracks, physics, rewards and rules, drawn by a compiled renderer.

95 % of the original's time goes into painting a picture of 1000×800 pixels and shrinking it to 96×96. Here the small
picture is drawn at once (``kernels.car_picture``): it differs from the original's by a fraction of a gray level. And
the original keeps its Box2D world across resets, whose order of contacts lets one episode leak into the next; here
every episode has a world of its own, so it is what a new CarRacing-v3 would play.
"""

from __future__ import annotations

import math
from typing import Any

import Box2D
import numpy as np
import numpy.typing as npt
from gymnasium import Env
from gymnasium.envs.box2d import car_dynamics, car_racing
from gymnasium.envs.box2d.car_racing import CarRacing, FrictionDetector
from gymnasium.error import InvalidAction, ResetNeeded

from esd_envs.car_renderer import CarRenderer
from esd_envs.kernels import car_track
from esd_envs.keywords import flag, share

Action = npt.NDArray[Any] | int
CHECKPOINTS = 12
STEP_SECONDS = 1.0 / car_racing.FPS
VELOCITY_ITERATIONS, POSITION_ITERATIONS = 6 * 30, 2 * 30
CURB_COLORS = ((255, 255, 255), (255, 0, 0))

_POWER = STEP_SECONDS * car_dynamics.ENGINE_POWER
_GRIP = 205000 * car_dynamics.SIZE * car_dynamics.SIZE


class FastCar(car_dynamics.Car):
    """Gymnasium's car; the same floats with Python's own arithmetic, which is faster on single numbers than numpy's."""

    def gas(self, gas: float) -> None:
        """Press the accelerator, 0 to 1; the rear wheels follow by a tenth per step."""
        gas = 0.0 if gas < 0.0 else 1.0 if gas > 1.0 else gas
        for wheel in self.wheels[2:4]:
            wheel.gas += min(gas - wheel.gas, 0.1)

    def step(self, dt: float) -> None:
        """Push the wheels as steering, engine, brakes and the ground want it; ``dt`` is always 1/50 s."""
        for wheel in self.wheels:
            joint = wheel.joint
            error = wheel.steer - joint.angle
            speed = min(50.0 * abs(error), 3.0)
            joint.motorSpeed = speed if error > 0.0 else -speed if error < 0.0 else error + 0.0

            on_grass, friction_limit = True, car_dynamics.FRICTION_LIMIT * 0.6
            for tile in wheel.tiles:
                friction = car_dynamics.FRICTION_LIMIT * tile.road_friction
                on_grass, friction_limit = False, max(friction_limit, friction)

            side = wheel.GetWorldVector((1, 0))
            velocity = wheel.linearVelocity
            side_x, side_y, velocity_x, velocity_y = side.x, side.y, velocity.x, velocity.y
            forward_x, forward_y = 0.0 - side_y, side_x
            forward_speed = forward_x * velocity_x + forward_y * velocity_y
            side_speed = side_x * velocity_x + side_y * velocity_y

            omega = wheel.omega
            omega += _POWER * wheel.gas / car_dynamics.WHEEL_MOMENT_OF_INERTIA / (abs(omega) + 5.0)
            self.fuel_spent += _POWER * wheel.gas
            if wheel.brake >= 0.9:
                omega = 0.0
            elif wheel.brake > 0:
                slower = min(15 * wheel.brake, abs(omega))  # rad/s
                omega = omega - slower if omega > 0.0 else omega + slower
            wheel.phase += omega * STEP_SECONDS

            forward_force = (omega * wheel.wheel_rad - forward_speed) * _GRIP
            side_force = -side_speed * _GRIP
            force = math.sqrt(forward_force * forward_force + side_force * side_force)
            if force > 2.0 * friction_limit:
                self._skid(wheel, on_grass)
            else:
                wheel.skid_start = wheel.skid_particle = None
            if force > friction_limit:
                forward_force = forward_force / force * friction_limit
                side_force = side_force / force * friction_limit
            wheel.omega = omega - (
                STEP_SECONDS
                * forward_force
                * wheel.wheel_rad
                / car_dynamics.WHEEL_MOMENT_OF_INERTIA
            )
            wheel.ApplyForceToCenter(
                (
                    side_force * side_x + forward_force * forward_x,
                    side_force * side_y + forward_force * forward_y,
                ),
                True,
            )

    def _skid(self, wheel: Any, on_grass: bool) -> None:
        """Leave a trace, which videos show and observations don't."""
        trace = wheel.skid_particle
        if trace and trace.grass == on_grass and len(trace.poly) < 30:
            trace.poly.append((wheel.position[0], wheel.position[1]))
        elif wheel.skid_start is None:
            wheel.skid_start = wheel.position
        else:
            wheel.skid_particle = self._create_particle(wheel.skid_start, wheel.position, on_grass)
            wheel.skid_start = None


class FastCarRacing(CarRacing):
    """CarRacing-v3, drawn many times as fast: the same tracks, physics and rewards.

    Args:
        render_mode: None, "human", "rgb_array" or "state_pixels"; ``render`` draws as the original does. Observations
            come from the compiled renderer in any mode.
        verbose: tell about tracks.
        lap_complete_percent: the share of tiles, in (0, 1], that makes a lap.
        domain_randomize: new colors in every episode.
        continuous: steering, gas and brake; else five actions.
    """

    # "rebuilds_world": nothing of an episode's Box2D world is left in the next
    metadata = {**CarRacing.metadata, "rebuilds_world": True}  # noqa: RUF012
    car: Any
    road: Any

    def __init__(
        self,
        render_mode: str | None = None,
        verbose: bool = False,
        lap_complete_percent: float = 0.95,
        domain_randomize: bool = False,
        continuous: bool = True,
    ) -> None:
        """Build it.

        Raises:
            ValueError: if a mode is unknown or the share of a lap is none.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(
                f"render_mode = {render_mode!r}: expected None or one of {self.metadata['render_modes']}"
            )
        lap_complete_percent = share("lap_complete_percent", lap_complete_percent)
        if lap_complete_percent == 0.0:
            raise ValueError(
                "lap_complete_percent = 0.0: expected a share of the track, above 0 and at most 1"
            )
        super().__init__(
            render_mode,
            flag("verbose", verbose),
            lap_complete_percent,
            flag("domain_randomize", domain_randomize),
            flag("continuous", continuous),
        )
        self.fd_tile.isSensor = True
        self._tile = Box2D.b2BodyDef(fixtures=self.fd_tile)
        self._renderer: CarRenderer | None = None
        self._road_poly: list[Any] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
        """Begin an episode in a new world, on a new track.

        Args:
            seed: of the track, and of the colors if they are randomized.
            options: ``randomize``: false keeps the colors of the last episode.
        """
        Env.reset(self, seed=seed)
        self._destroy()  # or its bodies, which know themselves, would never be freed
        self.world = Box2D.b2World((0, 0))
        # Box2D keeps no reference of its own
        self.world.contactListener_bug_workaround = FrictionDetector(
            self, self.lap_complete_percent
        )
        self.world.contactListener = self.world.contactListener_bug_workaround
        self.reward = self.prev_reward = 0.0
        self.tile_visited_count = 0
        self.t = 0.0
        self.new_lap = False
        if self.domain_randomize:
            self._reinit_colors((options or {}).get("randomize", True))
        while not self._create_track():
            if self.verbose:
                print("this track doesn't close; trying another")
        self.car = FastCar(self.world, *self.track[0][1:4])
        if self._renderer is None:
            self._renderer = CarRenderer(self.car)
        if self.render_mode == "human":
            self.render()
        return self.step(None)[0], {}

    def step(
        self, action: Action | None
    ) -> tuple[npt.NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """One fiftieth of a second; None lets everything roll on and gives no reward.

        Raises:
            InvalidAction: if it isn't three numbers, one of them is NaN, or one of the five when actions are discrete.
            ResetNeeded: before the first reset.
        """
        if self._renderer is None:
            raise ResetNeeded("reset() comes before the first step()")
        car = self.car
        if action is not None:
            self._steer(action)
        car.step(STEP_SECONDS)
        self.world.Step(STEP_SECONDS, VELOCITY_ITERATIONS, POSITION_ITERATIONS)
        self.t += STEP_SECONDS
        self.state = self._renderer.draw(
            car, self.t, self.reward, self._corners, self._colors, self._ground
        )

        reward, terminated = 0.0, False
        info: dict[str, Any] = {}
        if action is not None:
            self.reward -= 0.1
            car.fuel_spent = 0.0
            reward = self.reward - self.prev_reward
            self.prev_reward = self.reward
            if self.tile_visited_count == len(self.track) or self.new_lap:
                terminated = True
                info["lap_finished"] = True
            position = car.hull.position
            if max(abs(position.x), abs(position.y)) > car_racing.PLAYFIELD:
                terminated = True
                info["lap_finished"] = False
                reward = -100.0
        if self.render_mode == "human":
            self.render()
        return self.state, reward, terminated, False, info

    def _steer(self, action: Action) -> None:
        if self.continuous:
            try:
                steer, gas, brake = (float(a) for a in np.asarray(action, np.float64))
                if any(math.isnan(a) for a in (steer, gas, brake)):
                    raise ValueError("NaN")
            except (TypeError, ValueError) as error:
                raise InvalidAction(
                    f"action = {action!r}: expected three numbers, steering, gas and brake"
                ) from error
            self.car.steer(-steer)
            self.car.gas(gas)
            self.car.brake(brake)
            return
        if not self.action_space.contains(action):
            raise InvalidAction(f"action = {action!r}: expected an integer from 0 to 4")
        self.car.steer(-0.6 * (action == 1) + 0.6 * (action == 2))
        self.car.gas(0.2 * (action == 3))
        self.car.brake(0.8 * (action == 4))

    def _create_track(self) -> bool:
        """Lay out a track; false if its ends don't meet."""
        uniform, radius = self.np_random.uniform, car_racing.TRACK_RAD
        checkpoints = np.empty((CHECKPOINTS, 3))
        for c in range(CHECKPOINTS):
            noise = uniform(0, 2 * math.pi * 1 / CHECKPOINTS)
            alpha = 2 * math.pi * c / CHECKPOINTS + noise
            distance = uniform(radius / 3, radius)
            if c == 0:
                alpha, distance = 0.0, 1.5 * radius
            elif c == CHECKPOINTS - 1:
                alpha, distance = 2 * math.pi * c / CHECKPOINTS, 1.5 * radius
            checkpoints[c] = alpha, distance * math.cos(alpha), distance * math.sin(alpha)
        self.start_alpha = 2 * math.pi * (-0.5) / CHECKPOINTS
        self.road = []
        lap = car_track.drive(checkpoints, self.start_alpha)
        if not len(lap):
            return False
        if self.verbose:
            print(f"a track of {len(lap)} tiles")
        self.track = [tuple(point) for point in lap.tolist()]
        self._pave(lap)
        return True

    def _pave(self, lap: npt.NDArray[np.float64]) -> None:
        """Make the road's tiles: bodies of the world, and polygons to draw."""
        self._corners, owners, curbs = car_track.pave(lap)
        self._road_poly = None
        brighter = 0.01 * (owners % 3) * 255
        self._colors = self.road_color + brighter[:, None]
        self._colors[curbs] = np.where(owners[curbs, None] % 2 == 0, *CURB_COLORS)
        self._ground = np.trunc([self.bg_color, self.grass_color]).astype(np.float32)
        shape, world = self.fd_tile.shape, self.world
        for index, polygon in enumerate(np.flatnonzero(~curbs).tolist()):
            shape.vertices = self._corners[polygon].tolist()
            tile = world.CreateBody(self._tile)
            tile.userData = tile
            tile.color = self._colors[polygon]  # a view: touching a tile changes what is drawn
            tile.road_visited = False
            tile.road_friction = 1.0
            tile.idx = index
            self.road.append(tile)

    @property  # made when a video wants it
    def road_poly(self) -> list[Any]:  # type: ignore[override]
        """The road as Gymnasium draws it: corners and color of each polygon."""
        if self._road_poly is None:
            corners = [[tuple(corner) for corner in polygon] for polygon in self._corners.tolist()]
            self._road_poly = list(zip(corners, self._colors, strict=True))
        return self._road_poly
