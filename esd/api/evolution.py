"""Ask and tell, for a loop of one's own: ``esd.Evolution``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import numbers
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from esd.api.ranks import failures_raised, rank_called_otherwise, ranks
from esd.api.settings import plain, whole_number
from esd.config.identity import identity
from esd.config.tables import parse
from esd.config.unused_settings import without_effect
from esd.errors import RunError, UsageError
from esd.evolution.layout import Layout
from esd.evolution.low_rank import notes_of
from esd.evolution.records import Records, Status
from esd.evolution.state import make_strategy, start
from esd.evolution.vectors import mean_square
from esd.mpi.comm import agreement, sum_or_fail
from esd.mpi.memory import available_memory
from esd.mpi.team import Team
from esd.objectives.function import detached
from esd.run import checkpoint
from esd.run.checkpoint import Checkpoint
from esd.training.node_state import NodeState, UpdateFailedError
from esd.training.perturbations import check_perturbations

Float32s = npt.NDArray[np.float32]
Parameters = Float32s | dict[str, Float32s]
SIGNS = {"maximize": 1.0, "minimize": -1.0}


class Evolution:
    """Evolve parameters in your own loop, in one process or on all ranks of mpirun.

    ::

        evolution = esd.Evolution(np.zeros(20), direction="minimize", population=32, sigma=0.5)
        for generation in range(300):
            evolution.tell([np.sum(x**2) for x in evolution.ask()])
        print(evolution.center)

    Under ``mpirun -n 4 python my_script.py`` the same code runs in parallel: ``ask`` gives each rank its share of the
    members, and ``tell`` exchanges one number per member. The parameters have the same bits on any number of ranks.

    Args:
        initial: Initial parameters: an array, or a dict of named arrays. Stored as float32.
        direction: "maximize" or "minimize".
        population: Members per generation, an even number.
        seed: Seed of the perturbations, 0 to 2⁶⁴ − 1.
        algorithm: A name from ``esd list algorithms``.
        settings: Settings of [es], such as ``sigma=0.1`` or ``optimizer="adam"`` (``esd list settings``).

    Attributes:
        population: Members per generation.
        members: Numbers of the members that this rank evaluates.

    Raises:
        UsageError: if an argument or a setting is wrong.
    """

    def __init__(
        self,
        initial: npt.ArrayLike | Mapping[str, npt.ArrayLike],
        *,
        direction: str,
        population: int = 128,
        seed: int = 0,
        algorithm: str = "openai_es",
        **settings: Any,
    ) -> None:
        """Share the initial parameters among the ranks of each node."""
        if direction not in tuple(SIGNS):
            raise UsageError(f"direction = {direction!r}: expected 'maximize' or 'minimize'")
        self._sign = SIGNS[direction]
        if "common_random_numbers" in settings:
            raise UsageError(
                "common_random_numbers: has no effect in your own loop, which draws the seeds of the episodes; "
                "remove it"
            )
        self._config = parse(
            {
                "seed": plain(seed),
                "population": plain(population),
                "es": {"algorithm": algorithm, **plain(settings)},
            },
            "esd.Evolution",
        )
        rows = 8 * 6 * 3 * self._config.population  # of the records, as in a run
        if rows > available_memory():
            raise UsageError(
                f"population = {self._config.population:,}: its records take {rows / 1e9:,.1f} GB of memory, but "
                f"{available_memory() / 1e9:,.1f} GB are available; reduce it"
            )
        arrays = {name: _float32s(name, value) for name, value in _named(initial).items()}
        self._single = not isinstance(initial, Mapping)
        self._layout = Layout({name: array.shape for name, array in arrays.items()})
        self._algorithm = make_strategy(self._config, self._layout)
        self.population = self._config.population
        with failures_raised(), contextlib.ExitStack() as opened:
            self._comm = ranks()
            h = self._layout.pack(arrays)
            other = rank_called_otherwise(self._comm, self._identity.encode() + h.tobytes())
            if other is not None:  # before anything is shared: h may differ in size
                raise UsageError(
                    f"esd.Evolution: the arguments on rank {other} differ from those on rank 0; every rank has to call "
                    "it with the same initial parameters and settings"
                )
            self._team = opened.enter_context(Team(self._comm))
            with agreement(self._comm, "sharing the parameters"):
                state = start(self._algorithm, h, 0)
                check_perturbations(
                    self._config, self._algorithm, state.evolution, warnings.warn, "sigma"
                )
                for note in notes_of(self._algorithm.noise):
                    warnings.warn(note, stacklevel=2)
                if self._comm.rank == 0:
                    named = {f"es.{name}": value for name, value in plain(settings).items()}
                    for line in without_effect(named, self._config):
                        warnings.warn(line, stacklevel=2)
                self._memory = NodeState(self._team, self._algorithm, state)
            self._opened = opened.pop_all()
        self._closed = False
        self.members = list(range(self._comm.rank, self.population, self._comm.size))

    @property
    def generation(self) -> int:
        """Number of updates so far."""
        return self._memory.state.generation

    @property
    def center(self) -> Parameters:
        """Copy of the evolved parameters."""
        return self._shaped(self._memory.state.h.copy())

    def ask(self) -> list[Parameters]:
        """Return the parameters of this rank's members, in the order of ``members``, as new float32 arrays."""
        return [self.parameters(member) for member in self.members]

    def parameters(self, member: int) -> Parameters:
        """Return the parameters of one member, if those of all members need too much memory.

        Raises:
            UsageError: if there is no such member.
        """
        member = whole_number("member", member, 0, self.population - 1)
        h = self._memory.state.h
        evolution = self._memory.state.evolution
        return self._shaped(self._algorithm.ask(evolution, member, np.empty_like(h)))

    def tell(self, values: Sequence[float] | npt.NDArray[Any]) -> None:
        """Exchange the values of all members, and make one update.

        Args:
            values: One number for each of this rank's members, in the order of ``members``. A member with NaN or an
                infinite value ranks worst.

        Raises:
            UsageError: if there is not one number per member, or after ``close``.
            RunError: if the update made the parameters NaN or infinite.
        """
        self._require_open()
        with failures_raised():
            records = Records(self.population, 0, 0)
            error: Exception | None = None
            try:
                self._write(records, values)
            except UsageError as wrong:
                error = wrong
            what = f"the exchange of generation {self.generation}"
            sum_or_fail(self._comm, records.table.reshape(-1), error, what)
            try:
                step = self._memory.advance(records)
            except UpdateFailedError as failure:
                raise RunError(f"the update of generation {self.generation} failed") from failure
        if not np.isfinite(step.h_norm):
            raise RunError(
                f"generation {self.generation - 1}: the update made the parameters infinite or NaN; use a smaller "
                "learning_rate, or shaping other than 'raw'"
            )

    def _write(self, records: Records, values: Sequence[float] | npt.NDArray[Any]) -> None:
        """Fill this rank's rows."""
        try:
            told = _real(values).astype(np.float64)
        except (TypeError, ValueError, OverflowError) as wrong:
            raise UsageError(f"tell: expected numbers, one per member ({wrong})") from wrong
        if told.shape != (len(self.members),):
            raise UsageError(
                f"tell: values have shape {told.shape}, expected ({len(self.members)},): one number for each of "
                "this rank's members"
            )
        for member, value in zip(self.members, told.tolist(), strict=True):
            status = Status.DONE if np.isfinite(value) else Status.NOT_FINITE
            records.write(
                member,
                returns=[self._sign * value],
                steps=1,
                episodes=1,
                status=status,
                penalty=self._penalty(member),
            )

    def _penalty(self, member: int) -> float:
        """What is subtracted from a member's fitness: its parameters' mean square, weighted by ``fitness_penalty``."""
        weight = self._config.es.fitness_penalty
        if not weight:
            return 0.0
        evolution = self._memory.state.evolution
        pieces = self._algorithm.ask_pieces(evolution, member)
        return weight * mean_square(piece for _, piece in pieces)

    @property
    def _identity(self) -> str:
        """What a saved state belongs to: the settings, the direction, and what each coordinate of h is."""
        shapes = [[name, list(shape)] for name, shape in self._layout.shapes.items()]
        text = json.dumps([identity(self._config), self._sign, shapes])
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, path: str | PathLike[str]) -> None:
        """Save the whole state (parameters, moments, generation) to a safetensors file. Only rank 0 writes.

        Raises:
            RunError: if it can't be written.
        """
        with failures_raised(), agreement(self._comm, "saving"):
            if self._comm.rank == 0:
                state = self._memory.state
                checkpoint.save(Path(path), Checkpoint(self._identity, state))

    def load(self, path: str | PathLike[str]) -> None:
        """Load a state that ``save`` wrote with the same settings.

        Raises:
            UsageError: if there is no such file, it belongs to other settings, or after ``close``.
        """
        self._require_open()
        with failures_raised(), agreement(self._comm, "loading"):
            loaded = checkpoint.load(Path(path))
            if loaded.identity != self._identity:
                raise UsageError(
                    f"{path}: was saved with other settings; create esd.Evolution with the same arguments"
                )
            self._memory = NodeState(self._team, self._algorithm, loaded.state)

    def close(self) -> None:
        """Free the memory that the ranks of a node share. Every rank has to call it.

        A ``with`` block calls it at its end.

        Parameters can still be read afterwards, but ``tell`` and ``load`` raise UsageError.
        """
        self._closed = True
        self._opened.close()

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled."""
        raise TypeError(
            "an esd.Evolution can't be copied or pickled, because ranks share its memory; save its state with "
            "save(path), and load(path) it in another one"
        )

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError(
                "this esd.Evolution is closed; create another one, and load the saved state"
            )

    def __enter__(self) -> Evolution:
        """Close at the end of the block."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close, unless an error has left the other ranks elsewhere."""
        if error[0] is None:
            self.close()

    def _shaped(self, h: Float32s) -> Parameters:
        """As the user gave them: an array, or named ones."""
        arrays = self._layout.unpack(h)
        return arrays[""] if self._single else arrays


def _named(initial: npt.ArrayLike | Mapping[str, npt.ArrayLike]) -> Mapping[str, npt.ArrayLike]:
    """Named arrays; a single one has an empty name."""
    if not isinstance(initial, Mapping):
        return {"": initial}
    if not initial or not all(isinstance(name, str) for name in initial):
        raise UsageError(
            f"initial has the keys {[*initial]}: expected names of arrays, at least one"
        )
    return initial


def _float32s(name: str, value: npt.ArrayLike) -> Float32s:
    """An array of finite float32 numbers."""
    try:
        with np.errstate(over="ignore"):  # becomes infinite, which is refused below
            array = np.array(_real(value), np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f"initial{name and f' {name!r}'}: expected an array of numbers ({error})"
        ) from error
    if not array.size or not np.isfinite(array).all():
        raise UsageError(f"initial{name and f' {name!r}'}: expected finite numbers, at least one")
    return array


def _real(values: Any) -> npt.NDArray[Any]:
    """Numbers as an array; NumPy would drop imaginary parts and masks without an error.

    Raises:
        TypeError: if they are complex, or no numbers.
    """
    if isinstance(values, list | tuple):  # torch's tensors that need a gradient, alone or in a list
        values = [detached(value) for value in values]
    array = np.asarray(detached(values))
    if np.iscomplexobj(array):
        raise TypeError("they are complex")
    for item in array.reshape(-1).tolist() if array.dtype.kind in "OUS" else ():
        if not isinstance(item, numbers.Real):
            raise TypeError(f"{item!r} is none")
    masked = isinstance(values, np.ma.MaskedArray)
    return np.ma.filled(values.astype(np.float64), np.nan) if masked else array
