"""What is exported: one state of a run, and all that a reader elsewhere needs to know of it."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from esd.config.settings import Config
from esd.episodes.making import close, make_environment
from esd.episodes.observations import fits_float32
from esd.evaluation.of_run import load
from esd.evolution.layout import Layout
from esd.evolution.state import RunState
from esd.policies.base import Interface
from esd.problems.make import layout_and_h0
from esd.run.files import in_utf8
from esd.run.folder import RunFolder, Warn
from esd.training.process_state import kept_process_state

CLIP = 10.0  # of normalized observations, see ``kernels.actions.observe``


@dataclass(frozen=True)
class Subject:
    """One state of a run.

    Attributes:
        folder: of the run, or its file.
        config: of the run.
        state: what is exported.
        checkpoint: "best" or "last".
    """

    folder: RunFolder
    config: Config
    state: RunState
    checkpoint: str

    @functools.cached_property
    def interface(self) -> Interface:
        """What the policy was built for."""
        return self.folder.interface(self.config)

    @functools.cached_property
    def layout(self) -> Layout:
        """The named arrays in h."""
        return layout_and_h0(self.config, self.interface)[0]

    @functools.cached_property
    def spaces(self) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
        """The observation and the action space, of the first variant that was trained on.

        Raises:
            UsageError: if the environment can't be made.
        """
        env = self.config.env.of_variant(self.config.env.trained[0])
        with kept_process_state():
            environment = make_environment(env, self.config.format)
        found = environment.observation_space, environment.action_space
        close(environment, f"env.id = {env.id!r}")
        return found

    @property
    def scale(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]] | None:
        """Mean and inverse deviation that observations are normalized by; None if they are not."""
        statistics = self.state.observations
        return statistics.scale() if statistics.size else None

    @property
    def observation_dtype(self) -> str:
        """What observations are normalized from: "float64" where float32 can't hold them, as in training."""
        narrow = self.scale is None or self.config.format == 1 or fits_float32(self.spaces[0])
        return "float32" if narrow else "float64"

    def words(self) -> dict[str, str]:
        """What a file of any format says of where it comes from."""
        return {
            "run": in_utf8(self.folder.path),
            "generation": str(self.state.generation),
            "checkpoint": self.checkpoint,
            "h_sha256": self.state.h_sha256(),
            "env": self.config.objective.function or self.config.env.id,
            "policy": "" if self.config.objective.named else self.config.policy.kind,
        }


def load_subject(folder: RunFolder, checkpoint: str, warn: Warn) -> Subject:
    """One state of a run; see ``evaluation.of_run.load``."""
    return Subject(folder, *load(folder, checkpoint, warn))


def described_space(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A space as JSON; a bound is a number if it is the same everywhere, and null where there is none."""
    if isinstance(space, spaces.Box):
        ends = {"low": _bounds(space.low), "high": _bounds(space.high)}
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), **ends}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        numbers = {"nvec": space.nvec.tolist(), "start": np.asarray(space.start).tolist()}
        return {"type": "MultiDiscrete", **numbers, "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "shape": list(space.shape or ())}
    if isinstance(space, spaces.Dict):
        parts = {str(key): described_space(part) for key, part in space.spaces.items()}
        return {"type": "Dict", "spaces": parts}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [described_space(part) for part in space.spaces]}
    return {"type": type(space).__name__}


def _bounds(values: npt.NDArray[Any]) -> Any:
    flat = [float(v) if np.isfinite(v) else None for v in values.reshape(-1).tolist()]
    return flat[0] if len({*flat}) == 1 else flat


def described_normalizer(subject: Subject) -> str:
    """What normalizes observations, as JSON; null if nothing does."""
    if subject.scale is None:
        return "null"
    mean, inverse = subject.scale
    return json.dumps(
        {
            "count": subject.state.observations.count,
            "mean": mean.tolist(),
            "inverse_deviation": inverse.tolist(),
            "clip": CLIP,
        }
    )
