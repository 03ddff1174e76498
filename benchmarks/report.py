"""Fill the tables of the pages in docs from benchmarks/results, after a change of them: which table is whose."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.measuring import RESULTS, ROOT
from benchmarks.tables import attention, bodies, engine, jobs, kilobytes, schedule
from benchmarks.tables.markdown import Parts, compared_all, filled

DOCS = ROOT / "docs"

PERFORMANCE: Parts = {
    "machine": ("noise", engine.machine),
    "noise": ("noise", compared_all),
    "compiled steps": ("compiled_steps", engine.compiled_steps),
    "hebbian": ("hebbian", compared_all),
    "pictures": ("pictures", engine.pictures),
    "cartpole": ("cartpole", engine.cartpole),
    "scaling": ("scaling", engine.scaling),
    "launch": ("jobs", jobs.launch),
    "memory": ("jobs", jobs.memory),
    "ranks": ("jobs", jobs.ranks),
    "training": ("jobs", compared_all),
    "lockstep": ("lockstep", compared_all),
    "lockstep on a gpu": ("lockstep_gpu", engine.on_gpu),
    "torch modules": ("torch_modules", compared_all),
    "attention batch": ("attention", attention.batch),
    "attention quoted": ("attention", attention.quoted),
    "attention stream": ("attention", attention.stream),
    "attention memory": ("attention", attention.memory),
    "reversible errors": ("reversible", attention.reversible_errors),
    "reversible memory": ("reversible", attention.reversible_memory),
    "schedule worlds": ("schedule", schedule.worlds),
    "schedule nodes": ("schedule", schedule.nodes_of_64),
    "schedule spread": ("schedule", schedule.spread),
    "schedule populations": ("schedule", schedule.populations),
    "schedule orders": ("schedule", schedule.orders),
    "schedule live": ("schedule", schedule.live),
    "schedule tickets": ("schedule", schedule.tickets),
}


WORLDS: Parts = {"brainless": ("bodies", bodies.brainless), "rates": ("bodies", bodies.rates)}
ALGORITHMS: Parts = {"test functions": ("algorithms", engine.algorithms)}
ATTENTION: Parts = {"recall": ("attention", attention.recall)}
EXPORT: Parts = {"kilobytes": ("kilobytes", kilobytes.centers)}
PAGES = {
    DOCS / "performance.md": PERFORMANCE,
    DOCS / "worlds.md": WORLDS,
    DOCS / "attention.md": ATTENTION,
    DOCS / "algorithms.md": ALGORITHMS,
    DOCS / "export.md": EXPORT,
}


def main() -> None:
    """Rewrite the pages."""
    command_line = argparse.ArgumentParser(
        prog="python -m benchmarks.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command_line.add_argument("--results", type=Path, default=RESULTS, help="[%(default)s]")
    arguments = command_line.parse_args()
    for page, parts in PAGES.items():
        page.write_text(filled(page.read_text("utf-8"), parts, arguments.results), "utf-8")


if __name__ == "__main__":
    main()
