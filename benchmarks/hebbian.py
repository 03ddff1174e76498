"""The plastic step (forward, act, update, normalize by max |w|), on one core, beside others and the memory traffic.

The networks of Najarro & Risi 2020: the Ant's 28-128-64-8 and the plastic part of the CarRacing one's, 648-128-64-3;
rule ABCD_lr, hidden tanh, one environment step at a time, as an episode asks for it. In numpy, torch and jax η is
folded into A, B, C and D once per episode, as in esd; numpy and torch write in place, into buffers made once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measuring import Table, in_turns, on_one_core, parser, seconds, write
from benchmarks.noise import installed
from esd.kernels import bandwidth
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings

Float32s = npt.NDArray[np.float32]
Step = Callable[[], object]

NETWORKS = {"Ant 28-128-64-8": (28, 128, 64, 8), "CarRacing 648-128-64-3": (648, 128, 64, 3)}


def coefficients(sizes: tuple[int, ...], seed: int = 0) -> list[list[Float32s]]:
    """A′, B′, C′, D′ and w of every layer, float32 [inputs, outputs] each."""
    generator = np.random.default_rng(seed)
    return [
        [
            *(0.1 * generator.standard_normal((4, *shape), np.float32)),
            generator.uniform(-0.1, 0.1, shape).astype(np.float32),
        ]
        for shape in itertools.pairwise(sizes)
    ]


def esd_step(sizes: tuple[int, ...], observation: Float32s) -> Step:
    """Our own, through the call that a rollout makes."""
    inputs, *hidden, outputs = sizes
    policy = HebbianPolicy(Interface(inputs, outputs, True), HebbianSettings(hidden=tuple(hidden)))
    policy.load(policy.initial_parameters(0))
    policy.reset(0)
    return lambda: policy.act(observation)


def numpy_step(sizes: tuple[int, ...], observation: Float32s) -> Step:
    """Clean numpy: no allocation in a step."""
    layers = [[*layer, np.empty_like(layer[0])] for layer in coefficients(sizes)]
    activities = [np.empty(size, np.float32) for size in sizes]

    def step() -> Float32s:
        activities[0][:] = observation
        for (*_, w, _scratch), x, y in zip(layers, activities, activities[1:], strict=False):
            np.tanh(np.dot(x, w, out=y), out=y)
        for (a, b, c, d, w, t), x, y in zip(layers, activities, activities[1:], strict=False):
            column = x[:, None]
            np.multiply(a, column, out=t)
            np.add(t, c, out=t)
            np.multiply(t, y, out=t)
            np.add(w, t, out=w)
            np.multiply(b, column, out=t)
            np.add(t, d, out=t)
            np.add(w, t, out=w)
            np.multiply(w, 1.0 / max(w.max(), -w.min()), out=w)
        return activities[-1]

    return step


def torch_step(sizes: tuple[int, ...], observation: Float32s) -> Step:
    """The same in torch, eager, in place, without gradients."""
    import torch

    torch.set_num_threads(1)
    layers = [[torch.from_numpy(p.copy()) for p in layer] for layer in coefficients(sizes)]
    scratch = [torch.empty_like(layer[0]) for layer in layers]
    activities = [torch.empty(size) for size in sizes]
    given = torch.from_numpy(observation)

    @torch.inference_mode()
    def step() -> Any:
        activities[0].copy_(given)
        for layer, x, y in zip(layers, activities, activities[1:], strict=False):
            torch.mv(layer[4].T, x, out=y).tanh_()
        for (a, b, c, d, w), t, x, y in zip(
            layers, scratch, activities, activities[1:], strict=False
        ):
            column = x[:, None]
            w.add_(torch.addcmul(c, a, column, out=t).mul_(y))
            w.add_(torch.addcmul(d, b, column, out=t))
            low, high = torch.aminmax(w)
            w.div_(torch.maximum(high, -low))
        return activities[-1]

    return step


def jax_step(sizes: tuple[int, ...], observation: Float32s) -> Step:
    """The same compiled by jax into one call, with the weights' memory given away and taken back."""
    import functools

    import jax
    import jax.numpy as jnp

    layers = coefficients(sizes)
    fixed = [[jnp.asarray(p) for p in layer[:4]] for layer in layers]

    @functools.partial(jax.jit, donate_argnums=0)
    def advance(weights: Any, fixed: Any, x: Any) -> Any:
        following = []
        for w, (a, b, c, d) in zip(weights, fixed, strict=True):
            y, column = jnp.tanh(x @ w), x[:, None]
            w = w + (a * column + c) * y + (b * column + d)
            following.append(w / jnp.abs(w).max())
            x = y
        return following, x

    state = [jnp.asarray(layer[4]) for layer in layers]

    def step() -> Any:
        nonlocal state
        state, output = advance(state, fixed, observation)
        return np.asarray(output)

    return step


def traffic(sizes: tuple[int, ...], repeats: int) -> Step:
    """The memory traffic of so many steps alone: 24 B per connection (A′, B′, C′, D′, w read; w written)."""
    connections = sum(a * b for a, b in itertools.pairwise(sizes))
    memory = np.zeros(-(-connections // 16) * 80, np.float32)
    return lambda: bandwidth.touch_often(memory, repeats)


def measured(rounds: int, repeats: int) -> list[Table]:
    """One table per network, µs per step."""
    tables = []
    for name, sizes in NETWORKS.items():
        observation = np.random.default_rng(0).standard_normal(sizes[0]).astype(np.float32)
        steps = {
            "esd": esd_step(sizes, observation),
            "numpy, in place": numpy_step(sizes, observation),
            "torch, eager, in place": torch_step(sizes, observation),
        }
        if installed("jax"):
            steps["jax, compiled"] = jax_step(sizes, observation)

        def per_step(step: Step) -> Callable[[], float]:
            return lambda: seconds(lambda: [step() for _ in range(repeats)]) / repeats * 1e6

        contenders = {who: per_step(step) for who, step in steps.items()}
        alone = traffic(sizes, repeats)
        contenders["memory traffic alone"] = lambda alone=alone: seconds(alone) / repeats * 1e6  # type: ignore[misc]
        tables.append(in_turns(f"plastic step, {name}", "µs per step", contenders, rounds))
    return tables


def main() -> None:
    """Measure and write."""
    command_line = parser("hebbian", __doc__)
    command_line.add_argument("--rounds", type=int, default=15, help="[%(default)s]")
    command_line.add_argument(
        "--steps", type=int, default=500, help="steps per measurement [%(default)s]"
    )
    arguments = command_line.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.steps = 2, 10
    on_one_core()
    write(arguments, "hebbian", {"tables": measured(arguments.rounds, arguments.steps)})


if __name__ == "__main__":
    main()
