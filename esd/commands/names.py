"""Names that a user can choose from, by topic, each with a line that says what it is."""

from __future__ import annotations

import ast
import enum
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esd.config.kinds import Kinds


class Topic(enum.StrEnum):
    """What can be listed."""

    EXPERIMENTS = "experiments"
    ENVIRONMENTS = "environments"
    OBJECTIVES = "objectives"
    POLICIES = "policies"
    RULES = "rules"
    ALGORITHMS = "algorithms"
    OPTIMIZERS = "optimizers"
    SHAPINGS = "shapings"
    NOISE = "noise"
    SETTINGS = "settings"


HEADINGS = {
    Topic.EXPERIMENTS: "Experiments: esd train NAME",
    Topic.ENVIRONMENTS: "Environments: env.id",
    Topic.OBJECTIVES: "Test functions: objective.function",
    Topic.POLICIES: "Policies: policy.kind",
    Topic.RULES: "Learning rules of hebbian policies: policy.rule",
    Topic.ALGORITHMS: "Algorithms: es.algorithm",
    Topic.OPTIMIZERS: "Optimizers: es.optimizer",
    Topic.SHAPINGS: "Fitness shaping: es.shaping",
    Topic.NOISE: "Noise of the perturbations: es.noise",
    Topic.SETTINGS: "Settings: --set KEY=VALUE, or in a TOML file",
}
_NOISE_TEXTS = {
    "gaussian": "Normal distribution, N(0, 1)",
    "rademacher": "−1 or 1",
    "binomial": "(number of ones in 16 random bits − 8) / 2: nearly normal, and faster to draw",
    "low_rank": "Product of two thin normal factors for each matrix; es.rank sets the rank",
}
_OF_A_RULE = {"A": "A·xy", "B": "B·x", "C": "C·y", "D": "D"}  # x before a connection, y behind it


def names_of(topic: Topic) -> dict[str, str]:
    """The names of a topic with their texts; a broken installed package has the reason as its text."""
    from esd.config.descriptions import describe_settings
    from esd.config.experiment_files import experiment_names, first_comment
    from esd.config.kinds import ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES
    from esd.config.policies import YOUR_OWN
    from esd.config.settings import NOISE_NAMES
    from esd.evolution.shaping import SHAPINGS
    from esd.policies.hebbian import RULE_COEFFICIENTS

    match topic:
        case Topic.EXPERIMENTS:
            return {name: first_comment(name) for name in experiment_names()}
        case Topic.ENVIRONMENTS:
            return _environments()
        case Topic.OBJECTIVES:
            return _of_kinds(OBJECTIVES)
        case Topic.POLICIES:
            own = "Your own class or torch.nn.Module (docs/policies.md)"
            return {**_of_kinds(POLICIES), YOUR_OWN: own}
        case Topic.RULES:
            return {name: _rule(names) for name, names in RULE_COEFFICIENTS.items()}
        case Topic.ALGORITHMS:
            return _of_kinds(ALGORITHMS)
        case Topic.OPTIMIZERS:
            return _of_kinds(OPTIMIZERS)
        case Topic.SHAPINGS:
            return {name: _first_line(function.__doc__) for name, function in SHAPINGS.items()}
        case Topic.NOISE:
            return {name: _NOISE_TEXTS.get(name, "") for name in NOISE_NAMES}
        case Topic.SETTINGS:
            return describe_settings()


def _environments() -> dict[str, str]:
    """Registered environments with where their code is, those of esd first; and broken packages."""
    import gymnasium

    from esd.episodes.registration import register_installed

    broken = register_installed()
    names = sorted(gymnasium.registry, key=lambda name: (not name.startswith("esd/"), name))
    return {name: _what_it_is(gymnasium.registry[name].entry_point) for name in names} | broken


def _what_it_is(place: object) -> str:
    """Where the class of an environment is; of one of esd the first line of its documentation."""
    if not isinstance(place, str):  # registered with a function, or under an old name only
        return ""
    module, _, name = place.partition(":")
    if not module.startswith("esd_envs."):
        return place
    return _first_line(_documentation(module, name)) or place


def _documentation(module: str, name: str) -> str | None:
    """A class's, without importing its module, which may need MuJoCo or Box2D."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return None
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return ast.get_docstring(node)
    return None


def _of_kinds(kinds: Kinds) -> dict[str, str]:
    return {name: _text_of(kinds, name) for name in kinds.names()}


def _text_of(kinds: Kinds, name: str) -> str:
    """The first line of the documentation of a class, a function or, for anything else, its module."""
    from esd.errors import UsageError

    try:
        found: Any = kinds.find(name)
    except UsageError as error:
        return str(error)
    if inspect.isclass(found) or inspect.isfunction(found):
        return _first_line(found.__doc__)
    place = kinds.built_in.get(name) or kinds.installed[name].value
    return _first_line(getattr(sys.modules.get(place.partition(":")[0]), "__doc__", None))


def _first_line(documentation: str | None) -> str:
    return (documentation or "").strip().partition("\n")[0].replace("``", "")


def _rule(coefficients: tuple[str, ...]) -> str:
    """The change of a weight as a formula."""
    inner = " + ".join(_OF_A_RULE[name] for name in coefficients if name in _OF_A_RULE)
    learned = f"η({inner})" if "eta" in coefficients else inner
    return f"Δw = {learned}{' + D_out' if 'D_out' in coefficients else ''}"
