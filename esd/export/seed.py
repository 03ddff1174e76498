"""``--format seed``: the seed, the settings and the shaped fitnesses, from which esd rebuilds the run bit for bit.

Noise is a pure function of (seed, generation, member, coordinate), so h_t is nothing but the seed and what each update
read of the fitnesses: one bit per mirrored pair with sign shaping. The file is a few kilobytes for any |h|.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from esd.errors import UsageError
from esd.export.subject import Subject
from esd.run import packed_fitness, run_file
from esd.run.folder import Warn


def write(path: Path, subject: Subject, warn: Warn) -> None:
    """Write what a run can be rebuilt from, after rebuilding it once to be sure.

    Raises:
        UsageError: if the run's h_0 is not that of its seed, or the run has no journal.
        RunError: if the file can't be written.
    """
    config, folder, state = subject.config, subject.folder, subject.state
    if run_file.is_file(folder):
        raise UsageError(
            f"--format seed: {folder.path} is an exported file, which has no journal; export the run's folder"
        )
    if os.path.lexists(folder.initial_file):
        raise UsageError(
            f"--format seed: {folder.path} was started from another run's h (--from), which its seed can't "
            "reproduce; use --format safetensors"
        )
    contents = folder.journal(config)
    fitness = [
        records.fitness(config.reduction)
        for _, records in contents.entries(0, state.generation)
        if records.members
    ]
    kind = packed_fitness.kind_of(config)
    packed: dict[str, Any] = packed_fitness.pack(kind, fitness)
    again = packed_fitness.unpack(kind, packed, len(fitness), config.population)
    rebuilt = run_file.replayed(config, subject.interface, again)
    if rebuilt.h_sha256() != state.h_sha256():
        raise UsageError(
            f"--format seed: {folder.path}: the seed and the fitnesses lead to another h: the code of its policy or "
            "algorithm has changed, or depends on something else; use --format safetensors"
        )
    statistics = {k: v for k, v in state.arrays().items() if k.startswith("observations.")}
    words = run_file.words_of(config, state, subject.checkpoint, subject.interface)
    done = folder.done(warn)
    words |= {"fitness": kind} | ({"done": json.dumps(done)} if done else {})
    run_file.save(path, run_file.SEED, words, {**packed, **statistics})
