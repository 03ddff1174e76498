"""metrics.jsonl: one line per generation, for plots, tables and dashboards. docs/metrics.md says what every key means.

Its returns, steps and episodes are in the journal, too: where the file is damaged they are rebuilt from there. What
only the clock knew (seconds, ranks) is lost with a line, and σ and the norms, which need a replay, are left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from esd.config.settings import Config
from esd.errors import UPDATE, NotWritableError, RunError, UsageError
from esd.evolution.records import Records
from esd.evolution.reduction import center_return, reduced_return
from esd.reading import open_regular
from esd.run.files import open_for_writing, write_atomically
from esd.run.journal import JournalContents

Line = dict[str, Any]
Warn = Callable[[str], None]
_Number = TypeVar("_Number", float, npt.NDArray[np.float64])
SCHEMA = (
    2  # of the lines that are written; those of the first, before there was a number, name none
)
LONGEST_LINE = 1 << 20
MOST_PASSED_OVER = 1 << 26  # bytes without a line break, after which nothing more is looked for
CLOSE = 1e-9  # means may differ in their last bits between versions of numpy
_COUNTS = ("generation", "env_steps", "episodes", "failed_members")
_TOTALS = ("seconds", "core_seconds")
_RETURNS = ("return_mean", "return_std", "return_min", "return_max", "center_return")
# what is null in a rebuilt line; without ‖h‖, whose null would mean that it is infinite
_LOST = (
    "sigma",
    "sigma_min",
    "sigma_max",
    "learning_rate",
    "steps_per_second",
    "idle_share",
    "generation_seconds",
    "ranks",
    "gradient_agreement",
)


def of_records(config: Config, records: Records) -> Line:
    """What the records of a generation say, in the user's own sign: the part of a line that the journal has, too."""
    returns = in_own_sign(config, reduced_return(config.variants.reduce, records.returns))
    returns = returns[np.isfinite(returns)]
    center = center_of(config, records)
    return {
        "return_mean": mean_of(returns),
        "return_std": _deviation(returns) if returns.size else None,
        "return_min": float(returns.min()) if returns.size else None,
        "return_max": float(returns.max()) if returns.size else None,
        "center_return": None if center is None else in_own_sign(config, center),
        "failed_members": records.failed_members,
        "tied_share": _tied_share(config.sign * returns, records.members),
        "tied_pairs": _tied_pairs(config, records),
        "center_std": _center_std(config, records),
    }


def _tied_share(returns: npt.NDArray[np.float64], members: int) -> float:
    """The share of members in the largest group with one return, of those that are not the best; large ones are."""
    ordered = np.sort(returns)
    ends = np.flatnonzero(ordered[1:] != ordered[:-1]) + 1  # of the groups, the last one's left out
    return float(np.diff(ends, prepend=0).max()) / members if ends.size else 0.0


def _tied_pairs(config: Config, records: Records) -> float | None:
    """The share of mirrored pairs whose two members have the same fitness: those say nothing; None without any."""
    if not records.members:
        return None
    fitness = records.fitness(config.reduction)
    fitness = np.where(np.isfinite(fitness), fitness, -np.inf)
    return float((fitness[0::2] == fitness[1::2]).mean())


def _center_std(config: Config, records: Records) -> float | None:
    """How far the center's episodes spread, which is luck alone; None with fewer than two that are finite."""
    returns = reduced_return(config.variants.reduce, records.center_returns)
    returns = returns[np.isfinite(returns)]
    return _deviation(returns, ddof=1) if returns.size > 1 else None


def _deviation(values: npt.NDArray[np.float64], ddof: int = 0) -> float | None:
    """The standard deviation, or None if it is larger than any number."""
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = float(values.std(ddof=ddof))
    return deviation if math.isfinite(deviation) else None


def of_variants(config: Config, records: Records) -> tuple[dict[str, Any], dict[str, Any]]:
    """The mean over members, and the center's, on each variant; None where there is nothing finite."""
    columns = in_own_sign(config, records.returns.T)
    centers = in_own_sign(config, records.center_returns.T)
    by_name = dict(zip(config.value_names, columns, strict=False))
    centers_by_name = dict(zip(config.value_names, centers, strict=False))
    return (
        {name: mean_of(column) for name, column in by_name.items()},
        {name: _center_mean(column) for name, column in centers_by_name.items()},
    )


def names_of_variants(means: Line, centers: Line) -> Line:
    """The variants' returns as a line has them: ``return_mean.NAME`` and ``center_return.NAME``."""
    return {f"return_mean.{name}": mean for name, mean in means.items()} | {
        f"center_return.{name}": mean for name, mean in centers.items()
    }


def center_of(config: Config, records: Records) -> float | None:
    """The center's return, of the sign that is maximized; None without one, or if it is not finite."""
    if not records.center_episodes:
        return None
    center = center_return(config.variants.reduce, records.center_returns)
    return center if math.isfinite(center) else None


@dataclass
class BestCenter:
    """The best return of the center so far, the later one of equals.

    Centers are compared only among those with as many episodes as the newest one: a lucky episode is likelier to win
    than the mean of many, and ``run.center_episodes`` may change when a run is resumed.

    Attributes:
        center_return: of the sign that is maximized; −∞ without one.
        generation: in which it was evaluated; −1 without one.
        episodes: of the newest center; 0 without one.
    """

    center_return: float = -math.inf
    generation: int = -1
    episodes: int = 0

    @classmethod
    def of(cls, config: Config, contents: JournalContents) -> BestCenter:
        """That of a journal."""
        best = cls()
        for generation, records in contents.outcomes():
            best.add(config, generation, records)
        return best

    def add(self, config: Config, generation: int, records: Records) -> bool:
        """Look at another generation; returns whether its center is the best one now."""
        if records.center_episodes not in (0, self.episodes):
            self.center_return, self.generation = -math.inf, -1
            self.episodes = records.center_episodes
        center = center_of(config, records)
        if center is None or center < self.center_return:
            return False
        self.center_return, self.generation = center, generation
        return True


def best_return(config: Config, lines: Iterable[Line]) -> float | None:
    """The best return of the center in lines, in the user's own sign; None without one."""
    best = min if config.sign < 0 else max
    return best((c for line in lines if (c := line["center_return"]) is not None), default=None)


def reaches_target(config: Config, records: Records) -> bool:
    """Whether the center has reached ``run.target_return`` in this generation; not if either is missing."""
    target, center = config.run.target_return, center_of(config, records)
    return target is not None and center is not None and center >= config.sign * target


def in_own_sign(config: Config, value: _Number) -> _Number:
    """A return of the sign that is maximized in the user's own sign; a zero is 0.0, never -0.0."""
    return config.sign * value + 0.0


def mean_of(values: npt.NDArray[np.float64]) -> float | None:
    """The mean of what is finite, or None."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    with np.errstate(over="ignore"):
        mean = float(finite.mean())
    return mean if math.isfinite(mean) else None


def _center_mean(values: npt.NDArray[np.float64]) -> float | None:
    mean = float(values.mean()) if values.size else math.nan
    return mean if math.isfinite(mean) else None


@dataclass
class _Found:
    """What a file holds."""

    lines: dict[int, Line] = field(default_factory=dict)  # by generation; the last one of each
    problems: list[str] = field(default_factory=list)
    newer: bool = False  # a line is of a schema that this version doesn't know


def read(path: Path, warn: Warn = lambda text: None) -> list[Line]:
    """All good lines in the order of their generations; ``warn`` is told of those that are ignored."""
    found = _read(path)
    if found.problems:
        warn(f"{path}: {'; '.join(found.problems)}: ignored")
    return [found.lines[generation] for generation in sorted(found.lines)]


def completed(
    path: Path, config: Config, contents: JournalContents, warn: Warn, last_center: bool = True
) -> list[Line]:
    """One line per generation of the journal; what is missing or damaged is rebuilt from it.

    Args:
        path: of the file.
        config: of the run.
        contents: its journal.
        warn: told in one line what was rebuilt.
        last_center: with the center's own line at the end of a finished run, which a resume drops.
    """
    found, lines = _read(path), []
    rebuilt: list[int] = []
    corrected: list[int] = []
    totals = {"env_steps": 0, "episodes": 0}
    clock = {"seconds": 0.0, "core_seconds": 0.0}
    last = len(contents.positions) - 1
    for number, (generation, records) in enumerate(contents.outcomes()):
        if not records.members and (number < last or not last_center):
            continue  # of a run that was finished once, and then extended
        totals["env_steps"] += records.steps
        totals["episodes"] += records.episodes
        known = {**of_records(config, records), **totals}
        known |= names_of_variants(*of_variants(config, records))
        line = found.lines.get(generation)
        if line is None:
            unknown = dict.fromkeys(_LOST)
            line = {"schema": SCHEMA, "generation": generation, **known, **unknown, **clock}
            if number < last:  # a crash may come between the journal's last record and its line
                rebuilt.append(generation)
        elif not _agrees(line, known) or any(line[name] < clock[name] for name in clock):
            grown = {n: max(line[n], clock[n]) for n in clock}
            line = {**line, **known, **grown}
            corrected.append(generation)
        clock = {name: line[name] for name in clock}
        lines.append(line)
    end = found.lines.get(contents.next_generation)  # of a run that evaluates no center
    if last_center and end and len(lines) == contents.next_generation and _agrees(end, totals):
        lines.append(end)
    problems = found.problems
    problems += [f"{_generations(rebuilt)} rebuilt from the journal"] if rebuilt else []
    problems += [f"{_generations(corrected)} corrected by the journal"] if corrected else []
    if problems:
        lost = ", without the times" if rebuilt else ""
        warn(f"{path}: damaged or incomplete: {'; '.join(problems)}{lost}")
    return lines


def store(path: Path, lines: Iterable[Line]) -> int:
    """Write all lines anew; returns the size of the file.

    Raises:
        RunError: if it can't be written.
    """
    data = "".join(_encode(line) for line in lines).encode()
    write_atomically(path, data)
    return len(data)


def append(path: Path, line: Line, size: int) -> tuple[int, bool]:
    """Add a line.

    Args:
        path: of the file.
        line: the line.
        size: of the file as it was left.

    Returns:
        Its size now, and whether it was as it was left.

    Raises:
        NotWritableError: if the file system doesn't take it.
        RunError: if something else stands in its place.
    """
    try:
        descriptor = open_for_writing(path, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "ab", buffering=0) as file:
            before = os.fstat(file.fileno())
            data = memoryview(_encode(line).encode())
            written = 0
            try:
                while written < len(data):
                    written += file.write(data[written:])
            except OSError:
                os.ftruncate(file.fileno(), before.st_size)  # it will be written again
                raise
    except UsageError as error:  # somebody has put something else there
        raise RunError(str(error)) from error
    except OSError as error:
        raise NotWritableError(
            f"{path}: can't be written ({error.strerror})",
            "free disk space and run the same command again",
        ) from error
    return before.st_size + len(data), before.st_size == size


def _read(path: Path) -> _Found:
    """Every good line, and in words what is wrong with the others; a last one that was cut short is no news."""
    found = _Found()
    try:
        with open_regular(path) as file:
            _read_lines(file, found)
    except FileNotFoundError:
        pass
    except UsageError as error:
        found.problems.append(str(error).removeprefix(f"{path}: "))
    except OSError as error:
        found.problems.append(f"can't be read ({error.strerror})")
    return found


def _read_lines(file: BinaryIO, found: _Found) -> None:
    spoiled: list[int] = []
    repeated: set[int] = set()
    disordered, newest = False, -1
    for number, text in enumerate(iter(lambda: next_line(file), b""), 1):
        line = line_of(text)
        if line is not None and (line.get("schema") or 1) > SCHEMA:
            line, found.newer = None, True
        if line is None:
            if text.endswith(b"\n") or len(text) > LONGEST_LINE:
                spoiled.append(number)
            continue
        generation = line["generation"]
        if generation in found.lines:
            repeated.add(generation)
        disordered |= generation < newest
        newest = max(newest, generation)
        found.lines[generation] = line
    if spoiled:
        newer = f", or of a newer schema than {SCHEMA}: {UPDATE}" if found.newer else ""
        found.problems.append(f"{_ranges('line', spoiled)} not a line of metrics{newer}")
    if repeated:
        found.problems.append(f"{_generations(sorted(repeated))} more than once")
    elif disordered:
        found.problems.append("its lines are out of order")


def next_line(file: BinaryIO) -> bytes:
    """The next line; of one that is too long only so much that it is known to be.

    The rest of it is passed over, up to the end of the file if it goes on for ``MOST_PASSED_OVER`` bytes.
    """
    text = file.readline(LONGEST_LINE + 1)
    passed_over = len(text)
    while passed_over > LONGEST_LINE:
        if passed_over > MOST_PASSED_OVER:
            file.seek(0, os.SEEK_END)
        more = file.readline(LONGEST_LINE)
        passed_over += len(more)
        if not more or more.endswith(b"\n"):
            break
    return text


def line_of(text: bytes) -> Line | None:
    """A line of metrics, or None if it isn't one: every value is a finite number or null."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if is_line(line) else None


def is_line(line: Any) -> bool:
    """Whether something is a line of metrics: it has all its names, and every value is a finite number or null."""
    if not isinstance(line, dict) or not {*_COUNTS, *_TOTALS, *_RETURNS} <= line.keys():
        return False
    whole = all(type(line[name]) is int and 0 <= line[name] < 1 << 63 for name in _COUNTS)
    timed = all(_is_number(line[name]) and line[name] >= 0 for name in _TOTALS)
    return whole and timed and all(map(_is_number_or_null, line.values()))


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 1 << 63
    return type(value) is float and math.isfinite(value)


def _is_number_or_null(value: Any) -> bool:
    return value is None or _is_number(value)


def _agrees(line: Line, known: Line) -> bool:
    """Whether a line says what the journal says; a key that older versions didn't have may be missing."""
    scale = max([1.0, *(abs(known.get(name) or 0.0) for name in _RETURNS)])

    def same(own: float | None, value: float | None) -> bool:
        if type(value) is not float or own is None:
            return own == value
        return math.isclose(own, value, rel_tol=CLOSE, abs_tol=CLOSE * scale)

    return all(same(line.get(name, value), value) for name, value in known.items())


def _generations(numbers: list[int]) -> str:
    return _ranges("generation", numbers)


def _ranges(noun: str, numbers: list[int], most: int = 4) -> str:
    """Sorted numbers in words: "generations 3 to 13, 20"."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [f"{a}" if a == b else f"{a} to {b}" for a, b in ranges[:most]]
    more = f" and {len(ranges) - most} more ranges" if len(ranges) > most else ""
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(texts)}{more}"


def _encode(line: Line) -> str:
    """JSON has no NaN: it becomes null."""
    finite = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()
    }
    return json.dumps(finite) + "\n"
