"""From a CarRacing picture to an action, on one core: esd's compiled path beside torch doing the same.

96×96 RGB, shrunk to 84×84 by means over areas, two convolutions with tanh and max-pooling, then the plastic
648-128-64-3 (rule ABCD_lr, divided by max |w|): the network of Najarro & Risi 2020, one picture at a time, as an
episode gives them. torch runs on one thread, without gradients, its plastic part in place as in ``benchmarks.hebbian``;
the shrinking is two matrix products there, the quickest way that it has (interpolate's areas don't cut pixels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.hebbian import torch_step
from benchmarks.measuring import Table, in_turns, on_one_core, parser, seconds, write
from esd.kernels.convolution import CHANNELS, FEATURES, SIDE
from esd.policies.base import Interface
from esd.policies.convolutional import SHAPES, ConvolutionalPolicy, areas
from esd.policies.hebbian import HebbianPolicy, HebbianSettings

Float32s = npt.NDArray[np.float32]
Step = Callable[[], object]

PIXELS = 96
SIZES = (FEATURES, 128, 64, 3)


def picture(seed: int) -> Float32s:
    """Gray levels, float32 [96 · 96 · 3], as a rollout hands them over."""
    levels = np.random.default_rng(seed).integers(0, 256, PIXELS * PIXELS * CHANNELS)
    return levels.astype(np.float32)


def esd_policy() -> ConvolutionalPolicy:
    """Our own, with random parameters, in an episode."""
    policy = ConvolutionalPolicy(
        Interface(PIXELS * PIXELS * CHANNELS, SIZES[-1], True),
        lambda interface: HebbianPolicy(interface, HebbianSettings(hidden=SIZES[1:-1])),
    )
    policy.load(policy.initial_parameters(0))
    policy.reset(0)
    return policy


def torch_features(image: Float32s, out: Float32s) -> Step:
    """Shrink, convolve and pool a picture in torch, into ``out``, float32 [648]."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    policy = esd_policy()
    one, two = (
        torch.from_numpy(np.copy(policy.layout.unpack(policy.initial_parameters(0))[name]))
        for name in SHAPES
    )
    first, share = areas(PIXELS, SIDE)
    means = np.zeros((SIDE, PIXELS), np.float32)
    for part, (begin, weights) in enumerate(zip(first, share, strict=True)):
        means[part, begin : begin + weights.size] = weights
    down, given = torch.from_numpy(means), torch.from_numpy(image)
    across, features = (down / 255.0).T.contiguous(), torch.from_numpy(out)

    @torch.inference_mode()
    def step() -> Any:
        planes = given.view(PIXELS, PIXELS, CHANNELS).permute(2, 0, 1)
        x = (down @ planes @ across)[None]
        x = functional.max_pool2d(functional.conv2d(x, one).tanh_(), 2)
        x = functional.max_pool2d(functional.conv2d(x, two, stride=2).tanh_(), 2)
        return features.copy_(x.flatten())

    return step


def measured(rounds: int, repeats: int) -> list[Table]:
    """All of it, and what comes before the plastic part; µs per picture."""
    image = picture(0)
    policy, features = esd_policy(), np.empty(FEATURES, np.float32)
    see, plastic = torch_features(image, features), torch_step(SIZES, features)
    see()
    worst = float(np.abs(policy.see(image) - features).max())
    if worst > 1e-5:
        raise SystemExit(f"the contenders' features differ by {worst}")
    tables = []
    for name, contenders in (
        (
            "from a picture to an action, plastic step included",
            {
                "esd": lambda: policy.act(image),
                "torch, eager, one thread": lambda: (see(), plastic()),
            },
        ),
        (
            "shrinking and two convolutions alone",
            {"esd": lambda: policy.see(image), "torch, eager, one thread": see},
        ),
    ):
        timed = {who: per_step(step, repeats) for who, step in contenders.items()}
        tables.append(in_turns(name, "µs per picture", timed, rounds))
    return tables


def per_step(step: Step, repeats: int) -> Callable[[], float]:
    """What measures a step, in µs."""
    return lambda: seconds(lambda: [step() for _ in range(repeats)]) / repeats * 1e6


def main() -> None:
    """Measure and write."""
    command_line = parser("pictures", __doc__)
    command_line.add_argument("--rounds", type=int, default=301, help="[%(default)s]")
    command_line.add_argument(
        "--steps", type=int, default=10, help="pictures per measurement [%(default)s]"
    )
    arguments = command_line.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.steps = 2, 10
    on_one_core()
    write(arguments, "pictures", {"tables": measured(arguments.rounds, arguments.steps)})


if __name__ == "__main__":
    main()
