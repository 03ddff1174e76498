"""``esd doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esd.commands import completion
from esd.commands.running import Trusted, Verbose, on_ranks

if TYPE_CHECKING:
    from esd.config.settings import Config
    from esd.doctor.machine import Check
    from esd.mpi.comm import Communicator
    from esd.run.folder import RunFolder


def doctor(
    subject: Annotated[
        str | None,
        typer.Argument(
            help="A shipped experiment, a TOML file or a run's folder whose environment and policy (or objective) "
            "are checked.",
            metavar="EXPERIMENT|FILE.toml|RUN",
            show_default=False,
            autocompletion=completion.experiments_and_runs,
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(
            help="Environment to check.",
            metavar="ID",
            show_default=False,
            autocompletion=completion.environments,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override a setting, such as --set env.rebuild=always.",
            metavar="KEY=VALUE",
            autocompletion=completion.settings,
        ),
    ] = None,
    steps: Annotated[
        int,
        typer.Option(
            help="Maximum number of steps of the episodes that check an environment.", min=1
        ),
    ] = 300,
    trust: Trusted = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only the checks that failed.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Check this machine and MPI, and whether an environment is a pure function of its seed.

    Every check prints one line: ok, a note, or FAILED with what to do. The exit code is 1 if a check failed. Start it
    under mpirun to check that all ranks get the same results. All variants of an environment are checked, also unseen
    ones.
    """
    from esd.doctor.examination import examine
    from esd.mpi.comm import agreement
    from esd.reading import check_path
    from esd.training.trusted import trusted_run

    def body(comm: Communicator) -> int:
        own = [*(settings or ()), *([f"env.id={env}"] if env is not None else [])]
        folder: RunFolder | None = None
        with agreement(comm, "reading the settings"):
            if subject is not None:
                check_path(Path(subject))
        is_run = subject is not None and Path(subject).is_dir()
        if (
            subject is not None
            and comm.broadcast(b"run" if is_run else b"file", "naming") == b"run"
        ):
            folder = trusted_run(comm, Path(subject), trust, own)
        with agreement(comm, "reading the settings"):
            config = _config(subject, folder, own)
        report = _Report(silent=as_json or comm.rank > 0, only_failures=quiet)
        failures = examine(comm, config, subject, steps, report)
        if comm.rank == 0:
            report.end(comm.size, as_json)
        return 1 if failures else 0

    on_ranks(body, as_json)


def _config(
    subject: str | None, folder: RunFolder | None, settings: Sequence[str]
) -> Config | None:
    """What to examine; None for the machine alone."""
    from esd.config.experiment_files import read_experiment
    from esd.config.tables import apply_settings, parse, to_table

    if subject is None:
        return parse(apply_settings({}, settings), "--set") if settings else None
    if folder is not None:
        return parse(apply_settings(to_table(folder.config()), settings), str(folder.config_file))
    name, table = read_experiment(subject)
    return parse(apply_settings(table, settings), name)


class _Report:
    """What has been found so far, each line printed as it comes."""

    def __init__(self, silent: bool, only_failures: bool = False) -> None:
        self._silent, self._only_failures = silent, only_failures
        self.found: list[tuple[str, Check]] = []

    def take(self, section: str, checks: Iterable[Check]) -> None:
        """Print and keep checks of the machine, or of a section."""
        from esd.doctor.machine import Verdict

        for check in checks:
            first = section and all(section != before for before, _ in self.found)
            self.found.append((section, check))
            shown = check.state is Verdict.FAILED or not self._only_failures
            if shown and not self._silent:
                if first and not self._only_failures:
                    print(f"\n{section}", flush=True)
                print(f"{check.state:<6}  {check.name:<27} {check.text}".rstrip(), flush=True)

    @property
    def failures(self) -> int:
        """How many checks failed."""
        from esd.doctor.machine import Verdict

        return sum(check.state is Verdict.FAILED for _, check in self.found)

    def end(self, ranks: int, as_json: bool) -> None:
        """Sum up."""
        from esd.commands.console import print_json

        if as_json:
            checks = [
                {
                    "section": section or "machine",
                    "name": check.name,
                    "state": str(check.state),
                    "text": check.text,
                    **check.figures,
                }
                for section, check in self.found
            ]
            print_json({"ranks": ranks, "failed": self.failures, "checks": checks})
        else:
            count = self.failures
            if count or not self._only_failures:
                end = f"{count} check{'s' * (count != 1)} FAILED" if count else "all checks passed"
                print(f"\n{end}", flush=True)
