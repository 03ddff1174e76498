"""Cart pole and pendulum as C functions: one that begins an episode, and one that makes a step of it.

The equations are those of Gymnasium's CartPole-v1 (Barto, Sutton & Anderson 1983; Florian 2007, "Correct equations for
the dynamics of the cart-pole system") and Pendulum-v1, operation by operation, so that the same actions give the same
episodes up to the last bits of sin and cos. Initial states come from a hash of the seed, SplitMix64 (Steele, Lea &
Flood 2014): a new PCG64 for every episode would cost as much as a hundred steps.

The signatures are those that ``esd_envs.compiled`` describes. Angles are radians, everything else SI units.
"""

from __future__ import annotations

import math

import numpy as np

from esd_envs.kernels import RESET, STEP, c_function, inlined

f32, f64, u64 = np.float32, np.float64, np.uint64

# what the cart pole is told
(
    POLE_HALF_LENGTH, POLE_MASS, CART_MASS, CART_GRAVITY, FORCE, CART_SIGN, CART_LOW, CART_HIGH,
    CART_PARAMETERS,
) = range(9)  # fmt: skip
# position, velocity, angle, angular velocity; then the force of action 1 in this episode
CART_STATE = 5
TAU = 0.02  # s
FARTHEST, STEEPEST = 2.4, 12 * 2 * math.pi / 360

# what the pendulum is told
(
    LENGTH, MASS, GRAVITY, MAX_TORQUE, SIGN, ANGLE_BOUND, SPEED_BOUND, PENDULUM_PARAMETERS,
) = range(8)  # fmt: skip
# angle from upright, angular velocity; then the sign of the torque in this episode
PENDULUM_STATE = 3
DT = 0.05  # s
FASTEST = 8.0


@inlined
def _mix(seed, draw):
    """A random uint64 named by a seed and the number of the draw."""
    z = u64(seed) * u64(0xD1342543DE82EF95) + u64(draw + 1) * u64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> u64(30))) * u64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> u64(27))) * u64(0x94D049BB133111EB)
    return z ^ (z >> u64(31))


@inlined
def _uniform(seed, draw, low, high):
    """A random float64 in [low, high)."""
    return low + (high - low) * (f64(_mix(seed, draw) >> u64(11)) * 2.0**-53)


@inlined
def _drawn_sign(sign, seed, draw):
    """The sign itself, or for 0 a random one."""
    if sign == 0.0:
        return 1.0 if _mix(seed, draw) >> u64(63) else -1.0
    return sign


@c_function(RESET)
def reset_cart_pole(seed, parameters, state, observation):
    """Position, angle and their velocities uniform between the bounds; 5th of the state: what action 1 pushes with."""
    for i in range(4):
        state[i] = _uniform(seed, i, parameters[CART_LOW], parameters[CART_HIGH])
        observation[i] = f32(state[i])
    state[4] = parameters[FORCE] * _drawn_sign(parameters[CART_SIGN], seed, 4)
    return 0


@c_function(STEP)
def step_cart_pole(action, parameters, state, observation, reward):
    """Push for 0.02 s (action above ½: one way, else the other) and see if the pole has fallen; reward 1."""
    x, velocity, angle, spin = state[0], state[1], state[2], state[3]
    force = state[4] if action[0] > f32(0.5) else -state[4]
    length, pole_mass = parameters[POLE_HALF_LENGTH], parameters[POLE_MASS]
    total_mass = pole_mass + parameters[CART_MASS]
    moment = pole_mass * length
    cosine, sine = math.cos(angle), math.sin(angle)
    push = (force + moment * (spin * spin) * sine) / total_mass
    angular = (parameters[CART_GRAVITY] * sine - cosine * push) / (
        length * (4.0 / 3.0 - pole_mass * (cosine * cosine) / total_mass)
    )
    linear = push - moment * angular * cosine / total_mass
    state[0] = x + TAU * velocity
    state[1] = velocity + TAU * linear
    state[2] = angle + TAU * spin
    state[3] = spin + TAU * angular
    for i in range(4):
        observation[i] = f32(state[i])
    reward[0] = 1.0
    return (
        state[0] < -FARTHEST or state[0] > FARTHEST or state[2] < -STEEPEST or state[2] > STEEPEST
    )


@inlined
def _show(state, observation):
    observation[0] = f32(math.cos(state[0]))
    observation[1] = f32(math.sin(state[0]))
    observation[2] = f32(state[1])


@c_function(RESET)
def reset_pendulum(seed, parameters, state, observation):
    """Angle and angular velocity uniform between the bounds; third of the state: the sign of the torque."""
    state[0] = _uniform(seed, 0, -parameters[ANGLE_BOUND], parameters[ANGLE_BOUND])
    state[1] = _uniform(seed, 1, -parameters[SPEED_BOUND], parameters[SPEED_BOUND])
    state[2] = _drawn_sign(parameters[SIGN], seed, 2)
    _show(state, observation)
    return 0


@c_function(STEP)
def step_pendulum(action, parameters, state, observation, reward):
    """Turn for 0.05 s; the reward is minus the cost of angle, speed and torque before. Never ends.

    As in Gymnasium, what is computed with the torque alone has single precision, that of actions. (Its square is by
    numpy's power there, once in 2,000 times one bit off: 2e-10 of a reward.)
    """
    angle, speed = state[0], state[1]
    length, mass = parameters[LENGTH], parameters[MASS]
    bound = f32(parameters[MAX_TORQUE])
    torque = min(max(action[0], -bound), bound)
    off = (angle + math.pi) % (2.0 * math.pi) - math.pi
    reward[0] = -(off * off + 0.1 * (speed * speed) + f64(f32(0.001) * (torque * torque)))
    turned = f32(3.0 / (mass * (length * length))) * (f32(state[2]) * torque)
    pull = 3.0 * parameters[GRAVITY] / (2.0 * length) * math.sin(angle)
    speed = min(max(speed + (pull + f64(turned)) * DT, -FASTEST), FASTEST)
    state[0] = angle + speed * DT
    state[1] = speed
    _show(state, observation)
    return 0
