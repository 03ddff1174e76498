"""``esd list``."""

from __future__ import annotations

import enum
from typing import Annotated

import typer

from esd.commands.running import alone


class Topic(enum.StrEnum):
    """What can be listed."""

    EXPERIMENTS = "experiments"
    POLICIES = "policies"
    RULES = "rules"
    ALGORITHMS = "algorithms"
    OPTIMIZERS = "optimizers"
    SHAPINGS = "shapings"
    NOISE = "noise"
    ENVIRONMENTS = "environments"
    OBJECTIVES = "objectives"
    SETTINGS = "settings"


def list_names(
    topic: Annotated[Topic, typer.Argument(help="What to list.")] = Topic.EXPERIMENTS,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List experiments, settings with their defaults, or the available policies, algorithms and so on."""

    def body() -> int:
        from esd.commands.console import print_json

        names = _names(topic)
        if as_json:
            print_json({str(topic): names})
        else:
            width = max(map(len, names), default=0)
            for name, text in names.items():
                print(f"{name:{width}}  {text}".rstrip())
        return 0

    alone(body, as_json)


def _names(topic: Topic) -> dict[str, str]:
    """Names and what is to be said of each."""
    from esd.config.descriptions import describe_settings
    from esd.config.experiment_files import experiment_names
    from esd.config.kinds import ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES
    from esd.config.policies import YOUR_OWN
    from esd.config.settings import NOISE_NAMES
    from esd.evolution.shaping import SHAPINGS
    from esd.policies.hebbian import RULE_COEFFICIENTS

    if topic is Topic.EXPERIMENTS:
        return {name: _first_comment(name) for name in experiment_names()}
    if topic is Topic.SETTINGS:
        return describe_settings()
    if topic is Topic.ENVIRONMENTS:
        import gymnasium

        from esd.episodes.registration import register_installed

        broken = register_installed()
        return {**dict.fromkeys(sorted(gymnasium.registry), ""), **broken}
    if topic is Topic.OBJECTIVES:
        return {name: _first_line_of(name) for name in OBJECTIVES.names()}
    names = {
        Topic.POLICIES: (*POLICIES.names(), YOUR_OWN),
        Topic.RULES: tuple(RULE_COEFFICIENTS),
        Topic.ALGORITHMS: ALGORITHMS.names(),
        Topic.OPTIMIZERS: OPTIMIZERS.names(),
        Topic.SHAPINGS: tuple(SHAPINGS),
        Topic.NOISE: NOISE_NAMES,
    }[topic]
    return dict.fromkeys(names, "")


def _first_line_of(objective: str) -> str:
    """The first line of a function's documentation, or what is wrong with an installed one."""
    from esd.config.kinds import OBJECTIVES
    from esd.errors import UsageError

    try:
        documentation = OBJECTIVES.find(objective).__doc__
    except UsageError as error:
        return str(error)
    return (documentation or "").strip().partition("\n")[0]


def _first_comment(experiment: str) -> str:
    """The first line of a shipped experiment, which says what it is."""
    from importlib import resources

    text = (resources.files("esd.config") / "experiments" / f"{experiment}.toml").read_text("utf-8")
    return text.splitlines()[0].removeprefix("#").strip()
