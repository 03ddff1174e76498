"""h of the shipped experiments after three generations: what a change of the code must not change.

``python -m tests.helpers.experiment_hashes OUT.json`` trains all of them in full size, which takes an hour, and writes
the SHA-256 of each h; compare the files that two commits write on one machine. With ``--small`` they are as small as
``tests/training/test_experiments.py`` has them, whose expected file this makes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from pathlib import Path

import gymnasium
import numpy as np

import esd_envs
from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.settings import Config
from esd.config.tables import apply_settings, parse
from tests.helpers.training import trained

EXPECTED = Path(__file__).parents[1] / "data" / "h_of_experiments.json"
ENGINES = ("HalfCheetah-v5", "Ant-v5", "Walker2d-v5", "esd/FastCarRacing-v3")
THREE_GENERATIONS = ("generations=3", "run.center_every=0")

gymnasium.register_envs(esd_envs)  # importing it has registered them


def shortened(name: str, *, small: bool) -> Config:
    """An experiment for three generations, in full size or small."""
    _, table = read_experiment(name)
    settings = [*THREE_GENERATIONS]
    if small:
        settings.append("population=8")
        if "objective" not in table:
            late = name.startswith(
                "cheetah-change"
            )  # whose bodies change at step 200 at the latest
            settings.append(f"env.max_steps={210 if late else 60}")
    return parse(apply_settings(table, settings), name)


def physics() -> str:
    """What the physics engines compute here: their last bits may depend on the processor and the version."""
    digest = hashlib.sha256()
    for env_id in ENGINES:
        env = gymnasium.make(env_id)
        observation, _ = env.reset(seed=0)
        env.action_space.seed(0)
        for _ in range(60):
            digest.update(np.ascontiguousarray(observation).data)
            observation, *_ = env.step(env.action_space.sample())
        env.close()
    return digest.hexdigest()


def main(out: Path, *, small: bool) -> None:
    """Train every experiment and write what comes out; those that the file has already are left as they are."""
    found = json.loads(out.read_text()) if out.exists() else {"physics": physics(), "h": {}}
    for name in experiment_names():
        if name not in found["h"]:
            with tempfile.TemporaryDirectory() as folder:
                ending = trained(shortened(name, small=small), Path(folder) / "run")
            found["h"][name] = ending.state.h_sha256()
            print(name, found["h"][name], flush=True)
            out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    command_line = argparse.ArgumentParser(prog="python -m tests.helpers.experiment_hashes")
    command_line.add_argument("out", type=Path)
    command_line.add_argument("--small", action="store_true")
    arguments = command_line.parse_args()
    main(arguments.out, small=arguments.small)
