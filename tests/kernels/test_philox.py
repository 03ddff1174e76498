"""The noise kernels against published vectors, a plain oracle, and themselves on other instruction sets."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest

from esd.evolution.noise import Purpose, key_words
from esd.kernels import philox
from tests.helpers.oracles import philox as oracle

KIND_CODES = {
    "gaussian": philox.GAUSSIAN,
    "binomial": philox.BINOMIAL,
    "rademacher": philox.RADEMACHER,
    "uniform": philox.UNIFORM,
}

# Random123's kat_vectors, philox4x32 7: counter, key, result
KNOWN_ANSWERS = [
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A),
    ),
]

# seeds with only low, only high and all bits; generations and pairs at both ends of their 32 bits
STREAMS = [
    (0, 0, 0, Purpose.PERTURBATION),
    (1, 0, 1, Purpose.PERTURBATION),
    (1, 1, 0, Purpose.PERTURBATION),
    (2**32, 3, 17, Purpose.INITIAL_H),
    (0xFEDCBA9876543210, 255, 4095, Purpose.INITIAL_WEIGHTS),
    (2**64 - 1, 2**32 - 1, 2**32 - 1, Purpose.TEST_EPISODE),
]


def fill(
    kind: str, seed: int, pair: int, generation: int, purpose: int, start: int, stop: int
) -> oracle.Float32s:
    """Call the kernel with the types that ``esd.evolution.noise`` uses."""
    out = np.zeros(stop - start, np.float32)
    counter = np.uint32(pair), np.uint32(generation), np.uint32(purpose)
    ones = np.ones(1, np.float32)
    philox.add(KIND_CODES[kind], start, ones, *counter, *key_words(seed), out, out)
    return out


def same_bits(a: oracle.Float32s, b: oracle.Float32s) -> bool:
    return a.dtype == b.dtype == np.float32 and np.array_equal(a.view("u4"), b.view("u4"))


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_kernel_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    words = np.empty((4, 2), np.uint32)  # counters come in twos
    first, *rest = counter
    philox.philox_words(np.uint64(first), *map(np.uint32, (*rest, *key)), words)
    assert tuple(words[:, 0]) == answer


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_oracle_gives_the_published_words(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    assert tuple(oracle.philox4x32(np.array(counter)[:, None], key)[:, 0]) == answer


@pytest.mark.parametrize("seed", [0, 5, 2**32, 2**64 - 1, 0xFEDCBA9876543210])
def test_words_of_consecutive_counters_equal_the_oracles(seed: int) -> None:
    first = 2**32 - 100  # the counter wraps within these 256
    words = np.empty((4, 256), np.uint32)
    counter = np.uint32(11), np.uint32(12), np.uint32(13)
    philox.philox_words(np.uint64(first), *counter, *key_words(seed), words)
    assert np.array_equal(words, oracle.stream(seed, 13, 11, 12, first, 256))


@pytest.mark.parametrize("kind", KIND_CODES)
@pytest.mark.parametrize(("seed", "pair", "generation", "purpose"), STREAMS)
def test_noise_equals_the_oracles_bit_for_bit(
    kind: str, seed: int, pair: int, generation: int, purpose: Purpose
) -> None:
    for start, stop in [(0, 40_000), (999, 1_025), (5_000_000_000, 5_000_003_000)]:
        expected = oracle.epsilon(kind, seed, pair, generation, start, stop, purpose)
        assert same_bits(fill(kind, seed, pair, generation, purpose, start, stop), expected)


def test_gaussian_noise_equals_the_oracles_over_many_blocks_generations_and_pairs() -> None:
    for pair in range(8):
        for generation in range(8):
            expected = oracle.epsilon("gaussian", 2024, pair, generation, 0, 20_480)
            actual = fill("gaussian", 2024, pair, generation, 0, 0, 20_480)
            assert same_bits(actual, expected)


@pytest.mark.parametrize(
    ("radius_word", "angle_word", "expected"),
    [
        (0xFFFFFFFF, 0x00000000, (0.0, 0.0)),  # uniform 1: radius 0
        (0x00000000, 0x00000000, (6.6604, 0.0)),  # the smallest uniform, 2⁻³²: the largest |ε|
        (0x00000000, 0x20000000, (0.0, 6.6604)),  # swapped
        (0x00000000, 0x80000000, (-6.6604, 0.0)),  # the first one's sign
        (0x00000000, 0x60000000, (0.0, -6.6604)),  # swapped, and the second one's sign
        (0x00000001, 0x1FFFFFFF, (4.7096, 4.7096)),  # an eighth turn; the lowest bit is not used
        (0x00000000, 0xDFFFFFFF, (-4.7096, -4.7096)),
        (0x00000000, 0x10000000, (6.1534, 2.5488)),  # a sixteenth
    ],
)
def test_box_muller_is_right_at_the_ends_of_its_words(
    radius_word: int, angle_word: int, expected: tuple[float, float]
) -> None:
    radius = np.array([radius_word], np.uint32)
    angle = np.array([angle_word], np.uint32)
    first, second = oracle.box_muller(radius, angle)
    assert (first[0], second[0]) == pytest.approx(expected, abs=1e-4)
    radii = np.full((2, 1), np.nan, np.float32)
    philox._radii(np.stack([radius, angle, radius, angle]), radii)
    for own in radii:
        out = np.zeros((2, 1), np.float32)
        philox._add_gaussian(own, angle, np.float32(1), out[0], out[1])
        assert same_bits(out, np.stack([first, second]) + np.float32(0))


def test_streams_of_different_names_share_no_words() -> None:
    """Every coordinate of a name counts: no two of 2,592 streams start with the same counter's 128 bits."""
    ends = [0, 1, 2, 7, 2**16, 2**32 - 1]
    seeds = [0, 1, 2, 2**32, 2**32 + 1, 2**63]
    names = [
        (s, p, a, b, f) for s in seeds for p in range(6) for a in ends for b in ends for f in (0, 1)
    ]
    words = np.empty((4, 2), np.uint32)
    seen = set()
    for seed, purpose, pair, generation, first in names:
        counter = np.uint32(pair), np.uint32(generation), np.uint32(purpose)
        philox.philox_words(np.uint64(first), *counter, *key_words(seed), words)
        seen.add(words[:, 0].tobytes())
    assert len(seen) == len(names)


# What every instruction set must compute alike: run here and, compiled for other processors, in subprocesses.
COMPUTE = r"""
import hashlib, json
import numpy as np
from esd.config.policies import PolicyConfig
from esd.kernels import attention_sequence, attention_stream, convolution, philox, plastic
from esd.attention.sequence import attend
from esd.attention.hashing import angular
from esd.attention.stream import Limits, Stream
from esd.evolution.noise import NOISE_KINDS, Noise, Purpose, normals, uniforms
from esd.config.kinds import OPTIMIZERS
from esd.evolution.optimizers import make_optimizer
from esd.policies.base import Interface
from esd.policies.hebbian import HebbianPolicy, HebbianSettings
from esd.policies.registry import make_policy
from esd.evolution.shaping import SHAPINGS
from esd.evolution.openai_es import Strategy
from esd.evolution.schedules import Decay
from esd.evolution.vectors import mean_square

SEED = 0x123456789ABCDEF0

def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()

def computed():
    result = {}
    weights = normals(3, Purpose.INITIAL_H, 50)
    for kind in NOISE_KINDS:
        noise = Noise(kind, SEED)
        result[f"{kind} epsilon"] = digest(noise.epsilon(5, 7, 100, 20_000))
        total = np.empty(10_000, np.float32)
        noise.accumulate(weights, 9, total, 333)
        result[f"{kind} accumulate"] = digest(total)
        noise.perturb(total, 0.1, 3, 2, total, 333)
        result[f"{kind} perturb"] = digest(total)
    result["uniforms"] = digest(uniforms(SEED, Purpose.INITIAL_WEIGHTS, 10_000))
    for normalization in ("max", "l2", "none"):
        for activation in ("tanh", "relu"):
            settings = HebbianSettings(hidden=(33, 16), activation=activation, normalization=normalization)
            policy = HebbianPolicy(Interface(11, 5, True), settings)
            policy.load(np.float32(0.1) * policy.initial_parameters(SEED))
            policy.reset(SEED)
            outputs = [policy.act(normals(SEED, Purpose.TEST_EPISODE, 11, t)).copy() for t in range(20)]
            assert np.isfinite(outputs).all()
            result[f"plastic {normalization} {activation}"] = digest(*outputs, *policy.weights())
    settings = PolicyConfig("hebbian", HebbianSettings(hidden=(8,), convolutions=True))
    policy = make_policy(settings, Interface(96 * 96 * 3, 3, True))
    policy.load(policy.initial_parameters(SEED))
    policy.reset(SEED)
    result["features"] = digest(policy.see(np.float32(127) * uniforms(SEED, Purpose.TEST_EPISODE, 96 * 96 * 3)))
    queries, keys, values = (normals(SEED, Purpose.TEST_EPISODE, 300 * 64, k).reshape(300, 64) for k in range(3))
    hashed = angular(SEED, 64, 2, (8, 2))
    for shared in (False, True):
        stream = Stream(hashed, 64, Limits(cap=20, capacity=200), shared)
        given = None if shared else keys
        result[f"lsh stream {shared}"] = digest(*stream.steps(queries, values, given))
        result[f"lsh batch {shared}"] = digest(attend(hashed, queries, values, given, stream.limits).out)
    h = normals(SEED, Purpose.INITIAL_H, 9_000)
    fitness = np.float64(normals(SEED, Purpose.INITIAL_H, 40, 1))
    for name in OPTIMIZERS.built_in:
        for shaping in SHAPINGS:
            strategy = Strategy(
                Noise("gaussian", SEED), 40, Decay(0.1, 0.99), Decay(0.05, 0.99), make_optimizer(name), shaping, 0.01
            )
            state = strategy.start(h)
            for _ in range(5):
                state = strategy.tell(state, fitness)
            result[f"tell {name} {shaping}"] = digest(state.h, *state.vectors.values())
            result[f"mean square {name} {shaping}"] = mean_square([state.h]).hex()
    return result
"""

REPORT = """
result = computed()
assembly = "".join(
    text
    for kernel in (philox.add, plastic.step, convolution.features, attention_stream.steps, attention_sequence.attend)
    for text in kernel.inspect_asm().values()
)
print(json.dumps({
    "computed": result,
    "registers": [name for name in ("xmm", "ymm", "zmm") if name in assembly],
    "contractions": sum(assembly.count(name) for name in ("vfmadd", "vfmsub", "vfnmadd", "vfnmsub")),
}))
"""

# LLVM's name of a processor: extra features, the registers that its code uses, the feature needed to run it here
TARGETS = {
    "nehalem": ("", ["xmm"], "sse4.2"),
    "x86-64-v3": ("", ["xmm", "ymm"], "avx2"),
    "x86-64-v4": ("-prefer-256-bit", ["xmm", "ymm", "zmm"], "avx512vl"),
}


def start_target(target: str, cache: Path) -> subprocess.Popen[str]:
    """Compile and compute for another processor, in the background."""
    environment = os.environ | {
        "NUMBA_CPU_NAME": target,
        "NUMBA_CPU_FEATURES": TARGETS[target][0],
        "NUMBA_CACHE_DIR": str(cache),
        "PYTHONWARNINGS": "ignore",
    }
    if (
        target == "nehalem"
    ):  # and without the wide versions of numpy's loops, on which the optimizers run
        environment["NPY_DISABLE_CPU_FEATURES"] = " ".join(numpy_extensions())
    return subprocess.Popen(
        [sys.executable, "-c", COMPUTE + REPORT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numpy_extensions() -> list[str]:
    """Instruction sets beyond the baseline that numpy has found here."""
    found: list[str] = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # type: ignore[call-overload]
    return found


def runs_here(target: str) -> bool:
    """Whether this processor can; where it has AVX-512, its own code is what LLVM makes of 256 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    features: dict[str, bool] = llvm.get_host_cpu_features()
    own = features.get("avx512vl", False) and target == "x86-64-v3"
    return features.get(TARGETS[target][2], False) and not own


@pytest.fixture(scope="module")
def processes(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """All targets that this processor can run, started together because each takes ten seconds to compile."""
    started = {
        target: start_target(target, tmp_path_factory.mktemp(target))
        for target in TARGETS
        if runs_here(target)
    }
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def computed_here() -> dict[str, str]:
    namespace: dict[str, Any] = {}
    exec(COMPUTE, namespace)
    result: dict[str, str] = namespace["computed"]()
    return result


@pytest.mark.xdist_group("instruction sets")
@pytest.mark.parametrize("target", TARGETS)
def test_every_instruction_set_computes_the_same_bits(
    target: str, processes: dict[str, subprocess.Popen[str]], computed_here: dict[str, str]
) -> None:
    """Laws 2 and 4 on 128, 256 and 512 bit registers, and on this machine's own.

    The reason for ``fastmath=False``: with ``fastmath=True`` in ``esd/kernels/__init__.py`` LLVM contracts
    weight·ε + total to one rounding where the processor has FMA (from x86-64-v3 on), and re-associates sums by the
    width of its registers, so the targets disagree. The contractions are looked for in the machine code as well.
    """
    if target not in processes:
        pytest.skip(
            f"{target}: this processor has no {TARGETS[target][2]}, or its own code stands for it"
        )
    output, errors = processes[target].communicate(timeout=240)
    assert processes[target].returncode == 0, errors
    report = json.loads(output)
    assert report["registers"] == TARGETS[target][1], "the code was not compiled for the target"
    assert report["computed"] == computed_here
    assert report["contractions"] == 0
