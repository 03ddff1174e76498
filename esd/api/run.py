"""A run's folder from Python: ``esd.Run``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.api.policy import Policy
from esd.api.ranks import failures_raised, ranks
from esd.api.settings import LARGEST_SEED, as_texts, by_dotted_name, whole_number
from esd.config.settings import Config
from esd.errors import UntrustedError, UsageError, warn
from esd.evaluation.of_run import CHECKPOINTS, evaluate_and_store, load
from esd.evaluation.stored import summary
from esd.evaluation.test_episodes import choose
from esd.evolution.global_generators import kept_generators
from esd.evolution.state import RunState
from esd.export.exporting import export_run
from esd.mpi.comm import agreement
from esd.problems.make import parameters_of
from esd.run.run_file import open_run
from esd.run.trust import Trust, trust_of
from esd.training.diagnosis import Course, diagnose
from esd.training.trusted import trusted_run

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


class Run:
    """A finished or unfinished training run.

    Args:
        path: The run's folder, or a file written by ``esd export``.
        trust: Allow the run's own code although the run was not created here, for example a copy (docs/security.md).
            Settings and metrics can be read without it.

    Attributes:
        path: the run's folder.

    Raises:
        UsageError: if there is no run at this path.
    """

    def __init__(self, path: str | PathLike[str], *, trust: bool = False) -> None:
        """Open a folder; nothing in it is changed."""
        if not isinstance(path, str | PathLike):
            raise UsageError(f"run = {path!r}: expected the path of a folder or a file")
        self.path = Path(path)
        self._trust = trust
        self._folder = open_run(self.path, trust_of(trust))
        self._folder.require_run()

    def __repr__(self) -> str:
        return f"esd.Run({str(self.path)!r})"

    @property
    def config(self) -> Config:
        """All settings of the run, such as ``run.config.es.sigma``."""
        try:
            return self._folder.config()
        except UntrustedError:  # they can be looked at
            return open_run(self.path, Trust.NEVER).config()

    @property
    def finished(self) -> bool:
        """Whether all generations are done, or the target was reached."""
        return self._folder.done(lambda text: None) is not None

    @property
    def generation(self) -> int:
        """Number of updates of h in the journal."""
        return self._folder.generation(self.config)

    def metrics(self) -> list[dict[str, Any]]:
        """One dict per generation, as in ``metrics.jsonl``: ready for ``pandas.DataFrame(run.metrics())``.

        Missing or damaged lines are rebuilt from the journal. What it does not have is None there; the times since the
        start, ``seconds`` and ``core_seconds``, stay as they were in the line before, or 0.
        """
        return self._folder.metrics_lines(self.config, lambda text: None)

    def findings(self) -> list[dict[str, str]]:
        """Problems found in the training, each with "name" and "text". Empty if there are none."""
        config = self._folder.config()
        size = self._last().h.size
        lines = self._folder.metrics_lines(config, lambda text: None)
        return [finding.as_json() for finding in diagnose(Course.of_lines(lines, config, size))]

    def h(self, generation: int | None = None) -> Float32s:
        """Return the evolved vector h before a generation.

        Args:
            generation: Number of the generation. h is rebuilt from the journal, without running episodes. None: after
                the last generation.

        Returns:
            float32 [|h|].

        Raises:
            UsageError: if the journal has no such generation.
        """
        if generation is None:
            return self._last().h
        generation = whole_number("generation", generation, 0)
        config = self._folder.config()
        return self._folder.state_at(generation, config, self._folder.journal(config)).h

    def parameters(
        self, generation: int | None = None
    ) -> dict[str, Float32s] | dict[str, Float64s]:
        """Return h as named arrays, such as ``layer0.A`` [inputs, outputs] of a Hebbian network.

        For the run of an objective, these are the arguments of its function: float64, within their bounds. A single
        number is an array without axes.
        """
        config = self._folder.config()
        return parameters_of(config, self._folder.interface(config), self.h(generation))

    def evaluate(
        self,
        *,
        episodes: int = 100,
        seed: int = 0,
        variants: Sequence[str] | None = None,
        settings: Mapping[str, Any] | None = None,
        checkpoint: str = "best",
        rules: str = "evolved",
    ) -> dict[str, Any]:
        """Evaluate on test episodes that were not used for training or selection, like ``esd eval``.

        Args:
            episodes: Number of test episodes on each variant.
            seed: Seed of the test episodes.
            variants: Names of the variants. None: all variants, seen and unseen.
            settings: Overrides of [env] and [policy] settings for these episodes, by dotted name.
            checkpoint: "best" or "last".
            rules: "evolved", or "random" for new random rules in each episode, as a baseline.

        Returns:
            "mean", "std" and "interval_95" over all episodes, and the same for each variant under "variants". The
            evaluation is also written to the run's folder.

        Raises:
            UsageError: if an argument does not fit the run.
        """
        with failures_raised(), kept_generators():
            comm = ranks()
            own = as_texts(by_dotted_name(settings))
            folder = trusted_run(comm, self._folder.place, self._trust, own)
            folder.path = self.path  # for messages and the stored evaluation
            with agreement(comm, "reading the run"):
                episodes = whole_number("episodes", episodes, 1)
                seed = whole_number("seed", seed, 0, LARGEST_SEED)
                if variants is not None and not _are_names(variants):
                    raise UsageError(
                        f"variants = {variants!r}: expected a list of names, or None for all variants"
                    )
                _check(checkpoint, CHECKPOINTS, "checkpoint")
                _check(rules, ("evolved", "random"), "rules")
                config, state, which = load(folder, checkpoint, lambda text: None)
                if config.objective.named and rules == "random":
                    raise UsageError(f"rules = {rules!r}: {self.path} is a run of an objective")
                subject = choose(config, None, own, variants or ())
            found = evaluate_and_store(
                comm, folder, subject, state, which, episodes, seed, rules, lambda *_: None
            )
        return summary(found)

    def policy(self, checkpoint: str = "best", variant: str = "") -> Policy:
        """Return the trained policy, to act in your own environment.

        Args:
            checkpoint: "best" or "last".
            variant: Name of the variant whose observation and action spaces are used. None: the first variant.

        Returns:
            A policy: ``reset(seed)`` starts an episode, and ``act(observation)`` returns an action.

        Raises:
            UsageError: if the run has no such checkpoint or variant, or is the run of an objective.
        """
        _check(checkpoint, CHECKPOINTS, "checkpoint")
        config = self._folder.config()
        if config.objective.named:
            raise UsageError(
                f"{self.path}: a run of an objective, which has no policy; Run.parameters() gives what it evolved"
            )
        return Policy(config, self._state(checkpoint), variant)

    def export(
        self, path: str | PathLike[str], format: str | None = None, *, checkpoint: str = "best"
    ) -> None:
        """Write the run to one file, like ``esd export``.

        Args:
            path: the file, such as "policy.onnx".
            format: "safetensors", "seed", "mat", "onnx" or "torch"; None: from the suffix of the file.
            checkpoint: "best" or "last".

        Raises:
            UsageError: if the run can't be written in this format.
            RunError: if the file can't be written.
        """
        _check(checkpoint, CHECKPOINTS, "checkpoint")
        if not isinstance(path, str | PathLike):
            raise UsageError(f"path = {path!r}: expected the path of a file")
        if format is not None and not isinstance(format, str):
            raise UsageError(f"format = {format!r}: expected a text, or None for the suffix's")
        with kept_generators():
            export_run(self._folder, Path(path), format, checkpoint, warn)

    def _last(self) -> RunState:
        """The state after the last generation; of a file the one that it holds."""
        self._folder.require_run()
        return self._folder.last_state(self._folder.config(), lambda text: None)

    def _state(self, checkpoint: str) -> RunState:
        return load(self._folder, checkpoint, lambda text: None)[1]


def _are_names(value: Any) -> bool:
    """Whether it is a list of texts, or the like, and not empty."""
    return (
        isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and len(value) > 0
    )


def _check(value: str, choices: Sequence[str], name: str) -> None:
    """Refuse what is not one of the choices."""
    if value not in choices:
        raise UsageError(f"{name} = {value!r}: expected one of {', '.join(map(repr, choices))}")
