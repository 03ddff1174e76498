"""``esd list``."""

from __future__ import annotations

from typing import Annotated

import typer

from esd.commands.names import Topic
from esd.commands.running import alone

_TOPICS = ", ".join(Topic)
_OTHERS = "Environments: others"


def list_names(
    topic: Annotated[
        str | None,
        typer.Argument(
            help=f"What to list: {_TOPICS}. Default: all of them, without settings and without the environments of "
            "other packages.",
            metavar="TOPIC",
            show_default=False,
            autocompletion=lambda incomplete: [t for t in Topic if t.startswith(incomplete)],
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List what you can choose: experiments, environments, policies, algorithms, settings and so on."""

    def body() -> int:
        from esd.commands.console import print_json
        from esd.commands.names import HEADINGS, names_of
        from esd.commands.sections import print_sections

        chosen = None if topic is None else _topic(topic)
        if as_json:
            topics = list(Topic) if chosen is None else [chosen]
            print_json({str(one): names_of(one) for one in topics})
        elif chosen is not None:
            names = names_of(chosen)
            by_package = chosen is Topic.ENVIRONMENTS
            print_sections(_by_package(names) if by_package else {HEADINGS[chosen]: names})
        else:
            print_sections(*_overview())
        return 0

    alone(body, as_json)


def _topic(word: str) -> Topic:
    """The topic that a user names."""
    from esd.errors import UsageError, nearest, shown

    if word not in list(Topic):
        raise UsageError(
            f"{shown(word)}: expected a topic, {nearest(word, [str(topic) for topic in Topic])}"
        )
    return Topic(word)


def _by_package(environments: dict[str, str]) -> dict[str, dict[str, str]]:
    """Environments under the names of the packages that they are from."""
    sections: dict[str, dict[str, str]] = {}
    for name, text in environments.items():
        package = "esd" if name.startswith("esd/") else text.partition(".")[0].partition(":")[0]
        heading = f"Environments: {package}" if package.isidentifier() else _OTHERS
        is_place = package != "esd" and " " not in text  # not why a package is broken
        sections.setdefault(heading, {})[name] = text.partition(":")[0] if is_place else text
    others = sections.pop(_OTHERS, None)  # at the end
    return {**sections, **({_OTHERS: others} if others else {})}


def _overview() -> tuple[dict[str, dict[str, str]], str]:
    """All sections but the longest, and the line that says where those are."""
    from esd.commands.names import HEADINGS, names_of

    sections = {}
    for topic in Topic:
        if topic is not Topic.SETTINGS:
            sections[HEADINGS[topic]] = names_of(topic)
    environments = sections[HEADINGS[Topic.ENVIRONMENTS]]
    own = {name: text for name, text in environments.items() if name.startswith("esd/")}
    others = len(environments) - len(own)
    sections[HEADINGS[Topic.ENVIRONMENTS]] = own
    return (
        sections,
        f"esd list environments shows {others:,} more. esd list settings shows all settings.",
    )
