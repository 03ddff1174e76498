"""A run in one file, as ``esd export`` writes it: read wherever a command takes a run's folder.

Both kinds are safetensors files whose metadata is JSON. "esd-run-1" holds h, the numbers of the algorithm, the
observation statistics and the metrics. "esd-seed-1" holds none of h: it is rebuilt from the seed and the shaped
fitnesses of all generations, bit for bit. As in a folder nothing in them is executed; the settings may name code, which
is imported only for a user who trusts the file (docs/security.md).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from esd import __version__
from esd.config.identity import identity
from esd.config.nearby import look_near
from esd.config.references import Reference
from esd.config.settings import Config
from esd.config.tables import parse, to_table
from esd.errors import UPDATE, UsageError, shown
from esd.evolution.state import RunState, make_strategy, start
from esd.policies.base import Interface
from esd.problems.make import layout_and_h0
from esd.reading import MB, open_regular, parse_json
from esd.run import metrics, packed_fitness
from esd.run.checkpoint import read_head
from esd.run.files import write_atomically
from esd.run.folder import RunFolder, Warn
from esd.run.trust import Trust, require_trust

RUN, SEED = "esd-run-1", "esd-seed-1"
HEAD_BYTES = 16 * MB  # config, spaces and layout as JSON within JSON, and the shapes of the arrays
READ_BACK = (".safetensors", ".seed")
ONE_WAY = (".mat", ".onnx", ".pt2")  # what esd export writes for other programs
WHAT = f"a run that esd export has written as {' or '.join(READ_BACK)}"
COLUMN = "metrics."
ORDER = "metrics"  # the metadata that names the columns in their order
WHOLE_NUMBERS = ("schema", "generation", "env_steps", "episodes", "failed_members", "ranks")

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Contents:
    """What a file holds, before anything of it is built.

    Attributes:
        format: ``RUN`` or ``SEED``.
        words: its metadata.
        arrays: by name.
        sha256: of the file's bytes.
    """

    format: str
    words: dict[str, str]
    arrays: Arrays
    sha256: str


def open_run(path: Path, trust: Trust = Trust.ASK, given: Collection[Reference] = ()) -> RunFolder:
    """A run, given as its folder or as the file that ``esd export`` has made of it; see ``RunFolder``."""
    try:
        is_file = S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        is_file = False
    return (RunFile if is_file else RunFolder)(path, trust, given)


def is_file(folder: RunFolder) -> bool:
    """Whether a run is one file."""
    return isinstance(folder, RunFile)


class RunFile(RunFolder):
    """One file in place of a run's folder: its settings, one state, and its metrics; there is no journal to go on from.

    Evaluations are kept beside it, in a folder of its name with ``.evaluations`` behind it.
    """

    def __init__(
        self, path: Path, trust: Trust = Trust.ASK, given: Collection[Reference] = ()
    ) -> None:
        """Name a file; it is read when something of it is asked for."""
        super().__init__(path, trust, given)
        self.config_file = self.place  # for messages
        self.evaluations = self.place.with_name(f"{self.place.name}.evaluations")
        self._contents: Contents | None = None
        self._state: RunState | None = None

    @property
    def is_run(self) -> bool:
        """Whether the file is one that ``esd export`` has written."""
        try:
            with open_regular(self.place, follow=True) as file:
                metadata, _ = read_head(file, self.path, HEAD_BYTES, WHAT)
        except (OSError, UsageError, ValueError, TypeError):
            return False
        return metadata.get("format") in (RUN, SEED)

    is_cut_off_start = False  # a file is whole or not there
    remains: list[str] = []  # noqa: RUF012
    results: list[str] = []  # noqa: RUF012

    def require_run(self) -> None:
        """Make sure that the file is a run, and whole.

        Raises:
            UsageError: if it isn't.
        """
        self.contents()

    def contents(self) -> Contents:
        """The metadata and the arrays.

        Raises:
            UsageError: if the file is damaged, or none that ``esd export`` has written.
        """
        if self._contents is None:
            try:
                self._contents = _read(self.place, self.path)
            except UsageError as error:
                self._refuse_one_way(error)
                raise
        return self._contents

    def _refuse_one_way(self, error: UsageError) -> None:
        """Say that a file that can't be read is of a format for other programs.

        Raises:
            UsageError: if its name says so.
        """
        if self.place.suffix.lower() in ONE_WAY:
            raise UsageError(
                f"{self.path}: is for other programs and can't be read back; use the run's folder, or a "
                f"{' or '.join(READ_BACK)} file of esd export"
            ) from error

    def for_trust(self) -> tuple[Path, Path, str]:
        """See ``RunFolder.for_trust``."""
        return self.path, self.place, self.contents().sha256

    def config(self) -> Config:
        """See ``RunFolder.config``."""
        words = self.contents().words
        try:
            table = parse_json(words["config"], infinite=True)
        except (KeyError, ValueError) as error:
            self._damaged(f"its config is no JSON ({error})")
        if not isinstance(table, dict):
            self._damaged("its config is no JSON object")
        look_near(self.place.parent)
        if self.trust is Trust.ASK:
            require_trust(self.path, self.place, table, self.given, self.contents().sha256)
        config = parse({"format": 1} | table, str(self.path), self.trust is not Trust.NEVER)
        if identity(config) != words.get("identity"):
            self._damaged("its settings are not those that its h was evolved with")
        return config

    @property
    def checkpoint(self) -> str:
        """Which state it is: "best" or "last"."""
        which = self.contents().words.get("checkpoint")
        return "last" if which == "last" else "best"

    def generation_of_best(self) -> int | None:
        """See ``RunFolder.generation_of_best``."""
        if self.checkpoint != "best":
            return None
        return self._number("generation")

    def interface(self, config: Config) -> Interface:
        """See ``RunFolder.interface``."""
        try:
            size, actions, bounded = parse_json(self.contents().words["interface"])
        except (KeyError, ValueError, TypeError) as error:
            self._damaged(f"its interface is missing or wrong ({error})")
        if not (type(size) is type(actions) is int and type(bounded) is bool):
            self._damaged("its interface is not two sizes and a truth value")
        if not (0 <= size < 1 << 32 and 0 <= actions < 1 << 32):
            self._damaged("its interface has impossible sizes")
        return Interface(size, actions, bounded)

    def last_state(self, config: Config, warn: Warn) -> RunState:
        """The state that the file holds; of a seed file it is rebuilt."""
        if self._state is None:
            contents = self.contents()
            try:
                if contents.format == SEED:
                    self._check_imports(config, "policy", "h")
                    self._check_imports(config, "es", "h")
                    state = _rebuilt(config, self.interface(config), contents)
                else:
                    _check_arrays(contents.arrays)
                    state = RunState.of_arrays(self._number("generation"), contents.arrays)
            except (KeyError, ValueError, IndexError, TypeError) as error:
                self._damaged(f"{error} is missing or wrong")
            if state.sha256() != contents.words.get("state_sha256"):
                self._damaged(
                    "its contents don't match their checksum"
                    if contents.format == RUN
                    else "its state has another checksum when it is rebuilt: the file, or the code of its policy, "
                    "was changed"
                )
            self._state = state
        return self._state

    def metrics_lines(self, config: Config, warn: Warn) -> list[metrics.Line]:
        """See ``RunFolder.metrics_lines``; a seed file has none."""
        return _lines(self.contents())

    def done(self, warn: Warn | None = None) -> dict[str, Any] | None:
        """What DONE.json said when the file was written; None if the run was not finished."""
        with contextlib.suppress(ValueError):
            done = parse_json(self.contents().words.get("done", "null"))
            if isinstance(done, dict) and isinstance(done.get("reason"), str):
                return done
        return None

    def journal(self, config: Config, verify: bool = True) -> NoReturn:
        """A file has none.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self.path}: is an exported file without a journal, which contains a single state; use the run's "
            "folder"
        )

    def good_part(self, config: Config, verify: bool = True) -> NoReturn:
        """A file has no journal."""
        self.journal(config)

    def newest_good_checkpoint(self, config: Config, warn: Warn) -> None:
        """A file has no checkpoints beside its state."""
        return

    def generation(self, config: Config) -> int:
        """See ``RunFolder.generation``."""
        return self._number("generation")

    def _number(self, name: str) -> int:
        """A whole number of the metadata."""
        text = str(self.contents().words.get(name))
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            self._damaged(f"{name} = {shown(text)}")
        return int(text)

    def _damaged(self, why: str) -> NoReturn:
        raise UsageError(f"{self.path}: damaged, {why}; export the run again")


def _read(place: Path, path: Path) -> Contents:
    """Read and check a file; its size is bounded by the memory that is left."""
    try:
        with open_regular(place, follow=True) as file:
            words, _ = read_head(file, path, HEAD_BYTES, WHAT)
            found = words.get("format")
            if found not in (RUN, SEED):
                newer = str(found).startswith(("esd-run-", "esd-seed-"))
                advice = UPDATE if newer else f"expected {WHAT}"
                raise UsageError(f"{path}: format {shown(found)}; {advice}")
            file.seek(0)
            data = file.read(os.fstat(file.fileno()).st_size)
        arrays = safetensors.numpy.load(data)
    except FileNotFoundError:
        raise UsageError(f"{path}: does not exist") from None
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: cut short or damaged ({error}), or not {WHAT}") from error
    if not all(isinstance(word, str) for word in words.values()):
        raise UsageError(f"{path}: damaged, its metadata is not text")
    return Contents(str(found), words, arrays, hashlib.sha256(data).hexdigest())


def _check_arrays(arrays: Arrays) -> None:
    """Refuse arrays of other types and shapes than a state's.

    Raises:
        ValueError: naming one.
    """
    for name, array in arrays.items():
        kind = np.float32 if name == "h" else np.float64
        counted = name.startswith("scalar.") or name == "observations.count"
        if array.dtype != kind or array.ndim != 1 or (counted and array.size != 1):
            raise ValueError(f"{shown(name)} is {array.dtype} {list(array.shape)[:4]}: it")


def _rebuilt(config: Config, interface: Interface, contents: Contents) -> RunState:
    """The state of a seed file, from h_0 and the fitnesses of all generations."""
    generations = int(contents.words["generation"])
    packed = {name: contents.arrays[name] for name in contents.arrays if "." not in name}
    fitness = packed_fitness.unpack(
        contents.words["fitness"], packed, generations, config.population
    )
    state = replayed(config, interface, fitness)
    if "observations.count" not in contents.arrays:
        return state
    statistics = {k: v for k, v in contents.arrays.items() if k.startswith("observations.")}
    return RunState.of_arrays(state.generation, {**state.arrays(), **statistics})


def replayed(
    config: Config, interface: Interface, fitness: npt.NDArray[np.float64] | Sequence[Any]
) -> RunState:
    """The state after so many generations, from h_0 of the seed; without observation statistics."""
    layout, h0 = layout_and_h0(config, interface)
    strategy = make_strategy(config, layout)
    state = start(strategy, h0, 0)
    evolution = state.evolution
    for values in fitness:
        evolution = strategy.tell(evolution, values)
    return RunState(evolution, state.observations)


def of_file(state: RunState) -> RunState:
    """What ``RUN`` keeps of a state: all but the vectors of the algorithm and its optimizer."""
    arrays = {k: v for k, v in state.arrays().items() if not k.startswith("moment.")}
    return RunState.of_arrays(state.generation, arrays)


def words_of(
    config: Config, state: RunState, checkpoint: str, interface: Interface
) -> dict[str, str]:
    """The metadata that both formats have.

    Raises:
        UsageError: if the config has a value that JSON can't hold.
    """
    try:
        text = json.dumps(to_table(config), ensure_ascii=False, separators=(",", ":"))
        again = parse_json(text, infinite=True)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"config: a value can't be written as JSON ({error}), so the run can't be exported"
        ) from None
    assert identity(parse({"format": 1} | again, "config")) == identity(config)
    interface_words = [interface.observation_size, interface.action_size, interface.bounded]
    return {
        "esd": __version__,
        "config": text,
        "identity": identity(config),
        "checkpoint": checkpoint,
        "generation": str(state.generation),
        "interface": json.dumps(interface_words),
        "h_sha256": state.h_sha256(),
        "state_sha256": state.sha256(),
    }


def save(path: Path, format: str, words: dict[str, str], arrays: Arrays) -> int:
    """Write a file; returns its size in bytes.

    Raises:
        RunError: if it can't be written.
    """
    data = safetensors.numpy.save(arrays, {"format": format, **words})
    write_atomically(path, data)
    return len(data)


def columns_of(lines: Sequence[metrics.Line]) -> tuple[Arrays, dict[str, str]]:
    """Metrics as arrays, float64 [lines] each, NaN where a line has null or nothing; and the metadata with their order.

    The order in which arrays stand in a file is the format's own.
    """
    names = dict.fromkeys(name for line in lines for name in line)
    columns = {
        f"{COLUMN}{name}": np.array(
            [np.nan if line.get(name) is None else line[name] for line in lines], np.float64
        )
        for name in names
    }
    return columns, {ORDER: json.dumps([*names])}


def _lines(contents: Contents) -> list[metrics.Line]:
    """The inverse of ``columns_of``."""
    columns = {
        name.removeprefix(COLUMN): array.tolist()
        for name, array in contents.arrays.items()
        if name.startswith(COLUMN) and array.dtype == np.float64 and array.ndim == 1
    }
    if not columns or len({len(column) for column in columns.values()}) > 1:
        return []
    names = [name for name in _order(contents.words, columns) if name in columns]
    lines = [
        {name: _value(name, value) for name, value in zip(names, values, strict=True)}
        for values in zip(*(columns[name] for name in names), strict=True)
    ]
    return [line for line in lines if metrics.is_line(line)]


def _order(words: dict[str, str], columns: Collection[str]) -> list[str]:
    """Names of columns in the order of the run's folder; older files, which don't have it, begin as a folder does."""
    names = None
    with contextlib.suppress(ValueError):
        names = parse_json(words.get(ORDER, "null"))
    known = names if isinstance(names, list) else ["schema", "generation"]
    return [*dict.fromkeys([str(name) for name in known] + sorted(columns))]


def _value(name: str, value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    return int(value) if name in WHOLE_NUMBERS else value
