"""Reversible blocks: how far the float inverse is off, and what gradients hold and take beside plain residual blocks.

Errors: blocks of F(x) = tanh(xW), 64 coordinates, entries of W of deviation 0.1/8, so that states stay of order 1.
Memory and time: F and G are LayerNorm, Linear 128-256, GELU, Linear 256-128 on 1,024 vectors, one thread, torch on the
CPU. Held is what autograd saves in the forward pass, each tensor once, parameters left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Table, in_turns, on_one_core, parser, seconds, write
from esd.attention.reversible import Block, Lifting, forward, inverse
from esd.attention.reversible_torch import ReversibleSequence

Halves = tuple[torch.Tensor, torch.Tensor]
Way = Callable[[torch.Tensor, torch.Tensor], Halves]

ERROR_DEPTHS, MEMORY_DEPTHS = (1, 4, 16, 48), (2, 8, 32)
SIZE, GAIN = 64, 0.1
WIDTH, VECTORS = 128, 1024


def blocks_of(depth: int) -> list[Block]:
    """Random ones, the same at every call."""
    generator = np.random.default_rng(0)

    def function() -> Callable[[Any], Any]:
        weights = generator.normal(scale=GAIN / np.sqrt(SIZE), size=(SIZE, SIZE)).astype(np.float32)
        return lambda x: np.tanh(x @ weights)

    return [(function(), function()) for _ in range(depth)]


def errors(depth: int, vectors: int) -> dict[str, Any]:
    """The largest difference between what went in and what comes back."""
    blocks = blocks_of(depth)
    x = np.random.default_rng(1).normal(size=(2, vectors, SIZE)).astype(np.float32)
    back = inverse(blocks, *forward(blocks, *x))
    lifting = Lifting()
    encoded = np.stack([lifting.encode(half) for half in x])
    lifted = lifting.inverse(blocks, *lifting.forward(blocks, *encoded))
    return {
        "blocks": depth,
        "float": float(np.abs(np.stack(back) - x).max()),
        "lifting": int(np.abs(np.stack(lifted) - encoded).max()),
    }


def plain(sequence: ReversibleSequence, x1: torch.Tensor, x2: torch.Tensor) -> Halves:
    """The same blocks as torch computes them by itself."""
    functions = list(sequence.functions)
    for f, g in zip(functions[::2], functions[1::2], strict=True):
        x1 = x1 + f(x2)
        x2 = x2 + g(x1)
    return x1, x2


def held_by_autograd(
    way: Way, sequence: ReversibleSequence, x1: torch.Tensor, x2: torch.Tensor
) -> int:
    """Bytes that the forward pass saves for the backward pass."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in sequence.parameters()}
    storages: dict[int, torch.UntypedStorage] = {}  # kept, so that no address comes twice

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _ = way(x1, x2)
    return sum(storage.nbytes() for storage in storages.values())


def layer(width: int) -> torch.nn.Module:
    """What stands for F and G."""
    return torch.nn.Sequential(
        torch.nn.LayerNorm(width),
        torch.nn.Linear(width, 2 * width),
        torch.nn.GELU(),
        torch.nn.Linear(2 * width, width),
    )


def memory(depth: int, vectors: int) -> tuple[dict[str, Any], dict[str, Callable[[], float]]]:
    """What either way holds and how gradients compare, and what measures their time in ms."""
    torch.manual_seed(0)
    sequence = ReversibleSequence((layer(WIDTH), layer(WIDTH)) for _ in range(depth))
    x1, x2 = torch.randn(2, vectors, WIDTH)
    ways: dict[str, Way] = {
        "reversible": sequence,
        "plain": lambda x1, x2: plain(sequence, x1, x2),
    }

    def gradients(way: Way) -> list[torch.Tensor]:
        y1, y2 = way(x1, x2)
        return list(torch.autograd.grad((y1 * y2).mean(), list(sequence.parameters())))

    found, expected = (gradients(way) for way in ways.values())
    off = max(
        float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)
    )
    held = {f"{who}_bytes": held_by_autograd(way, sequence, x1, x2) for who, way in ways.items()}
    times: dict[str, Callable[[], float]] = {
        f"esd, {who}" if who == "reversible" else who: lambda way=way: (  # type: ignore[misc]
            1e3 * seconds(lambda: gradients(way))
        )
        for who, way in ways.items()
    }
    return {"blocks": depth, **held, "gradients_off": off}, times


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Errors, and memory and time."""
    torch.set_num_threads(1)
    depths, vectors = list(MEMORY_DEPTHS), VECTORS
    if arguments.quick:
        depths, vectors = depths[:2], 8
    rows, tables = [], list[Table]()
    for depth in depths:
        row, times = memory(depth, vectors)
        rows.append(row)
        tables.append(in_turns(f"gradients through {depth} blocks", "ms", times, arguments.rounds))
    return {
        "errors": [errors(depth, vectors) for depth in ERROR_DEPTHS],
        "memory": rows,
        "tables": tables,
    }


def main() -> None:
    """Measure and write."""
    command_line = parser("reversible", __doc__)
    command_line.add_argument("--rounds", type=int, default=9, help="[%(default)s]")
    arguments = command_line.parse_args()
    if arguments.quick:
        arguments.rounds = 1
    on_one_core()
    write(arguments, "reversible", measured(arguments))


if __name__ == "__main__":
    main()
