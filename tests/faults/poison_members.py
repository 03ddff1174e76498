"""An environment, a policy and an objective that go wrong for one member, in every way that users' code does."""

from __future__ import annotations

import collections
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from esd.evolution.layout import Layout
from esd.policies.base import Interface


class UserError(Exception):
    """An error of a user's own kind, which can't be made from its arguments again."""

    def __init__(self, first: str, *, second: str) -> None:
        super().__init__(f"{first} {second}")


DEED, SEED = (
    "ESD_FAULTS_DEED",
    "ESD_FAULTS_SEED",
)  # environment variables: so the config is that of a healthy run


def _raise(error: BaseException) -> Any:
    raise error


def _overflow() -> Any:
    def deeper(n: int) -> int:
        return deeper(n + 1) + 1

    return deeper(0)


def _close_descriptors() -> None:
    os.closerange(3, 200)


def _leave_a_thread() -> None:
    threading.Thread(target=lambda: time.sleep(3600.0), daemon=False).start()


def _fork_and_leave() -> None:
    if os.fork() == 0:
        time.sleep(3600.0)
        os._exit(0)


def _fork_and_return() -> None:
    """The child goes on in our code, as a fork without an exec and an exit does."""
    os.fork()


def _leave_a_program() -> None:
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"])


def _exhaust() -> None:
    held = []
    while True:
        held.append(bytearray(64 << 20))


def _loop() -> None:
    while True:
        pass


def _loop_in_c() -> None:
    ctypes.CDLL(None).pause()


def _loop_with_the_lock() -> None:
    """In C, which neither looks at signals nor lets go of the interpreter's lock."""
    collections.deque(itertools.repeat(None), maxlen=0)


# by name: what is done then; what it returns, if anything, is in the place of the reward, outputs or value
DEEDS: dict[str, Callable[[], Any]] = {
    "raise RuntimeError": lambda: _raise(RuntimeError("the physics broke")),
    "raise an error of its own": lambda: _raise(UserError("it", second="broke")),
    "raise without a text": lambda: _raise(AssertionError()),
    "raise BrokenPipeError": lambda: _raise(BrokenPipeError("the simulator has gone")),
    "raise MemoryError": lambda: _raise(MemoryError()),
    "raise KeyboardInterrupt": lambda: _raise(KeyboardInterrupt()),
    "raise StopIteration": lambda: _raise(StopIteration()),
    "raise GeneratorExit": lambda: _raise(GeneratorExit()),
    "sys.exit(0)": lambda: sys.exit(0),
    "sys.exit(3)": lambda: sys.exit(3),
    "sys.exit('text')": lambda: sys.exit("bye"),
    "recursion": _overflow,
    "NaN": lambda: float("nan"),
    "infinite": lambda: float("inf"),
    "text": lambda: "high",
    "complex": lambda: 1j,
    "a vector": lambda: np.zeros(2),
    "observation NaN": lambda: "observation",
    "another shape": lambda: "shape",
    "four values": lambda: "four",
    "os._exit(0)": lambda: os._exit(0),
    "os._exit(1)": lambda: os._exit(1),
    "segmentation fault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "kill itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate itself": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "sleep for an hour": lambda: time.sleep(3600.0),
    "loop for ever": _loop,
    "wait in C for ever": _loop_in_c,
    "loop in C with the interpreter's lock": _loop_with_the_lock,
    "stop itself": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exhaust memory": _exhaust,
    "leave a thread": _leave_a_thread,
    "leave a forked child": _fork_and_leave,
    "leave a program": _leave_a_program,
    "fork and return": _fork_and_return,
    "close descriptors": _close_descriptors,
    "close stdout and stderr": lambda: [os.close(1), os.close(2), None][2],
    "close sys.stdout": lambda: sys.stdout.close(),
    "change directory": lambda: os.chdir("/"),
    "change umask": lambda: [os.umask(0o777), None][1],
    "ignore signals": lambda: [signal.signal(n, signal.SIG_IGN) for n in (2, 10, 12, 15)] and None,
    "clear the environment": lambda: os.environ.clear(),
    "raise for every numpy warning": lambda: [np.seterr(all="raise"), None][1],
    "replace sys.stdout": lambda: setattr(sys, "stdout", None),
    "limit files": lambda: _limit("NOFILE"),
    "limit file sizes": lambda: _limit("FSIZE"),
    "print much": lambda: print("noise " * 200_000),
    "print bytes that are no text": lambda: [os.write(1, bytes(range(256)) * 40), None][1],
}  # fmt: skip


def _limit(name: str) -> None:
    import resource

    resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (1, 1))


def does_it(seed: int | None) -> bool:
    """Whether an episode, or a call, of this seed is the one that goes wrong."""
    return str(seed) == os.environ.get(SEED)


def done() -> Any:
    """Do what the environment variable says."""
    return DEEDS[os.environ[DEED]]()


class Poisoned(gymnasium.Env):
    """Five steps, whose rewards depend on the actions; in the third of one episode something happens."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        self.poisoned = does_it(seed)
        return self._observation(), {}

    def _observation(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def step(self, action: Any) -> Any:
        self.steps += 1
        reward: Any = float(self.np_random.random()) + float(action)
        observation = self._observation()
        if self.poisoned and self.steps == 3:
            given = done()
            if given == "four":
                return observation, reward, False, {}
            if given == "shape":
                observation = np.zeros((3, 1), np.float32)
            elif given == "observation":
                observation = np.full(3, np.nan, np.float32)
            elif given is not None:
                reward = given
        return observation, reward, False, self.steps >= 5, {}


class PoisonedPolicy:
    """A linear policy, which in the third act of one episode does something."""

    squashed = False

    def __init__(self, interface: Interface) -> None:
        self.layout = Layout({"w": (interface.observation_size, interface.action_size)})

    def initial_parameters(self, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(self.layout.size).astype(np.float32)

    def load(self, parameters: np.ndarray) -> None:
        self.w = self.layout.unpack(parameters)["w"].copy()

    def reset(self, seed: int) -> None:
        self.acts, self.poisoned = 0, does_it(seed)

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.acts += 1
        outputs = observation @ self.w
        if self.poisoned and self.acts == 3:
            given = done()
            if given == "shape":
                return np.zeros(7, np.float32)
            if given is not None:
                return np.full_like(outputs, given)
        return outputs


def poisoned(x: np.ndarray, seed: int) -> Any:
    """A sphere, one call of which does something."""
    value = float(np.sum(np.square(x)))
    if does_it(seed):
        given = done()
        if given is not None:
            return np.zeros(3) if given == "shape" else given
    return value


gymnasium.register("Poisoned-v0", entry_point=Poisoned, max_episode_steps=50)
