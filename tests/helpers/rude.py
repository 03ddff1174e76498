"""An environment that changes whatever a process has only one of, in its constructor and in every reset."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control import CartPoleEnv

from esd.training.stop import StopRequest


class RudeCartPole(CartPoleEnv):
    """A cart pole that moves its process elsewhere, and takes its signals."""

    def __init__(self, where: str, reads: str = "") -> None:
        super().__init__()
        self._where = where
        if reads:  # a file of its own, by a relative path
            Path(reads).read_text()
        self._nowhere = io.StringIO()
        self.be_rude()

    def be_rude(self) -> None:
        """Change the working directory, umask, numpy's error handling, stdout and the handlers of signals."""
        os.chdir(self._where)
        os.umask(0o777)
        np.seterr(all="raise")
        sys.stdout = self._nowhere
        for number in StopRequest.SIGNALS:
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

    def reset(self, **how: Any) -> tuple[Any, dict[str, Any]]:
        """Be rude again."""
        self.be_rude()
        return super().reset(**how)

    def close(self) -> None:
        """The last word."""
        self._nowhere.close()
        os.chdir(self._where)
        super().close()


gymnasium.register("Rude-v0", RudeCartPole, max_episode_steps=60)
