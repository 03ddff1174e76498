"""``run.loggers = ["wandb"]``: Weights & Biases, offline unless the environment says otherwise.

Offline it writes files into the run's folder, which ``wandb sync`` uploads. With WANDB_MODE=online it uploads them
itself, and a resume goes on with the same W&B run.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from esd.loggers.base import Context, Line, numbers_of

OFFLINE = "offline"


class WeightsAndBiases:
    """Logs each line, with the generation as the step."""

    def __init__(self, context: Context) -> None:
        """Start or resume a W&B run, and log the lines that it lacks."""
        mode = os.environ.get("WANDB_MODE", OFFLINE)
        for name in ("WANDB_ERROR_REPORTING", "WANDB_DISABLE_GIT", "WANDB_DISABLE_CODE"):
            os.environ.setdefault(name, "false" if name == "WANDB_ERROR_REPORTING" else "true")
        import wandb

        self._wandb: Any = wandb
        folder = context.own("wandb", folder=True)
        if mode == OFFLINE and folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(exist_ok=True)
        hook = sys.excepthook
        self._generations = context.generations
        self._run = self._wandb.init(
            dir=str(context.folder),  # of which it takes the folder wandb
            # so an upload of a resumed run goes on with the same one
            id=os.environ.get("WANDB_RUN_ID") or context.own_name(),
            name=os.environ.get("WANDB_NAME", context.run),
            project=os.environ.get("WANDB_PROJECT", "esd"),
            config=dict(context.settings),
            resume="allow",
            mode=mode,
            settings=self._wandb.Settings(
                console="off", silent=True, x_disable_stats=True, x_disable_meta=True
            ),
        )
        sys.excepthook = hook
        self._next = int(self._run.starting_step or 0)
        self.write(context.lines)

    def write(self, lines: Sequence[Line]) -> None:
        """See ``Logger.write``."""
        for line in lines:
            # the center alone, after the last generation: an extended run has that generation again
            if line["generation"] >= self._generations:
                self._run.summary.update(numbers_of(line))
            elif line["generation"] >= self._next:
                self._run.log(numbers_of(line), step=line["generation"])

    def close(self) -> None:
        """See ``Logger.close``; its process ends, too."""
        try:
            self._run.finish()
        finally:
            self._wandb.teardown()
