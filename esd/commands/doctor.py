"""``esd doctor``."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from esd.commands.running import on_ranks

if TYPE_CHECKING:
    from esd.config.settings import Config
    from esd.doctor.machine import Check
    from esd.evolution.canary import Canary
    from esd.mpi.comm import Communicator


def doctor(
    subject: Annotated[
        str | None,
        typer.Argument(
            help="A shipped experiment, a TOML file or a run's folder, whose environment and policy (or objective) "
            "to examine.",
            metavar="[EXPERIMENT|FILE.toml|RUN]",
            show_default=False,
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option(help="An environment to examine.", metavar="ID", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a setting, such as --set env.rebuild=always.", metavar="KEY=VALUE"
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Length of the episodes that an environment is examined in.", min=1)
    ] = 300,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Examine this machine and, if one is named, an environment: is it a pure function of its seed?

    Every check is a line: ok, a note, or FAILED with what to do; exit code 1 if one failed. Start it under mpirun to
    see whether all ranks find the same. Each variant of an environment is examined, the unseen ones too.
    """
    from esd.doctor import machine as doctors
    from esd.mpi.comm import agreement, gather

    def body(comm: Communicator) -> int:
        with agreement(comm, "reading the settings"):
            config = _config(subject, env, settings or ())
        report = _Report(quiet=as_json or comm.rank > 0)
        with agreement(comm, "examining the machine"):
            if comm.rank == 0:
                report.take("", doctors.machine())
        _compare(comm, report, "", "versions on all ranks", str(doctors.versions()))
        before = gather(comm, report.failures, "asking rank 0")[0]
        if config is not None and config.objective.named:
            _examine_problem(comm, report, config, subject or "")
        elif config is not None:
            _examine(comm, report, config, steps)
            if subject is not None and gather(comm, report.failures, "asking rank 0")[0] == before:
                _examine_problem(comm, report, config, subject)
        if comm.rank == 0:
            report.end(comm.size, as_json)
        return 1 if gather(comm, report.failures, "asking rank 0")[0] else 0

    on_ranks(body, as_json)


def _config(subject: str | None, env: str | None, settings: Iterable[str]) -> Config | None:
    """What to examine; None for the machine alone."""
    from esd.config.experiment_files import read_experiment
    from esd.config.tables import apply_settings, parse, to_table
    from esd.run.folder import RunFolder

    settings = [*settings, *([f"env.id={env}"] if env is not None else [])]
    if subject is None:
        return parse(apply_settings({}, settings), "--set") if settings else None
    if Path(subject).is_dir():
        folder = RunFolder(Path(subject))
        folder.require_run()
        return parse(apply_settings(to_table(folder.config()), settings), str(folder.config_file))
    name, table = read_experiment(subject)
    return parse(apply_settings(table, settings), name)


class _Report:
    """What has been found so far, each line told as it comes."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self.found: list[tuple[str, Check]] = []

    def take(self, section: str, checks: Iterable[Check]) -> None:
        """Tell and keep checks of the machine, or of a section."""
        for check in checks:
            first = section and all(section != before for before, _ in self.found)
            self.found.append((section, check))
            if not self._quiet:
                if first:
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
            told = f"{count} check{'s' * (count != 1)} FAILED" if count else "all is fine"
            print(f"\n{told}", flush=True)


def _examine(comm: Communicator, report: _Report, config: Config, steps: int) -> None:
    """Examine each variant on rank 0; then all ranks play one episode of it and compare."""
    from esd.doctor import purity
    from esd.mpi.comm import agreement

    lockstep = bool(config.batch_members) or config.device != "cpu"
    environments = {
        f"{config.env.id}, variant {variant.name!r}": config.env.of_variant(variant)
        for variant in config.env.variants
    } or {config.env.id: config.env}
    for name, environment in environments.items():
        with agreement(comm, f"examining {name}"):
            if comm.rank == 0:
                report.take(name, purity.examine(environment, steps, lockstep))
        if comm.size > 1:  # one rank has compared all that it can
            try:
                digest = str(purity.hash_of_episode(environment, steps))
            except Exception as error:  # rank 0 has told of it, unless it is this rank's alone
                digest = f"{type(error).__name__} on rank {comm.rank}"
            _compare(comm, report, name, "an episode on all ranks", digest)


def _examine_problem(comm: Communicator, report: _Report, config: Config, subject: str) -> None:
    """What training checks and compares at its start, on all ranks, and with the run's own.

    That is environment and policy together, or two evaluations of an objective at its initial parameters.
    """
    from esd.config.identity import identity
    from esd.doctor.machine import failed, told
    from esd.errors import EsdError
    from esd.evolution.state import make_strategy
    from esd.mpi.comm import agreement
    from esd.problems.make import make_problem
    from esd.run.folder import RunFolder
    from esd.run.journal import VERSION, version_of

    section, check = f"{config.policy.kind} policy on {config.env.id}", "canary"
    if config.objective.named:
        section, check = f"objective {config.objective.function}", "at its initial parameters"
        examined = dataclasses.replace(config.objective, check_at_start=True)
        config = dataclasses.replace(config, objective=examined)

    def computed(journal_version: int) -> Canary:
        with contextlib.closing(make_problem(config)) as problem:
            evaluator = problem.evaluator(make_strategy(config), 1, 0)
            return evaluator.canary(problem.initial_parameters(config.seed), journal_version)

    found: Canary | None = None
    with agreement(comm, f"examining the {section}"):
        try:
            found = computed(VERSION)
        except EsdError as error:
            report.take(section, [failed(check, str(error))])
            own = str(error)
        else:
            report.take(section, [told(True, check, "")])
            own = found.cpu
    _compare(comm, report, section, "canary on all ranks", own)
    with agreement(comm, "reading the run"):
        folder = RunFolder(Path(subject))
        if comm.rank == 0 and folder.is_run and identity(folder.config()) == identity(config):
            begun = folder.journal(config).header.canary
            version = version_of(folder.journal_file.read_bytes())
            if version != VERSION and found is not None:
                found = computed(version)
                own = found.cpu
            text = (
                f"this machine computes other bits than the one the run was started on (canary {own}, not {begun}): "
                "compare versions with its provenance.json, or resume it with --set run.allow_drift=true"
            )
            same = found is not None and found.agrees_with(begun)
            report.take(section, [told(same, "canary of the run", text)])


def _compare(comm: Communicator, report: _Report, section: str, name: str, found: str) -> None:
    """Tell which ranks have found something else than rank 0."""
    import hashlib

    import numpy as np

    from esd.doctor.machine import told
    from esd.mpi.comm import gather

    if comm.size == 1:
        return
    number = int.from_bytes(hashlib.sha256(found.encode()).digest()[:8])
    numbers = gather(comm, number, f"comparing {name}")
    different = np.flatnonzero(numbers != numbers[0])
    ranks = ", ".join(str(rank) for rank in different[:8])
    text = (
        f"{different.size} of {comm.size} ranks find something else than rank 0 (ranks {ranks}): their packages, the "
        "environment's files or, with a physics engine, their processors differ"
    )
    report.take(section, [told(not different.size, name, text)])
