"""Gymnasium's classic control and tables as C functions: each is the environment's own ``step`` or ``reset``.

That includes numpy's rules of types: what Gymnasium computes in float32 is float32 here. A square by ``**`` is C's pow,
which is not always the rounded product; with a constant 2 LLVM would multiply, so 2 stands in ``parameters``.
``state`` is the environment's own, written before the first step. Angles are radians, everything else SI units.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from esd_envs.kernels import RESET, STEP, c_function, inlined
from esd_envs.kernels.numpy_random import seeded, uniform

f32, f64 = np.float32, np.float64

(
    FORCE, MOMENT, TOTAL_MASS, GRAVITY, LENGTH, POLE_MASS, TAU, FARTHEST, STEEPEST, SEMI_IMPLICIT, REWARD, LAST_REWARD,
    CART_PARAMETERS,
) = range(13)  # fmt: skip
CART_STATE = 4


@c_function(STEP)
def step_cart_pole(action, parameters, state, observation, reward):
    """CartPole-v1."""
    x, velocity, angle, spin = state[0], state[1], state[2], state[3]
    force = parameters[FORCE] if action[0] > f32(0.5) else -parameters[FORCE]
    cosine, sine = math.cos(angle), math.sin(angle)
    moment, mass, tau = parameters[MOMENT], parameters[TOTAL_MASS], parameters[TAU]
    push = (force + moment * (spin * spin) * sine) / mass
    angular = (parameters[GRAVITY] * sine - cosine * push) / (
        parameters[LENGTH] * (4.0 / 3.0 - parameters[POLE_MASS] * (cosine * cosine) / mass)
    )
    linear = push - moment * angular * cosine / mass
    if parameters[SEMI_IMPLICIT] != 0.0:
        velocity = velocity + tau * linear
        x = x + tau * velocity
        spin = spin + tau * angular
        angle = angle + tau * spin
    else:
        x = x + tau * velocity
        velocity = velocity + tau * linear
        angle = angle + tau * spin
        spin = spin + tau * angular
    state[0], state[1], state[2], state[3] = x, velocity, angle, spin
    for i in range(4):
        observation[i] = f32(state[i])
    far, steep = parameters[FARTHEST], parameters[STEEPEST]
    over = x < -far or x > far or angle < -steep or angle > steep
    reward[0] = parameters[LAST_REWARD] if over else parameters[REWARD]
    return over


@c_function(RESET)
def reset_cart_pole(seed, parameters, state, observation):
    """CartPole-v1."""
    random, increment = seeded(seed)
    for i in range(CART_STATE):
        state[i], random = uniform(random, increment, -0.05, 0.05 - -0.05)
        observation[i] = f32(state[i])
    return 0


# 3·g / (2·l), 3 / (m·l²) and 2
PULL, TURN, DT, MAX_TORQUE, MAX_SPEED, TWO, PENDULUM_PARAMETERS = range(7)
PENDULUM_STATE = 2


@c_function(STEP)
def step_pendulum(action, parameters, state, observation, reward):
    """Pendulum-v1."""
    angle, speed = state[0], state[1]
    bound, fastest, two = f32(parameters[MAX_TORQUE]), parameters[MAX_SPEED], parameters[TWO]
    torque = min(max(action[0], -bound), bound)
    off = (angle + math.pi) % (2.0 * math.pi) - math.pi
    effort = f32(0.001) * math.pow(torque, f32(two))
    reward[0] = -(math.pow(off, two) + 0.1 * math.pow(speed, two) + f64(effort))
    turned = f32(parameters[TURN]) * torque
    speed = speed + (parameters[PULL] * math.sin(angle) + f64(turned)) * parameters[DT]
    speed = min(max(speed, -fastest), fastest)
    state[0], state[1] = angle + speed * parameters[DT], speed
    observation[0] = f32(math.cos(state[0]))
    observation[1] = f32(math.sin(state[0]))
    observation[2] = f32(speed)
    return 0


@c_function(RESET)
def reset_pendulum(seed, parameters, state, observation):
    """Pendulum-v1."""
    random, increment = seeded(seed)
    state[0], random = uniform(random, increment, -math.pi, math.pi - -math.pi)
    state[1], random = uniform(random, increment, -1.0, 1.0 - -1.0)
    observation[0] = f32(math.cos(state[0]))
    observation[1] = f32(math.sin(state[0]))
    observation[2] = f32(state[1])
    return 0


# of both mountain cars; the push is the force of one and the power of the other
LOWEST, HIGHEST, FASTEST, GOAL, GOAL_SPEED, PUSH, SLOPE, CAR_PARAMETERS = range(8)
CAR_STATE = 3  # position, velocity, and whether they are still float64


@c_function(RESET)
def reset_mountain_car(seed, parameters, state, observation):
    """MountainCar-v0 and MountainCarContinuous-v0."""
    random, increment = seeded(seed)
    state[0], random = uniform(random, increment, -0.6, -0.4 - -0.6)
    state[1], state[2] = 0.0, 1.0
    observation[0], observation[1] = f32(state[0]), f32(0.0)
    return 0


@c_function(STEP)
def step_mountain_car(action, parameters, state, observation, reward):
    """MountainCar-v0."""
    position, speed = state[0], state[1]
    fastest = parameters[FASTEST]
    speed += (f64(action[0]) - 1.0) * parameters[PUSH] + math.cos(3.0 * position) * (
        -parameters[SLOPE]
    )
    speed = min(max(speed, -fastest), fastest)
    position = min(max(position + speed, parameters[LOWEST]), parameters[HIGHEST])
    if position == parameters[LOWEST] and speed < 0.0:
        speed = 0.0
    state[0], state[1] = position, speed
    observation[0], observation[1] = f32(position), f32(speed)
    reward[0] = -1.0
    return position >= parameters[GOAL] and speed >= parameters[GOAL_SPEED]


def _driven(kind):
    """The car's step in one type of number: the first is float64, all others are float32."""

    def driven(force, position, speed, parameters):
        lowest, highest = kind(parameters[LOWEST]), kind(parameters[HIGHEST])
        fastest = kind(parameters[FASTEST])
        # the cosine is a Python float beside a float32
        pull = f32(parameters[SLOPE] * math.cos(f64(kind(3.0) * position)))
        speed = kind(speed + kind(force * f32(parameters[PUSH]) - pull))
        if speed > fastest:
            speed = fastest
        if speed < -fastest:
            speed = -fastest
        position = kind(position + speed)
        if position > highest:
            position = highest
        if position < lowest:
            position = lowest
        if position == lowest and speed < kind(0.0):
            speed = kind(0.0)
        over = position >= kind(parameters[GOAL]) and speed >= kind(parameters[GOAL_SPEED])
        return f64(position), f64(speed), over

    return inlined(driven)


_driven_first, _driven_then = _driven(f64), _driven(f32)


@c_function(STEP)
def step_mountain_car_continuous(action, parameters, state, observation, reward):
    """MountainCarContinuous-v0, whose state is float32 from the first step on."""
    if state[2] != 0.0:
        position, speed, over = _driven_first(action[0], state[0], state[1], parameters)
        state[2] = 0.0
    else:
        position, speed, over = _driven_then(action[0], f32(state[0]), f32(state[1]), parameters)
    observation[0], observation[1] = f32(position), f32(speed)
    state[0], state[1] = f64(observation[0]), f64(observation[1])
    force = f64(action[0])
    reward[0] = (100.0 if over else 0.0) - force * force * 0.1
    return over


(
    MASS_1, MASS_2, LENGTH_1, CENTER_1, CENTER_2, INERTIA, MAX_SPEED_1, MAX_SPEED_2, STEP_SECONDS, TORQUES, FROM_PAPER,
    EXPONENT,
    ACROBOT_PARAMETERS,
) = (*range(10), 12, 13, 14)  # fmt: skip
ACROBOT_STATE = 4


@inlined
def _accelerations(angle_1, angle_2, speed_1, speed_2, torque, p):
    """Of both links."""
    m1, m2, l1, lc1, lc2, inertia = (
        p[MASS_1], p[MASS_2], p[LENGTH_1], p[CENTER_1], p[CENTER_2], p[INERTIA],
    )  # fmt: skip
    g, two = 9.8, p[EXPONENT]
    squared_1, squared_2, squared_l = math.pow(lc1, two), math.pow(lc2, two), math.pow(l1, two)
    d1 = (
        m1 * squared_1
        + m2 * (squared_l + squared_2 + 2.0 * l1 * lc2 * math.cos(angle_2))
        + inertia
        + inertia
    )
    d2 = m2 * (squared_2 + l1 * lc2 * math.cos(angle_2)) + inertia
    phi2 = m2 * lc2 * g * math.cos(angle_1 + angle_2 - math.pi / 2.0)
    phi1 = (
        -m2 * l1 * lc2 * math.pow(speed_2, two) * math.sin(angle_2)
        - 2.0 * m2 * l1 * lc2 * speed_2 * speed_1 * math.sin(angle_2)
        + (m1 * lc1 + m2 * l1) * g * math.cos(angle_1 - math.pi / 2.0)
        + phi2
    )
    below = m2 * squared_2 + inertia - math.pow(d2, two) / d1
    if p[FROM_PAPER] != 0.0:
        second = (torque + d2 / d1 * phi1 - phi2) / below
    else:
        second = (
            torque
            + d2 / d1 * phi1
            - m2 * l1 * lc2 * math.pow(speed_1, two) * math.sin(angle_2)
            - phi2
        ) / below
    return -(d2 * second + phi1) / d1, second


@inlined
def _wrapped(angle):
    turn = math.pi - -math.pi
    while angle > math.pi:
        angle = angle - turn
    while angle < -math.pi:
        angle = angle + turn
    return angle


@c_function(STEP)
def step_acrobot(action, parameters, state, observation, reward):
    """Acrobot-v1: one step of Runge and Kutta's."""
    torque = parameters[TORQUES + int(action[0])]
    dt = parameters[STEP_SECONDS]
    half = dt / 2.0
    a, b, u, v = state[0], state[1], state[2], state[3]
    u1, v1 = u, v
    du1, dv1 = _accelerations(a, b, u, v, torque, parameters)
    u2, v2 = u + half * du1, v + half * dv1
    du2, dv2 = _accelerations(a + half * u1, b + half * v1, u2, v2, torque, parameters)
    u3, v3 = u + half * du2, v + half * dv2
    du3, dv3 = _accelerations(a + half * u2, b + half * v2, u3, v3, torque, parameters)
    u4, v4 = u + dt * du3, v + dt * dv3
    du4, dv4 = _accelerations(a + dt * u3, b + dt * v3, u4, v4, torque, parameters)
    sixth = dt / 6.0
    a = _wrapped(a + sixth * (u1 + 2.0 * u2 + 2.0 * u3 + u4))
    b = _wrapped(b + sixth * (v1 + 2.0 * v2 + 2.0 * v3 + v4))
    u = u + sixth * (du1 + 2.0 * du2 + 2.0 * du3 + du4)
    v = v + sixth * (dv1 + 2.0 * dv2 + 2.0 * dv3 + dv4)
    u = min(max(u, -parameters[MAX_SPEED_1]), parameters[MAX_SPEED_1])
    v = min(max(v, -parameters[MAX_SPEED_2]), parameters[MAX_SPEED_2])
    state[0], state[1], state[2], state[3] = a, b, u, v
    observation[0], observation[1] = f32(math.cos(a)), f32(math.sin(a))
    observation[2], observation[3] = f32(math.cos(b)), f32(math.sin(b))
    observation[4], observation[5] = f32(u), f32(v)
    over = -math.cos(a) - math.cos(b + a) > 1.0
    reward[0] = 0.0 if over else -1.0
    return over


@intrinsic
def _next_double(typingctx, function, generator):
    """Draw from one of numpy's bit generators, by the addresses of its function and its state."""

    def generate(context, builder, signature, arguments):
        from llvmlite import ir

        function, generator = arguments
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.DoubleType(), [pointer])
        return builder.call(
            builder.inttoptr(function, kind.as_pointer()), [builder.inttoptr(generator, pointer)]
        )

    return types.float64(types.int64, types.int64), generate


# sizes, then four tables [state, action, outcome]: cumulated probability, next state, reward, end
ACTIONS, OUTCOMES, STATES, TABLES = range(4)
PLACE, FUNCTION, GENERATOR, TABLE_STATE = range(4)


@c_function(STEP)
def step_table(action, parameters, state, observation, reward):
    """FrozenLake-v1, CliffWalking-v1 and Taxi-v3: one of an action's outcomes; the observation is one-hot."""
    actions, outcomes = int(parameters[ACTIONS]), int(parameters[OUTCOMES])
    count = int(parameters[STATES]) * actions * outcomes
    addresses = carray(state, TABLE_STATE).view(np.int64)
    place = int(addresses[PLACE])
    row = TABLES + (place * actions + int(action[0])) * outcomes
    draw = _next_double(addresses[FUNCTION], addresses[GENERATOR])
    chosen = 0  # as argmax has it where no probability is above the draw
    for i in range(outcomes):
        if parameters[row + i] > draw:
            chosen = i
            break
    observation[place] = f32(0.0)
    place = int(parameters[row + count + chosen])
    observation[place] = f32(1.0)
    addresses[PLACE] = place
    reward[0] = parameters[row + 2 * count + chosen]
    return parameters[row + 3 * count + chosen] != 0.0
