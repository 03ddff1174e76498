"""What ``esd doctor`` examines, in which order, and what its ranks compare."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from esd.config.identity import identity
from esd.config.settings import Config
from esd.doctor import machine, mpi, purity, ranks
from esd.doctor.machine import Check, failed, note, told
from esd.doctor.many_episodes import many_episodes
from esd.doctor.rendering import one_picture, rendering
from esd.doctor.run_folder import is_run, run_folder, where_runs_are
from esd.errors import EsdError
from esd.evolution.canary import Canary
from esd.evolution.state import make_strategy
from esd.mpi.comm import Communicator, agreement, gather
from esd.mpi.differences import differences
from esd.problems.make import make_problem
from esd.run.folder import RunFolder
from esd.run.journal import VERSION
from esd.run.provenance import collect, what_changed
from esd.run.trust import Trust
from esd.training.canary import what_bits_depend_on


class Report(Protocol):
    """Takes what is found.

    Attributes:
        failures: how many checks have failed so far, on this rank.
    """

    @property
    def failures(self) -> int:
        """How many checks have failed so far, on this rank."""

    def take(self, section: str, checks: Iterable[Check]) -> None:
        """Report checks of the machine (without a section) or of a section, as they come."""


def examine(
    comm: Communicator, config: Config | None, subject: str | None, steps: int, report: Report
) -> int:
    """Examine this machine and, if there is one, a config's environments and problem.

    Args:
        comm: the ranks that compare what they find.
        config: what to examine; None for the machine alone.
        subject: where the config comes from, if it says more than an environment: an experiment, a file or a run.
        steps: of an episode.
        report: takes the checks; those of rank 0 are all.

    Returns:
        How many checks failed, on every rank.

    Raises:
        JobFailedError: on all ranks, if any failed to examine.
    """

    def failures() -> int:
        return int(gather(comm, report.failures, "asking rank 0")[0])

    with agreement(comm, "examining the machine"):
        if comm.rank == 0:
            report.take("", machine.machine())
            report.take("", run_folder(where_runs_are(subject), is_run(subject)))
            report.take("", [rendering(), ranks.gpus(), ranks.pinning()])
            report.take("", mpi.mpi())
    if comm.size > 1:
        report.take("", [*ranks.on_ranks(comm)])
        report.take("", [*_alike(comm)])
    before = failures()
    if config is not None and config.objective.named:
        _examine_problem(comm, report, config, subject or "")
    elif config is not None:
        _examine_environments(comm, report, config, steps)
        asked = subject is not None or config.policy != Config().policy
        if asked and failures() == before:
            _examine_problem(comm, report, config, subject or "")
    return failures()


def _examine_environments(comm: Communicator, report: Report, config: Config, steps: int) -> None:
    """Examine each variant on rank 0; then all ranks play one episode of it and compare."""
    lockstep = config.lockstep
    environments = {
        f"{config.env.id}, variant {variant.name!r}": config.env.of_variant(variant)
        for variant in config.env.variants
    } or {config.env.id: config.env}
    for name, environment in environments.items():
        with agreement(comm, f"examining {name}", evaluates=True):
            if comm.rank == 0:
                report.take(name, purity.examine(environment, steps, lockstep))
                if name == next(iter(environments)):  # the one that esd eval --video shows
                    report.take(name, one_picture(environment, config.format))
        if comm.size > 1:  # one rank has compared all that it can
            try:
                digest = str(purity.hash_of_episode(environment, steps))
            except Exception as error:  # rank 0 has told of it, unless it is this rank's alone
                digest = f"{type(error).__name__} on rank {comm.rank}"
            _compare(comm, report, name, "an episode on all ranks", digest)


def _examine_problem(comm: Communicator, report: Report, config: Config, subject: str) -> None:
    """What training checks and compares at its start, on all ranks, and with the run's own.

    That is environment and policy together, or two evaluations of an objective at its initial parameters.
    """
    section, check = f"{config.policy.kind} policy on {config.env.id}", "canary"
    if config.objective.named:
        section, check = f"objective {config.objective.function}", "at its initial parameters"
        examined = dataclasses.replace(config.objective, check_at_start=True)
        config = dataclasses.replace(config, objective=examined)

    def computed(journal_version: int) -> Canary:
        with contextlib.closing(make_problem(config)) as problem:
            evaluator = problem.evaluator(make_strategy(config, problem.layout), 1, 0)
            return evaluator.canary(problem.initial_parameters(config.seed), journal_version)

    found: Canary | None = None
    with agreement(comm, f"examining the {section}", evaluates=True):
        try:
            found = computed(VERSION)
        except EsdError as error:
            report.take(section, [failed(check, str(error))])
            own = str(error)
        else:
            report.take(
                section, [told(True, check, "", "a short check gives the same results again")]
            )
            own = found.cpu
    _compare(comm, report, section, "canary on all ranks", own)
    with agreement(comm, "playing many episodes", evaluates=True):
        if comm.rank == 0 and found is not None and not config.objective.named:
            report.take(section, many_episodes(config))
    if not subject:
        return
    with agreement(comm, "reading the run"):
        folder = RunFolder(Path(subject), Trust.YES)  # or it would not be examined
        if comm.rank == 0 and folder.is_run and identity(folder.config()) == identity(config):
            contents = folder.journal(config, verify=False)
            begun, version = contents.header.canary, contents.version
            if version != VERSION and found is not None:
                found = computed(version)
                own = found.cpu
            text = (
                f"this machine computes other bits than the machine on which the run was started (canary {own}, not "
                f"{begun}): {what_changed(folder.provenance_file, collect(comm.size, config))}. Undo these changes, "
                "or resume the run with --set run.allow_drift=true"
            )
            same = found is not None and found.agrees_with(begun)
            report.take(
                section,
                [
                    told(
                        same,
                        "canary of the run",
                        text,
                        "the results with which the run was started",
                    )
                ],
            )


def _alike(comm: Communicator) -> Iterator[Check]:
    """Whether all ranks have the same versions and processors; every rank has to call, and to take all of it."""
    versions = {name: found or "none" for name, found in machine.versions().items()}
    differing = differences(comm, versions)
    yield told(
        not differing,
        "versions on all ranks",
        f"{differing}. Training does not start if ranks compute other bits; install the same versions",
        "the same",
    )
    others = {n: value for n, value in what_bits_depend_on().items() if n.startswith("the ")}
    if differing := differences(comm, others):
        yield note(
            "same kind of nodes",
            f"{differing}. esd computes the same bits on all of them. A physics engine may not; training then does "
            "not start. Use machines of the same kind for a physics engine",
        )


def _compare(comm: Communicator, report: Report, section: str, name: str, found: str) -> None:
    """Tell which ranks have found something else than rank 0."""
    if comm.size == 1:
        return
    number = int.from_bytes(hashlib.sha256(found.encode()).digest()[:8])
    numbers = gather(comm, number, f"comparing {name}")
    different = np.flatnonzero(numbers != numbers[0])
    ranks = ", ".join(str(rank) for rank in different[:8])
    text = (
        f"{different.size} of {comm.size} ranks get other results than rank 0 (ranks {ranks}): their packages, the "
        "environment's files or, with a physics engine, their processors differ"
    )
    report.take(section, [told(not different.size, name, text, "the same results")])
