"""Folders of runs that were written, not trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tomli_w

from esd.config.identity import identity
from esd.config.tables import parse, to_table
from esd.evaluation.stored import FORMAT
from esd.evolution.records import Records, Status
from esd.run import metrics
from esd.run.journal import JournalHeader, encode_entry, encode_header

WORLD = {"id": "X-v0", "kwargs": {}, "wrappers": [], "max_steps": 0, "stop_after_negative": 0}


def evaluation(means: dict[str, float | None], **changes: Any) -> dict[str, Any]:
    """As ``esd eval`` stores it, by the mean on each variant; the variants called u… are unseen."""
    variants = [
        {
            "name": name,
            "seen": name[0] != "u",
            "world": {**WORLD, "kwargs": {"b": name}},
            "mean": mean,
        }
        for name, mean in means.items()
    ]
    own = {"checkpoint": "last", "generation": 2, "seed": 0, "episodes": 9, "settings": {}}
    return {"format": FORMAT, "rules": "evolved", **own, "variants": variants, **changes}


def written(
    path: Path,
    *evaluations: dict[str, Any],
    steps: int = 1000,
    importing: bool = True,
    **table: Any,
) -> Path:
    """The folder of a run of two generations; ``importing``: an algorithm that the table names."""
    (path / "evaluations").mkdir(parents=True)
    kind = {} if "objective" in table else {"policy": {"hidden": [6]}}
    seed = {"seed": int(path.name.rpartition("s")[2])}
    config = parse({**kind, **seed, **table}, "test", importing)
    (path / "config.toml").write_text(tomli_w.dumps(to_table(config)))
    header = JournalHeader(identity(config), "", "", 4, 2, False, 1)
    data, lines = encode_header(header), []
    for g, (members, of_generation) in enumerate([(2, 0), (2, steps), (0, steps)]):
        records = Records(members, 1, 0)
        for row in range(members + 1):
            own = of_generation if row == 0 else 0
            records.write(row, returns=[1.0], steps=own, episodes=1, status=Status.DONE)
        data += encode_entry(g, records)
        totals = {"env_steps": steps * g, "episodes": (3, 6, 7)[g]}
        clock = {"seconds": 1800.0 * g, "core_seconds": 1800.0 * g}
        lines.append({"generation": g, **metrics.of_records(config, records), **totals, **clock})
    (path / "journal.bin").write_bytes(data)
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for number, stored in enumerate(evaluations):
        (path / "evaluations" / f"{number}.json").write_text(json.dumps(stored))
    return path


def group(folder: Path, name: str, means: list[float], offset: float = 0.0, **table: Any) -> str:
    """Runs with these means on “seen”, and ``offset`` more on “u1”; the word that names them."""
    for seed, mean in enumerate(means):
        written(folder / f"{name}-s{seed}", evaluation({"a": mean, "u1": mean + offset}), **table)
    return f"{name}={folder}/{name}-s[0-9]*"
