"""Evaluations in a run's folder: what each was made of, and what it gave."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from esd.errors import RunError, UsageError
from esd.evaluation.significance import deviation, student_interval
from esd.evaluation.test_episodes import Subject, VariantResult
from esd.evolution.state import RunState
from esd.policies.base import Interface
from esd.problems.make import parameters_of
from esd.reading import MB, read_json
from esd.run.files import check_kind, json_text, write_atomically
from esd.run.folder import RunFolder, Warn

FORMAT = "esd-evaluation-2"
MOST_BYTES = 500 * MB  # of a stored evaluation: each test episode takes about 20 for a number
PARAMETERS_KEPT = 10_000  # numbers; more are for Run.parameters(), not for a text file


@dataclass(frozen=True)
class Conditions:
    """What two evaluations have to share for their results to be compared.

    Attributes:
        checkpoint: "best" or "last".
        seed: of the test stream.
        episodes: on each variant.
        rules: "evolved" or "random".
        settings: the flat settings that are not the run's, as JSON.
    """

    checkpoint: str
    seed: int
    episodes: int
    rules: str = "evolved"
    settings: str = "{}"

    @property
    def plain(self) -> bool:
        """Whether nothing was changed: the run's own rules in its own worlds."""
        return self.rules == "evolved" and self.settings == "{}"

    @property
    def key(self) -> str:
        """A short name."""
        return _digest(dataclasses.astuple(self), 6)

    def options(self) -> list[str]:
        """The flags of ``esd eval`` that ask for them."""
        words = ["--checkpoint", self.checkpoint]
        words += ["--episodes", str(self.episodes), "--seed", str(self.seed)]
        if self.rules != "evolved":
            words += ["--rules", self.rules]
        for key, value in json.loads(self.settings).items():
            if value is not None:
                words += ["--set", f"{key}={_toml(value)}"]
        return words

    def described(self, objective: bool = False) -> str:
        """In words; those of an objective were no episodes."""
        evaluations = f"{self.episodes} test evaluation{'s' * (self.episodes != 1)}"
        episodes = f"{self.episodes} test episode{'s' * (self.episodes != 1)} per variant"
        parts = [
            f"{self.checkpoint} checkpoint",
            evaluations if objective else episodes,
            f"seed {self.seed}",
        ]
        if self.rules != "evolved":
            parts.append(f"{self.rules} rules")
        # what is gone only because something below it is there says nothing: env.kwargs beside env.kwargs.gravity
        changed = json.loads(self.settings)
        parts += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}"
            for key, value in changed.items()
            if value is not None or not any(other.startswith(f"{key}.") for other in changed)
        ]
        return ", ".join(parts)


def _digest(data: Any, digits: int) -> str:
    text = json.dumps(data, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def _toml(value: Any) -> str:
    """A value as it can be given to ``--set``."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def describe(
    folder: RunFolder,
    subject: Subject,
    state: RunState,
    conditions: Conditions,
    results: list[VariantResult],
) -> dict[str, Any]:
    """An evaluation as it is stored; see docs/evaluation.md for its fields."""
    # an episode has the same seeds on every variant, so their mean is one value per episode
    returns = np.mean([result.returns for result in results], axis=0)
    return {
        "format": FORMAT,
        "run": str(folder.path),
        "checkpoint": conditions.checkpoint,
        "generation": state.generation,
        "h_sha256": state.h_sha256(),
        "seed": conditions.seed,
        "episodes": conditions.episodes,
        "env": subject.title,
        "settings": json.loads(conditions.settings),
        "rules": conditions.rules,
        "variants": [_variant(result) for result in results],
        **_mean_and_std(returns),
        "interval_95": _interval(returns),
        "interval_is": f"{subject.noise} noise of one run",
        "steps": sum(result.steps for result in results),
        **_parameters(subject, state),
    }


def _parameters(subject: Subject, state: RunState) -> dict[str, Any]:
    """What an objective's function was given, by name: the answer that its run has found; of too many nothing."""
    if not subject.config.objective.named or state.h.size > PARAMETERS_KEPT:
        return {}
    values = parameters_of(subject.config, Interface(0, state.h.size, False), state.h)
    return {"parameters": {name: array.tolist() for name, array in values.items()}}


def _mean_and_std(values: npt.NDArray[np.float64]) -> dict[str, float | None]:
    return {"mean": _finite(float(values.mean())), "std": _finite(deviation(values))}


def _interval(values: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """The 95 % interval of the mean; None of a single value, or if one is not finite."""
    low, high = student_interval(values)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def _finite(value: float) -> float | None:
    """A number; None, which is JSON's null, for what can't be known."""
    return value if math.isfinite(value) else None


def _variant(result: VariantResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "seen": result.seen,
        "world": result.world,
        **_mean_and_std(result.returns),
        "interval_95": _interval(result.returns),
        "steps": result.steps,
        "returns": result.returns.tolist(),
        "results": {
            name: {
                **_mean_and_std(values),
                "unit": result.units[name],
                "episodes": values.tolist(),
            }
            for name, values in result.results.items()
        },
    }


def summary(description: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what each episode gave."""

    def without(table: dict[str, Any], key: str) -> dict[str, Any]:
        return {k: v for k, v in table.items() if k != key}

    variants = [
        {
            **without(variant, "returns"),
            "results": {n: without(r, "episodes") for n, r in variant["results"].items()},
        }
        for variant in description["variants"]
    ]
    return {**without(description, "format"), "variants": variants}


def store(folder: RunFolder, description: dict[str, Any]) -> Path:
    """Write an evaluation; its name holds a digest of all that it was made of, so it replaces nothing but itself.

    Raises:
        RunError: if it can't be written.
    """
    made_of = [
        description[key]
        for key in ("checkpoint", "generation", "h_sha256", "seed", "episodes", "settings", "rules")
    ]
    made_of += [[variant["name"], variant["world"]] for variant in description["variants"]]
    name = (
        f"{description['checkpoint']}-g{description['generation']}-s{description['seed']}-n{description['episodes']}"
        f"-{_digest(made_of, 10)}.json"
    )
    try:
        check_kind(folder.evaluations, folder=True)
        folder.evaluations.mkdir(exist_ok=True)
    except UsageError as error:
        raise RunError(str(error)) from error
    except OSError as error:
        raise RunError(f"{folder.evaluations}: can't be created ({error.strerror})") from error
    path = folder.evaluations / name
    write_atomically(path, json_text(description, indent=1).encode() + b"\n")
    return path


def read(folder: RunFolder, warn: Warn = lambda text: None) -> list[dict[str, Any]]:
    """The evaluations of a run, those of older versions of esd left out.

    Args:
        folder: of the run.
        warn: is called with a line about each that is damaged, which is ignored.

    Raises:
        UsageError: if the folder of evaluations is a symbolic link.
    """
    check_kind(folder.evaluations, folder=True)
    found = []
    for path in sorted(folder.evaluations.glob("*.json")):
        try:
            description = read_json(path, MOST_BYTES)
        except FileNotFoundError:  # replaced meanwhile
            continue
        except UsageError as error:
            warn(f"{error}; ignored, remove it")
            continue
        if not isinstance(description, dict) or description.get("format") != FORMAT:
            continue
        if _is_whole(description):
            found.append(description)
        else:
            warn(f"{path}: damaged; ignored, remove it")
    return found


def _is_whole(description: dict[str, Any]) -> bool:
    """Whether an evaluation has what is read of it, of the right types."""
    variants = description.get("variants")
    return (
        all(isinstance(description.get(key), str) for key in ("checkpoint", "rules"))
        and all(type(description.get(key)) is int for key in ("generation", "seed", "episodes"))
        and isinstance(description.get("settings"), dict)
        and isinstance(variants, list)
        and len(variants) > 0
        and all(map(_is_variant, variants))
    )


def _is_variant(variant: Any) -> bool:
    return (
        isinstance(variant, dict)
        and isinstance(variant.get("name"), str)
        and isinstance(variant.get("seen"), bool)
        and isinstance(variant.get("world"), dict)
        and isinstance(variant.get("mean", ""), int | float | None)
    )


def conditions_of(description: dict[str, Any]) -> Conditions:
    """The conditions of a stored evaluation."""
    return Conditions(
        description["checkpoint"],
        description["seed"],
        description["episodes"],
        description["rules"],
        json.dumps(description["settings"], sort_keys=True),
    )
