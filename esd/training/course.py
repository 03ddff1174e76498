"""What a training did, as far as the lines of its metrics know it, and what can be found wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from esd.config.settings import Config

Line = Mapping[str, Any]

NUMBERS = (int, float, type(None))


@dataclass(frozen=True)
class Finding:
    """One thing that went wrong.

    Attributes:
        name: of the symptom, such as ``constant_return``: for programs.
        text: what happened and what to try, one sentence or two.
        explains: names of symptoms that follow from this one, and are not told beside it.
    """

    name: str
    text: str
    explains: tuple[str, ...] = field(default=(), compare=False)

    def as_json(self) -> dict[str, str]:
        """For ``--json`` and DONE.json."""
        found = asdict(self)
        return {"name": found["name"], "text": found["text"]}


@dataclass(frozen=True)
class Course:
    """What a training did, as far as its metrics know.

    Attributes:
        generations: the lines of generations with members, in order.
        centers: the lines of those in which the center was evaluated, by ``run.center_every``.
        config: of the run.
        h_size: |h|; None if it is not known.
    """

    generations: Sequence[Line]
    centers: Sequence[Line]
    config: Config
    h_size: int | None = None

    @classmethod
    def of_lines(cls, lines: Iterable[Line], config: Config, h_size: int | None = None) -> Course:
        """From the lines of metrics.jsonl; the last of a finished run is the center's alone."""
        known = [line for line in lines if isinstance(line.get("generation"), int)]
        known = [line for line in known if all(isinstance(v, NUMBERS) for v in line.values())]
        # of a line that was rebuilt from the journal: unknown, where null means not finite elsewhere
        known = [line if line.get("ranks", 1) is not None else _known(line) for line in known]
        every = config.run.center_every
        return cls(
            [line for line in known if line["generation"] < config.generations],
            [line for line in known if every and line["generation"] % every == 0],
            config,
            h_size,
        )

    def known(self, name: str) -> list[float]:
        """The values of a key in the generations that have one."""
        return [line[name] for line in self.generations if line.get(name) is not None]


def _known(line: Line) -> Line:
    """A rebuilt line without what was lost; its returns are known, and may be null."""
    kept = ("return_mean", "return_min", "return_max", "center_return")
    return {key: value for key, value in line.items() if value is not None or key in kept}
