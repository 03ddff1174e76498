"""CartPole-v1 from end to end: environment steps per second of whole training runs, esd's beside others'.

All train 64 members with one episode each and a network of 16 hidden tanh units, on one core each (esd on two ranks:
on two; its Hebbian network, which learns while it acts, has 8 more units in a second layer). They are measured after
100,000 steps of training (or 20 s, for the slow), when episodes have become long: resets cost, too. The peers live in
processes of their own and are asked in turns; esd is the real ``esd train``, started anew for every figure and read
from its metrics.jsonl. evosax trains on gymnax, a jax rewrite of the environment that is compiled together with the
policy; the steps that it computes after an episode's end are not counted. “estool-style” is a plain numpy loop of our
own: what a worker of estool or es_pytorch does per step at best.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.measuring import (
    child_environment,
    in_turns,
    mpirun,
    on_one_core,
    parser,
    seconds,
    write,
)
from benchmarks.noise import installed

POPULATION, HIDDEN = 64, 16
WARM_UP_STEPS, WARM_UP_SECONDS = 100_000, 20.0


class Trainer(Protocol):
    """Something that trains, generation by generation."""

    def generation(self) -> tuple[int, int]:
        """Train for a generation (or a few); returns environment steps and episodes."""


class Bare:
    """The environment alone, its pole kept up by one comparison: the limit of whatever steps it from Python."""

    def __init__(self) -> None:
        import gymnasium

        self._env = gymnasium.make("CartPole-v1")
        self._env.reset(seed=0)

    def generation(self) -> tuple[int, int]:
        step, steps = self._env.step, 0
        for _ in range(POPULATION):
            observation, _ = self._env.reset()
            over = False
            while not over:
                action = 1 if observation[2] + observation[3] > 0.0 else 0
                observation, _, terminated, truncated, _ = step(action)
                over = terminated or truncated
                steps += 1
        return steps, POPULATION


class _NumpyRollouts:
    """A policy of 16 hidden units in numpy, and its episodes."""

    size = 4 * HIDDEN + HIDDEN + HIDDEN * 2 + 2

    def __init__(self) -> None:
        import gymnasium

        self._env = gymnasium.make("CartPole-v1")
        self._env.reset(seed=0)

    def episode(self, parameters: Any) -> int:
        """Steps, which are also the return."""
        p = np.asarray(parameters, np.float32)
        w1, b1 = p[: 4 * HIDDEN].reshape(4, HIDDEN), p[4 * HIDDEN : 5 * HIDDEN]
        w2, b2 = p[5 * HIDDEN : 7 * HIDDEN].reshape(HIDDEN, 2), p[7 * HIDDEN :]
        step = self._env.step
        observation, _ = self._env.reset()
        steps, over = 0, False
        while not over:
            a, b = np.tanh(observation @ w1 + b1) @ w2 + b2
            observation, _, terminated, truncated, _ = step(1 if b > a else 0)
            steps += 1
            over = terminated or truncated
        return steps


class EstoolStyle(_NumpyRollouts):
    """OpenAI-ES with mirrored pairs and centered ranks in plain numpy."""

    def __init__(self) -> None:
        super().__init__()
        self._random = np.random.default_rng(0)
        self._center = np.zeros(self.size)

    def generation(self) -> tuple[int, int]:
        half = self._random.standard_normal((POPULATION // 2, self.size))
        epsilon = np.concatenate([half, -half])
        lengths = [self.episode(self._center + 0.1 * e) for e in epsilon]
        ranks = np.argsort(np.argsort(lengths)) / (POPULATION - 1) - 0.5
        self._center += 0.2 / (POPULATION * 0.1) * ranks @ epsilon
        return sum(lengths), POPULATION


class Pycma(_NumpyRollouts):
    """pycma's ask and tell, with rollouts in numpy: the library leaves them to its user."""

    def __init__(self) -> None:
        import cma

        super().__init__()
        options = {"popsize": POPULATION, "verbose": -9, "seed": 1, "maxiter": 10**9}
        self._es = cma.CMAEvolutionStrategy(np.zeros(self.size), 0.5, options)

    def generation(self) -> tuple[int, int]:
        members = self._es.ask()
        lengths = [self.episode(member) for member in members]
        self._es.tell(members, [-float(length) for length in lengths])
        return sum(lengths), POPULATION


class Evotorch:
    """evotorch's GymNE with PGPE and ClipUp, in this process."""

    def __init__(self) -> None:
        import torch
        from evotorch.algorithms import PGPE
        from evotorch.neuroevolution import GymNE
        from evotorch.tools import set_default_logger_config

        torch.set_num_threads(1)
        set_default_logger_config(logger_level=40)  # errors only
        network = f"Linear(obs_length, {HIDDEN}) >> Tanh() >> Linear({HIDDEN}, act_length)"
        self._problem = GymNE("CartPole-v1", network, num_actors=1)
        self._searcher = PGPE(
            self._problem,
            popsize=POPULATION,
            center_learning_rate=0.2,
            stdev_learning_rate=0.1,
            stdev_init=0.5,
        )

    def generation(self) -> tuple[int, int]:
        before = self._problem.interaction_count, self._problem.episode_count
        self._searcher.step()
        return (
            self._problem.interaction_count - before[0],
            self._problem.episode_count - before[1],
        )


class StableBaselinesArs:
    """sb3-contrib's ARS (augmented random search, an evolution strategy), one environment."""

    def __init__(self) -> None:
        import torch
        from sb3_contrib import ARS

        torch.set_num_threads(1)
        self._model = ARS(
            "MlpPolicy",
            "CartPole-v1",
            n_delta=POPULATION // 2,
            learning_rate=0.1,
            delta_std=0.1,
            policy_kwargs={"net_arch": [HIDDEN]},
            seed=0,
        )

    def generation(self) -> tuple[int, int]:
        before = self._model.num_timesteps
        self._model.learn(1, reset_num_timesteps=False, log_interval=None)
        return self._model.num_timesteps - before, POPULATION


class EvosaxGymnax:
    """evosax's Open_ES on its GymnaxProblem: environment, policy and strategy compiled by jax."""

    def __init__(self) -> None:
        import jax
        import optax
        from evosax.algorithms import Open_ES
        from evosax.problems import GymnaxProblem
        from evosax.problems.networks import MLP, categorical_output_fn

        self._jax = jax
        policy = MLP(layer_sizes=(HIDDEN, 2), output_fn=categorical_output_fn)
        self._problem = GymnaxProblem("CartPole-v1", policy, num_rollouts=1)
        self._key = jax.random.key(0)
        solution = self._problem.sample(self._key)
        self._strategy = Open_ES(
            POPULATION,
            solution,
            optimizer=optax.adam(0.05),
            std_schedule=optax.constant_schedule(0.1),
        )
        self._parameters = self._strategy.default_params
        self._state = self._strategy.init(self._key, solution, self._parameters)
        self._problem_state = self._problem.init(self._key)

    def generation(self) -> tuple[int, int]:
        self._key, ask, evaluate, tell = self._jax.random.split(self._key, 4)
        members, state = self._strategy.ask(ask, self._state, self._parameters)
        fitness, self._problem_state, _ = self._problem.eval(evaluate, members, self._problem_state)
        self._state, _ = self._strategy.tell(tell, members, -fitness, state, self._parameters)
        return int(fitness.sum()), POPULATION  # a point per step until the pole falls


# name → what makes it, and the modules that it needs
PEERS: dict[str, tuple[Callable[[], Trainer], tuple[str, ...]]] = {
    "estool-style, numpy": (EstoolStyle, ()),
    "pycma, numpy policy": (Pycma, ("cma",)),
    "evotorch GymNE": (Evotorch, ("evotorch",)),
    "sb3-contrib ARS": (StableBaselinesArs, ("sb3_contrib",)),
    "evosax + gymnax (jax environment)": (EvosaxGymnax, ("evosax", "gymnax", "flax")),
    "bare environment": (Bare, ()),
}


def work(name: str, warm_up: int) -> None:
    """Be a peer's process: train until warm, then for every line on stdin (seconds) train so long and tell."""
    on_one_core()
    trainer = PEERS[name][0]()
    done, began = 0, time.monotonic()
    while done < warm_up and time.monotonic() - began < WARM_UP_SECONDS:
        done += trainer.generation()[0]
    print(json.dumps({"ready": True}), file=sys.__stdout__, flush=True)
    for line in sys.stdin:
        steps = episodes = 0
        elapsed = 0.0
        while elapsed < float(line):
            more = (0, 0)

            def generation() -> None:
                nonlocal more
                more = trainer.generation()

            elapsed += seconds(generation)
            steps, episodes = steps + more[0], episodes + more[1]
        told = {"rate": steps / elapsed, "length": steps / max(1, episodes)}
        print(json.dumps(told), file=sys.__stdout__, flush=True)


class Peer:
    """A peer's process as seen from here."""

    def __init__(self, name: str, warm_up: int, span: float) -> None:
        self._span = span
        self.lengths: list[float] = []
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.cartpole",
                "--work",
                name,
                "--warm-up",
                str(warm_up),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_environment(),
        )
        self._name = name
        self._answer()  # ready

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # whatever else a library prints
                answer: dict[str, float] = json.loads(line)
                return answer
        raise SystemExit(
            f"{self._name}: its process ended (try: python -m benchmarks.cartpole --work {self._name!r})"
        )

    def rate(self) -> float:
        """Environment steps per second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._span}\n")
        self._process.stdin.flush()
        answer = self._answer()
        self.lengths.append(answer["length"])
        return answer["rate"]

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class EsdTrain:
    """The real command, started anew every time."""

    def __init__(
        self, experiment: str, hidden: list[int], ranks: int, warm_up: int, generations: int
    ) -> None:
        self._ranks, self._warm_up, self.lengths = ranks, warm_up, list[float]()
        settings = (
            f"population={POPULATION}",
            f"policy.hidden={hidden}",
            "env.episodes_per_member=1",
            "run.center_every=0",
            f"generations={generations}",
        )
        self._words = ["train", experiment, *(w for s in settings for w in ("--set", s))]

    def rate(self) -> float:
        """Environment steps per second of all ranks, from the steps after the warm-up."""
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            command = [*mpirun(self._ranks), sys.executable, "-m", "esd", *self._words]
            subprocess.run(
                [*command, "--run", str(run)],
                check=True,
                env=child_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            lines = [json.loads(x) for x in (run / "metrics.jsonl").read_text().splitlines()]
        warm = [line for line in lines if line["env_steps"] >= self._warm_up]
        if len(warm) < 2:
            raise SystemExit(f"esd {' '.join(self._words)}: fewer than {self._warm_up:,} steps")
        first, last = warm[0], warm[-1]
        steps = last["env_steps"] - first["env_steps"]
        self.lengths.append(steps / (last["episodes"] - first["episodes"]))
        return float(steps / (last["seconds"] - first["seconds"]))


@contextmanager
def contenders(
    arguments: argparse.Namespace,
) -> Iterator[dict[str, EsdTrain | Peer]]:
    """All that can be measured here, ours first."""
    found: dict[str, EsdTrain | Peer] = {}
    networks = {"static": ("cartpole-static", [HIDDEN]), "Hebbian": ("cartpole", [HIDDEN, 8])}
    for kind, (experiment, hidden) in networks.items():
        for ranks in (1,) if arguments.quick else (1, 2):
            name = f"esd train, {kind} network, {ranks} rank{'s' if ranks > 1 else ''}"
            # two ranks do twice as much in the same time
            generations = arguments.generations * ranks
            found[name] = EsdTrain(experiment, hidden, ranks, arguments.warm_up, generations)
    peers = []
    for name, (_, modules) in PEERS.items():
        if installed(*modules):
            peer = Peer(name, arguments.warm_up, arguments.span)
            peers.append(peer)
            found[name] = peer
        else:
            print(f"{name}: not installed ({', '.join(modules)})", file=sys.stderr)
    try:
        yield found
    finally:
        for peer in peers:
            peer.close()


def main() -> None:
    """Measure and write."""
    command_line = parser("cartpole", __doc__)
    command_line.add_argument("--rounds", type=int, default=4, help="[%(default)s]")
    command_line.add_argument("--span", type=float, default=2.0, help="s per figure [%(default)s]")
    command_line.add_argument(
        "--generations", type=int, default=24, help="of esd on one rank [%(default)s]"
    )
    command_line.add_argument("--warm-up", type=int, default=WARM_UP_STEPS, help="[%(default)s]")
    command_line.add_argument("--work", choices=list(PEERS), help=argparse.SUPPRESS)
    arguments = command_line.parse_args()
    if arguments.work:
        work(arguments.work, arguments.warm_up)
        return
    if arguments.quick:
        arguments.rounds, arguments.span, arguments.generations = 1, 0.1, 4
        arguments.warm_up = 1
    with contenders(arguments) as found:
        table = in_turns(
            "CartPole-v1, 64 members, 16 hidden units",
            "env-steps/s",
            {name: contender.rate for name, contender in found.items()},
            arguments.rounds,
            more_is_better=True,
        )
        lengths = {name: float(np.median(c.lengths)) for name, c in found.items()}
    write(arguments, "cartpole", {"tables": [table], "steps_per_episode": lengths})


if __name__ == "__main__":
    main()
