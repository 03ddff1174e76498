"""``--format safetensors``: h, settings, spaces, normalizer and metrics in one file, which esd reads like a run."""

from __future__ import annotations

import json
from pathlib import Path

from esd.errors import UntrustedError, UsageError
from esd.export.subject import Subject, described_normalizer, described_space
from esd.run import run_file
from esd.run.files import in_utf8
from esd.run.folder import Warn


def write(path: Path, subject: Subject, warn: Warn) -> None:
    """Write a run to one file.

    Raises:
        RunError: if it can't be written.
    """
    config, folder = subject.config, subject.folder
    state = run_file.of_file(subject.state)
    words = run_file.words_of(config, state, subject.checkpoint, subject.interface)
    arrays = {name: list(shape) for name, shape in subject.layout.shapes.items()}
    columns, order = run_file.columns_of(folder.metrics_lines(config, warn))
    words |= order | {
        "run": in_utf8(folder.path),
        "layout": json.dumps({"order": subject.layout.order, "arrays": arrays}),
        "spaces": json.dumps(_spaces(subject, warn)),
        "normalizer": described_normalizer(subject),
        "done": json.dumps(folder.done(warn)),
    }
    run_file.save(path, run_file.RUN, words, {**state.arrays(), **columns})


def _spaces(subject: Subject, warn: Warn) -> dict[str, object] | None:
    """Both spaces; None of an objective, and where the environment is not installed."""
    if subject.config.objective.named:
        return None
    try:
        observations, actions = subject.spaces
    except UntrustedError:
        raise
    except UsageError as error:
        warn(f"{error}; the file will not describe the spaces")
        return None
    return {
        "observation": described_space(observations),
        "action": described_space(actions),
    }
