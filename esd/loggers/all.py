"""All loggers of a run, on rank 0. One that fails says so once and is left out; the run goes on."""

from __future__ import annotations

import contextlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from esd.config.settings import Config
from esd.config.tables import flatten, to_table
from esd.errors import MissingPackageError, one_line
from esd.loggers.base import Context, Line, Logger

FLUSH_SECONDS = 2.0
LONGEST_REASON = 300  # characters
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def require(names: Sequence[str]) -> None:
    """Make sure that the packages of loggers are installed.

    Raises:
        MissingPackageError: naming the first one that is not, and how to install it.
    """
    for name in names:
        package = PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise MissingPackageError(f'run.loggers = ["{name}"]', package)


def _make(name: str, context: Context) -> Logger:
    """A logger by its name; its package is imported only now."""
    if name == "csv":
        from esd.loggers.csv_file import CsvFile

        return CsvFile(context)
    if name == "tensorboard":
        from esd.loggers.tensorboard import TensorBoard

        return TensorBoard(context)
    if name == "wandb":
        from esd.loggers.weights_and_biases import WeightsAndBiases

        return WeightsAndBiases(context)
    from esd.loggers.mlflow_store import MLflowStore

    return MLflowStore(context)


class Loggers:
    """Passes lines on to all of them, every two seconds at most."""

    def __init__(
        self,
        folder: Path,
        config: Config,
        lines: Sequence[Line],
        note: Callable[[str], object],
        make: Callable[[str, Context], Logger] = _make,
    ) -> None:
        """Open those that a run asks for.

        Args:
            folder: for their files, in the run's folder; made if there are any.
            config: of the run.
            lines: of the metrics so far.
            note: is told of one that fails.
            make: makes a logger.
        """
        self._note = note
        self._loggers: dict[str, Logger] = {}
        self._waiting: list[Line] = []
        self._flushed = time.monotonic()
        for name in config.run.loggers:

            def opened(name: str = name) -> None:
                folder.mkdir(exist_ok=True)
                settings = flatten(to_table(config))
                context = Context(folder, folder.parent.name, settings, config.generations, lines)
                self._loggers[name] = make(name, context)

            self._try(name, opened)

    def add(self, line: Line) -> None:
        """Pass on a line, now or a little later."""
        if not self._loggers:
            return
        self._waiting.append(line)
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._flush()

    def close(self) -> None:
        """Pass on what waits and close them all."""
        self._flush()
        for name, logger in list(self._loggers.items()):
            self._try(name, logger.close)
        self._loggers.clear()

    def _flush(self) -> None:
        lines, self._waiting = self._waiting, []
        if lines:
            for name, logger in list(self._loggers.items()):
                self._try(name, lambda logger=logger: logger.write(lines))  # type: ignore[misc]
        self._flushed = time.monotonic()  # a slow one has time to rest

    def _try(self, name: str, call: Callable[[], None]) -> None:
        """Call a logger; if it fails, say so and leave it out."""
        try:
            with warnings.catch_warnings():  # theirs are about their own code
                warnings.simplefilter("ignore")
                call()
        except Exception as error:
            failed = self._loggers.pop(name, None)
            with contextlib.suppress(Exception):
                if failed is not None:
                    failed.close()
            reason = one_line(f"{type(error).__name__}: {error}", LONGEST_REASON)
            self._note(
                f'warning: run.loggers = ["{name}"] failed ({reason}); the run continues without it, and the next '
                "resume writes the missing entries"
            )
