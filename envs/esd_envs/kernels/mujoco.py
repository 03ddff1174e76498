"""Steps of Gymnasium's MuJoCo environments as C functions, which call MuJoCo's own by their addresses.

Each is the environment's own ``step``, operation by operation, so that the same actions give the same bits: a sum of
float32 stays one of float32, and sums of more than eight numbers are added in numpy's order. What a step works on are
MuJoCo's own arrays, by their addresses, which stand as integers in ``parameters``.

Positions are m and rad, velocities m/s and rad/s.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from esd_envs.kernels import c_function, inlined

f32, f64 = np.float32, np.float64

_DOUBLES, _FLOATS = types.CPointer(types.float64), types.CPointer(types.float32)
STEP = types.int64(_FLOATS, _DOUBLES, _DOUBLES, _DOUBLES, _DOUBLES)  # observations are float64

# what stands in parameters: addresses, as the bits of integers
(
    MJ_STEP, MJ_RNE, MODEL, DATA, QPOS, QVEL, CTRL, CFRC_EXT, CINERT, CVEL, QFRC_ACTUATOR, QFRC_CONSTRAINT, BODY_MASS,
    XIPOS, XPOS, SITE_XPOS,
    ADDRESSES,
) = range(17)  # fmt: skip
# then sizes, settings of the simulation, and what an environment has of its own
NQ, NV, NU, NBODY, FRAME_SKIP, DT, OWN = range(ADDRESSES, ADDRESSES + 7)


@intrinsic
def doubles_at(typingctx, address):
    """The doubles at an address, as a pointer."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return _DOUBLES(types.int64), generate


@intrinsic
def _call(typingctx, function, model, data):
    """Call a function of MuJoCo's with a model and its data, by their addresses."""

    def generate(context, builder, signature, arguments):
        from llvmlite import ir

        pointer = ir.IntType(8).as_pointer()
        function, model, data = arguments
        kind = ir.FunctionType(ir.VoidType(), [pointer, pointer])
        builder.call(
            builder.inttoptr(function, kind.as_pointer()),
            [builder.inttoptr(model, pointer), builder.inttoptr(data, pointer)],
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


@inlined
def _addresses(parameters):
    return carray(parameters, ADDRESSES).view(np.int64)


@inlined
def _array(addresses, which, size):
    return carray(doubles_at(addresses[which]), size)


@inlined
def _simulate(action, parameters, addresses):
    """``do_simulation``; what comes of contact forces is computed only by those whose ``step`` looks at it."""
    ctrl = _array(addresses, CTRL, int(parameters[NU]))
    for i in range(ctrl.size):
        ctrl[i] = f64(action[i])
    for _ in range(int(parameters[FRAME_SKIP])):
        _call(addresses[MJ_STEP], addresses[MODEL], addresses[DATA])


@inlined
def _clipped(value, low, high):
    """``np.clip``: NaN stays NaN."""
    if value < low:
        return low
    if value > high:
        return high
    return value


@inlined
def _block_sum(values, start, size):
    """The sum of at most 128 numbers in numpy's order: eight partial sums, then what is left."""
    if size < 8:
        total = values[start]
        for i in range(1, size):
            total += values[start + i]
        return total
    r0, r1, r2, r3 = values[start], values[start + 1], values[start + 2], values[start + 3]
    r4, r5, r6, r7 = values[start + 4], values[start + 5], values[start + 6], values[start + 7]
    last = size - size % 8
    for i in range(start + 8, start + last, 8):
        r0 += values[i]
        r1 += values[i + 1]
        r2 += values[i + 2]
        r3 += values[i + 3]
        r4 += values[i + 4]
        r5 += values[i + 5]
        r6 += values[i + 6]
        r7 += values[i + 7]
    total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
    for i in range(start + last, start + size):
        total += values[i]
    return total


@inlined
def _sum(values, size):
    """``np.sum`` of up to 256 numbers, bit for bit."""
    if size <= 128:
        return _block_sum(values, 0, size)
    half = size // 2 - size // 2 % 8
    return _block_sum(values, 0, half) + _block_sum(values, half, size - half)


@inlined
def _effort(action, parameters, state):
    """``weight * np.sum(np.square(action))``, which is float32 as the action is."""
    size = int(parameters[NU])
    squares = carray(state, size).view(np.float32)
    for i in range(size):
        squares[i] = action[i] * action[i]
    return f32(parameters[CTRL_COST]) * _sum(squares, size)


@inlined
def _sum_of_squares(values, low, high, state):
    """``np.sum(np.square(np.clip(values, low, high)))``."""
    for i in range(values.size):
        value = _clipped(values[i], low, high)
        state[i] = value * value
    return _sum(state, values.size)


# of all: the weight of effort in the cost, and how many positions an observation leaves out
CTRL_COST, SKIPPED = OWN, OWN + 1
OTHERS = OWN + 2


@inlined
def _observe(parameters, addresses, observation, bound):
    """Positions and velocities, which are clipped to ±bound; returns where they end."""
    qpos = _array(addresses, QPOS, int(parameters[NQ]))
    qvel = _array(addresses, QVEL, int(parameters[NV]))
    end = 0
    for i in range(int(parameters[SKIPPED]), qpos.size):
        observation[end] = qpos[i]
        end += 1
    for i in range(qvel.size):
        observation[end] = _clipped(qvel[i], -bound, bound)
        end += 1
    return end


@inlined
def _within(value, bounds):
    return bounds[0] < value and value < bounds[1]


FORWARD = OTHERS
CHEETAH_PARAMETERS = SWIMMER_PARAMETERS = FORWARD + 1


@c_function(STEP)
def step_half_cheetah(action, parameters, state, observation, reward):
    """HalfCheetah-v5, and Swimmer-v5: paid for the velocity along x, less effort; they never end."""
    addresses = _addresses(parameters)
    qpos = _array(addresses, QPOS, 1)
    before = qpos[0]
    _simulate(action, parameters, addresses)
    velocity = (qpos[0] - before) / parameters[DT]
    _observe(parameters, addresses, observation, math.inf)
    reward[0] = parameters[FORWARD] * velocity - f64(_effort(action, parameters, state))
    return 0


(
    HEALTHY_REWARD, TERMINATES, LOW_STATE, HIGH_STATE, LOW_Z, HIGH_Z, LOW_ANGLE, HIGH_ANGLE, BOUND,
    HOPPER_PARAMETERS,
) = range(FORWARD + 1, FORWARD + 11)  # fmt: skip


@c_function(STEP)
def step_hopper(action, parameters, state, observation, reward):
    """Hopper-v5 and Walker2d-v5 (whose states have no bounds): they end when they are unhealthy."""
    addresses = _addresses(parameters)
    qpos = _array(addresses, QPOS, int(parameters[NQ]))
    qvel = _array(addresses, QVEL, int(parameters[NV]))
    before = qpos[0]
    _simulate(action, parameters, addresses)
    velocity = (qpos[0] - before) / parameters[DT]
    _observe(parameters, addresses, observation, parameters[BOUND])
    given = carray(parameters, HOPPER_PARAMETERS)
    healthy = _within(qpos[1], given[LOW_Z:]) and _within(qpos[2], given[LOW_ANGLE:])
    low, high = given[LOW_STATE], given[HIGH_STATE]
    if low != -math.inf or high != math.inf:
        for i in range(2, qpos.size):
            healthy = healthy and low < qpos[i] and qpos[i] < high
        for i in range(qvel.size):
            healthy = healthy and low < qvel[i] and qvel[i] < high
    alive = parameters[HEALTHY_REWARD] if healthy else 0.0
    cost = _effort(action, parameters, state)
    reward[0] = (parameters[FORWARD] * velocity + alive) - f64(cost)
    return not healthy and parameters[TERMINATES] != 0.0


(
    ANT_HEALTHY_REWARD, ANT_TERMINATES, ANT_LOW_Z, ANT_HIGH_Z, CONTACT_COST, LOW_FORCE, HIGH_FORCE, MAIN_BODY,
    SHOWS_FORCES, IS_DAMAGED_ANT,
    ANT_PARAMETERS,
) = range(FORWARD + 1, FORWARD + 12)  # fmt: skip


@c_function(STEP)
def step_ant(action, parameters, state, observation, reward):
    """Ant-v5, whose velocity is its body's; and ``DamagedAnt``, whose velocity is its joint's, without contact cost."""
    addresses = _addresses(parameters)
    qpos = _array(addresses, QPOS, int(parameters[NQ]))
    qvel = _array(addresses, QVEL, int(parameters[NV]))
    main = 3 * int(parameters[MAIN_BODY])
    xpos = _array(addresses, XPOS, main + 3)
    own = parameters[IS_DAMAGED_ANT] != 0.0
    before = qpos[0] if own else xpos[main]
    _simulate(action, parameters, addresses)
    after = qpos[0] if own else xpos[main]
    velocity = (after - before) / parameters[DT]
    end = _observe(parameters, addresses, observation, math.inf)
    bodies = int(parameters[NBODY])
    forces = _array(addresses, CFRC_EXT, 6 * bodies)
    low, high = parameters[LOW_FORCE], parameters[HIGH_FORCE]
    shows = parameters[SHOWS_FORCES] != 0.0
    if shows or not own:
        _call(addresses[MJ_RNE], addresses[MODEL], addresses[DATA])
    if shows:
        for i in range(6, 6 * bodies):
            observation[end] = _clipped(forces[i], low, high)
            end += 1
    healthy = parameters[ANT_LOW_Z] <= qpos[2] and qpos[2] <= parameters[ANT_HIGH_Z]
    for i in range(qpos.size):
        healthy = healthy and math.isfinite(qpos[i])
    for i in range(qvel.size):
        healthy = healthy and math.isfinite(qvel[i])
    effort = f64(_effort(action, parameters, state))
    if own:
        reward[0] = parameters[FORWARD] * velocity + -effort
    else:
        alive = parameters[ANT_HEALTHY_REWARD] if healthy else 0.0
        contact = parameters[CONTACT_COST] * _sum_of_squares(forces, low, high, state)
        reward[0] = (velocity * parameters[FORWARD] + alive) - (effort + contact)
    return not healthy and parameters[ANT_TERMINATES] != 0.0


(
    HUMANOID_HEALTHY_REWARD, HUMANOID_TERMINATES, HUMANOID_LOW_Z, HUMANOID_HIGH_Z, HUMANOID_CONTACT_COST, LOW_COST,
    HIGH_COST, SHOWS_INERTIA, SHOWS_VELOCITY, SHOWS_ACTUATORS, SHOWS_CONTACTS, STANDS_UP, TIMESTEP, TOTAL_MASS,
    HUMANOID_PARAMETERS,
) = range(FORWARD + 1, FORWARD + 16)  # fmt: skip


@inlined
def _center_of_mass(parameters, addresses):
    """Along x."""
    bodies = int(parameters[NBODY])
    mass, where = _array(addresses, BODY_MASS, bodies), _array(addresses, XIPOS, 3 * bodies)
    total = 0.0
    for body in range(bodies):
        total += mass[body] * where[3 * body]
    return total / parameters[TOTAL_MASS]


@inlined
def _append(addresses, which, first, last, observation, end):
    values = _array(addresses, which, last)
    for i in range(first, last):
        observation[end] = values[i]
        end += 1
    return end


@c_function(STEP)
def step_humanoid(action, parameters, state, observation, reward):
    """Humanoid-v5 and HumanoidStandup-v5."""
    addresses = _addresses(parameters)
    stands_up = parameters[STANDS_UP] != 0.0
    before = 0.0 if stands_up else _center_of_mass(parameters, addresses)
    _simulate(action, parameters, addresses)
    _call(addresses[MJ_RNE], addresses[MODEL], addresses[DATA])
    end = _observe(parameters, addresses, observation, math.inf)
    bodies, velocities = int(parameters[NBODY]), int(parameters[NV])
    if parameters[SHOWS_INERTIA] != 0.0:
        end = _append(addresses, CINERT, 10, 10 * bodies, observation, end)
    if parameters[SHOWS_VELOCITY] != 0.0:
        end = _append(addresses, CVEL, 6, 6 * bodies, observation, end)
    if parameters[SHOWS_ACTUATORS] != 0.0:
        end = _append(addresses, QFRC_ACTUATOR, 6, velocities, observation, end)
    if parameters[SHOWS_CONTACTS] != 0.0:
        end = _append(addresses, CFRC_EXT, 6, 6 * bodies, observation, end)
    z = _array(addresses, QPOS, 3)[2]
    # what the motors are given, not the action: float64
    control = _array(addresses, CTRL, int(parameters[NU]))
    effort = parameters[CTRL_COST] * _sum_of_squares(control, -math.inf, math.inf, state)
    forces = _array(addresses, CFRC_EXT, 6 * bodies)
    contact = parameters[HUMANOID_CONTACT_COST] * _sum_of_squares(
        forces, -math.inf, math.inf, state
    )
    contact = _clipped(contact, parameters[LOW_COST], parameters[HIGH_COST])
    if stands_up:
        reward[0] = (((z - 0.0) / parameters[TIMESTEP] - effort) - contact) + 1.0
        return 0
    velocity = (_center_of_mass(parameters, addresses) - before) / parameters[DT]
    healthy = parameters[HUMANOID_LOW_Z] < z and z < parameters[HUMANOID_HIGH_Z]
    alive = parameters[HUMANOID_HEALTHY_REWARD] if healthy else 0.0
    reward[0] = (parameters[FORWARD] * velocity + alive) - (effort + contact)
    return not healthy and parameters[HUMANOID_TERMINATES] != 0.0


@intrinsic
def _fused(typingctx, a, b, c):
    """a·b + c with one rounding."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@inlined
def _norm(x, y, z, fused):
    """``np.linalg.norm`` of three numbers: a product of BLAS, whose kernels may round once for two operations."""
    if fused:
        return math.sqrt(_fused(z, z, _fused(y, y, x * x)))
    return math.sqrt((x * x + y * y) + z * z)


NORM = types.float64(types.float64, types.float64, types.float64, types.int64)


@c_function(NORM)
def norm(x, y, z, fused):
    """``_norm``, to be compared with numpy's."""
    return _norm(x, y, z, fused != 0)


@inlined
def _distance(addresses, one, other, fused):
    """Between two bodies."""
    xpos = _array(addresses, XPOS, 3 * (max(one, other) + 1))
    a, b = 3 * one, 3 * other
    x, y, z = xpos[a] - xpos[b], xpos[a + 1] - xpos[b + 1], xpos[a + 2] - xpos[b + 2]
    return _norm(x, y, z, fused != 0.0)


FUSED = OTHERS  # BLAS rounds once
FINGERTIP, TARGET, DIST_WEIGHT, REACHER_PARAMETERS = range(OTHERS + 1, OTHERS + 5)


@c_function(STEP)
def step_reacher(action, parameters, state, observation, reward):
    """Reacher-v5."""
    addresses = _addresses(parameters)
    _simulate(action, parameters, addresses)
    qpos, qvel = _array(addresses, QPOS, 4), _array(addresses, QVEL, 2)
    tip, target = int(parameters[FINGERTIP]), int(parameters[TARGET])
    xpos = _array(addresses, XPOS, 3 * (max(tip, target) + 1))
    for i in range(2):
        observation[i] = math.cos(qpos[i])
        observation[2 + i] = math.sin(qpos[i])
        observation[4 + i] = qpos[2 + i]
        observation[6 + i] = qvel[i]
        observation[8 + i] = xpos[3 * tip + i] - xpos[3 * target + i]
    near = -_distance(addresses, tip, target, parameters[FUSED]) * parameters[DIST_WEIGHT]
    reward[0] = near + f64(-_effort(action, parameters, state))
    return 0


TIPS_ARM, OBJECT, GOAL, NEAR_WEIGHT, GOAL_WEIGHT, PUSHER_PARAMETERS = range(OTHERS + 1, OTHERS + 7)


@c_function(STEP)
def step_pusher(action, parameters, state, observation, reward):
    """Pusher-v5."""
    addresses = _addresses(parameters)
    _simulate(action, parameters, addresses)
    qpos, qvel = _array(addresses, QPOS, 7), _array(addresses, QVEL, 7)
    for i in range(7):
        observation[i] = qpos[i]
        observation[7 + i] = qvel[i]
    tips, thing, goal = int(parameters[TIPS_ARM]), int(parameters[OBJECT]), int(parameters[GOAL])
    xpos = _array(addresses, XPOS, 3 * int(parameters[NBODY]))
    for i in range(3):
        observation[14 + i] = xpos[3 * tips + i]
        observation[17 + i] = xpos[3 * thing + i]
        observation[20 + i] = xpos[3 * goal + i]
    near = -_distance(addresses, thing, tips, parameters[FUSED]) * parameters[NEAR_WEIGHT]
    off = -_distance(addresses, thing, goal, parameters[FUSED]) * parameters[GOAL_WEIGHT]
    reward[0] = (off + f64(-_effort(action, parameters, state))) + near
    return 0


@c_function(STEP)
def step_inverted_pendulum(action, parameters, state, observation, reward):
    """InvertedPendulum-v5: 1 for every step until the pole leans by more than 0.2 rad."""
    addresses = _addresses(parameters)
    _simulate(action, parameters, addresses)
    size = _observe(parameters, addresses, observation, math.inf)
    fell = abs(observation[1]) > 0.2
    for i in range(size):
        fell = fell or not math.isfinite(observation[i])
    reward[0] = 0.0 if fell else 1.0
    return fell


ALIVE, TWO, DOUBLE_PENDULUM_PARAMETERS = range(OTHERS, OTHERS + 3)


@c_function(STEP)
def step_inverted_double_pendulum(action, parameters, state, observation, reward):
    """InvertedDoublePendulum-v5.

    Squares are C's pow there, which is not always the rounded product; with a constant 2 LLVM would multiply.
    """
    addresses = _addresses(parameters)
    _simulate(action, parameters, addresses)
    site = _array(addresses, SITE_XPOS, 3)
    qpos, qvel = _array(addresses, QPOS, 3), _array(addresses, QVEL, 3)
    force = _array(addresses, QFRC_CONSTRAINT, 1)[0]
    two = parameters[TWO]
    x, y = site[0], site[2]
    fell = y <= 1.0
    observation[0] = qpos[0]
    for i in range(2):
        observation[1 + i] = math.sin(qpos[1 + i])
        observation[3 + i] = math.cos(qpos[1 + i])
    for i in range(3):
        observation[5 + i] = _clipped(qvel[i], -10.0, 10.0)
    observation[8] = _clipped(force, -10.0, 10.0)
    off = 0.01 * math.pow(x, two) + math.pow(y - 2.0, two)
    fast = 1e-3 * math.pow(qvel[1], two) + 5e-3 * math.pow(qvel[2], two)
    alive = 0.0 if fell else parameters[ALIVE]
    reward[0] = (alive - off) - fast
    return fell
