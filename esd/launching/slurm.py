"""SLURM's own commands: what they are asked, what they answer, and what their errors mean for a user."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from esd.errors import RunError, UsageError, shortened, shown
from esd.launching.slurm_time import seconds_of, text_of

SECONDS = 60.0  # for an answer
MOST_IDS = 500  # asked for in one call
_NO_LIMIT = ("infinite", "UNLIMITED", "n/a", "")


@dataclass(frozen=True)
class Partition:
    """Nodes of one kind in a partition; a partition of several kinds has several of these.

    Attributes:
        name: of the partition.
        is_default: jobs without ``--partition`` go there.
        seconds: its time limit; None for no limit.
        nodes: how many there are of this kind.
        cpus: of each node.
    """

    name: str
    is_default: bool
    seconds: int | None
    nodes: int
    cpus: int


@dataclass(frozen=True)
class State:
    """Where a job is.

    Attributes:
        name: as SLURM says it, such as ``PENDING``.
        reason: why it waits or how it ended; empty if SLURM gives none.
    """

    name: str
    reason: str = ""


def require_sbatch() -> str:
    """Where sbatch is.

    Raises:
        UsageError: if it isn't.
    """
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UsageError(
            "sbatch: not found. Run esd submit on a login node of a SLURM cluster, print the script with --dry-run, or "
            "train on this machine with esd launch"
        )
    return sbatch


class UnansweredError(RunError):
    """sbatch has said nothing about the job, which may be queued."""

    def __init__(self, what: str) -> None:
        """Say so."""
        super().__init__(
            f"sbatch: {what}; the job may be queued all the same, so look for it with squeue before you submit it again"
        )


def submit(script: Path) -> str:
    """Call sbatch; the job's id.

    Raises:
        UsageError: if there is no sbatch, or SLURM refuses the job.
        RunError: if sbatch can't be called; ``UnansweredError`` if SLURM doesn't answer.
    """
    try:
        asked = subprocess.run(
            [require_sbatch(), "--parsable", "--", str(script)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UnansweredError(f"no answer for {SECONDS:g} s") from None
    except OSError as error:
        raise RunError(f"sbatch: {error}") from None
    if asked.returncode and "timed out on send/recv" in asked.stderr:
        raise UnansweredError(shortened(" ".join(asked.stderr.split()), 300))
    if asked.returncode:
        raise UsageError(why_refused(asked.stderr))
    job = asked.stdout.strip().splitlines()[-1:] or [""]
    found = re.match(r"\d+", job[0])  # behind it ";cluster"
    if not found:
        raise UnansweredError(f"expected a job id, got {shown(asked.stdout)}")
    return found[0]


# what sbatch says, and what to do about it
_FIXES = (
    ("accounting/qos policy", "it is over a limit of your account or QOS: use fewer or smaller jobs, or another --qos"),
    ("invalid account", "choose one with --account (sacctmgr show associations user=$USER lists yours)"),
    ("partition", "choose one with --partition ({partitions})"),
    ("account", "choose another one with --account (sacctmgr show associations user=$USER lists yours)"),
    ("qos", "choose one with --qos (sacctmgr show qos lists them)"),
    ("feature", "choose another --constraint (sinfo -o '%f' lists features)"),
    ("time limit", "use a shorter --time (sinfo shows the limits of the partitions)"),
    ("gres", "request GPUs that the nodes have with --gpus-per-node (sinfo -o '%G' lists them)"),
    ("node configuration", "use fewer --ntasks-per-node or --nodes (sinfo -o '%P %D %c' lists nodes and their CPUs)"),
    ("more processors", "use fewer --ntasks-per-node (sinfo -o '%P %D %c' lists nodes and their CPUs)"),
    ("array", "use fewer tasks (scontrol show config | grep MaxArraySize)"),
    ("unrecognized option", "remove it from the site file or from --sbatch"),
    ("unable to contact", "try again when SLURM answers (scontrol ping)"),
    ("socket", "try again when SLURM answers (scontrol ping)"),
)  # fmt: skip


# what SLURM's commands say on a machine that belongs to no cluster, in lines about name servers
_NO_CLUSTER = ("configuration source", "fetch_config", "slurm.conf", "resolve_ctls")


def not_configured(said: str) -> str:
    """In a line, that SLURM's commands are installed here but know no cluster; empty if they said something else.

    Args:
        said: by sbatch or srun, on stderr.
    """
    if not any(word in said for word in _NO_CLUSTER):
        return ""
    return (
        "SLURM's commands are installed on this machine, but find no cluster (no slurm.conf and no configuration "
        "server). Use a login node of the cluster, or set SLURM_CONF to its slurm.conf. Without SLURM, start "
        "training with esd launch"
    )


def why_refused(stderr: str) -> str:
    """What sbatch said last, as one line with what to do."""
    if nowhere := not_configured(stderr):
        return nowhere
    lines = [
        line.strip().removeprefix("sbatch:").strip().removeprefix("error:").strip()
        for line in stderr.splitlines()
        if line.strip() and not line.strip().startswith("Try ")
    ]
    said = "; ".join(dict.fromkeys(lines)) or "no reason given"
    fix = next((fix for word, fix in _FIXES if word in said.lower()), "")
    if "{partitions}" in fix:
        names = sorted({partition.name for partition in partitions()})
        fix = fix.format(partitions=", ".join(names) or "sinfo lists them")
    return f"SLURM rejects the job: {shortened(said, 400)}{fix and f'. To fix it, {fix}'}"


def partitions() -> list[Partition]:
    """The partitions of this cluster; none if SLURM doesn't say."""
    return parse_partitions(_answer(["sinfo", "--noheader", "--format=%P|%l|%D|%c"]))


def parse_partitions(answer: str) -> list[Partition]:
    """What sinfo has answered; lines that it doesn't usually have are passed over."""
    found = []
    for line in answer.splitlines():
        fields = [part.strip() for part in line.split("|")]
        if len(fields) != 4 or not fields[2].isdigit():
            continue
        cpus = re.match(r"\d+", fields[3])
        if not cpus:
            continue
        try:
            seconds = None if fields[1] in _NO_LIMIT else seconds_of(fields[1])
        except UsageError:
            seconds = None
        name = fields[0].removesuffix("*")
        found.append(
            Partition(name, fields[0].endswith("*"), seconds, int(fields[2]), int(cpus[0]))
        )
    return found


def check_fits(
    known: Sequence[Partition], name: str, nodes: int, tasks_per_node: int, seconds: int
) -> None:
    """Refuse what a partition can never run: SLURM would let some of it wait for ever.

    Args:
        known: what ``partitions`` found; nothing is checked if that is nothing.
        name: of the partition, or several between commas; empty for the default one.
        nodes: asked for.
        tasks_per_node: asked for.
        seconds: the time limit asked for.

    Raises:
        UsageError: if there is no such partition, or it has too few nodes or CPUs, or a shorter limit.
    """
    if not known:
        return
    names = sorted({partition.name for partition in known})
    if name:
        missing = [part for part in name.split(",") if part not in names]
        if missing:
            raise UsageError(
                f"--partition {shown(name)}: this cluster has no partition {shown(missing[0])}; use one of "
                f"{shortened(', '.join(names), 300)}"
            )
    elif not any(partition.is_default for partition in known):
        raise UsageError(
            f"this cluster has no default partition; choose one with --partition: {shortened(', '.join(names), 300)}"
        )
    problems = [
        _why_not(of_name, part, nodes, tasks_per_node, seconds)
        for part in (name.split(",") if name else [""])
        if (of_name := [p for p in known if p.name == part or (not part and p.is_default)])
    ]
    if problems and all(problems):
        raise UsageError(problems[0])


def _why_not(
    kinds: Sequence[Partition], asked: str, nodes: int, tasks_per_node: int, seconds: int
) -> str:
    """Why a job doesn't fit into a partition; empty if it does."""
    name = kinds[0].name
    where = f"partition {name}" if asked else f"the default partition {name}"
    limits = [kind.seconds for kind in kinds]
    limit = None if None in limits else max(each for each in limits if each is not None)
    if limit is not None and seconds > limit:
        return (
            f"--time {text_of(seconds)}: {where} allows {text_of(limit)} at most. Use a shorter --time (the job is "
            "queued again until the run is done), or another --partition"
        )
    cpus = max(kind.cpus for kind in kinds)
    if tasks_per_node > cpus:
        return (
            f"--ntasks-per-node {tasks_per_node}: the nodes of {where} have {cpus} CPUs. Use {cpus} or fewer, and more "
            "--nodes for more ranks"
        )
    there = sum(kind.nodes for kind in kinds)
    fitting = sum(kind.nodes for kind in kinds if kind.cpus >= tasks_per_node)
    if nodes > fitting:
        of_these = "" if fitting == there else f" with {tasks_per_node} CPUs or more"
        return f"--nodes {nodes}: {where} has {fitting}{of_these}. Use fewer --nodes, or another --partition"
    return ""


def largest_array() -> int | None:
    """How many tasks an array may have here; None if SLURM doesn't say."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", _answer(["scontrol", "show", "config"]), re.M)
    return int(found[1]) if found else None


def states(jobs: Iterable[str]) -> dict[str, State]:
    """Where jobs are, by ``id`` or, for one of an array, ``id_task``.

    Args:
        jobs: ids, without tasks. Those that SLURM doesn't know any more are left out of the answer.
    """
    wanted = sorted({job for job in jobs if re.fullmatch(r"\d{1,18}", job)}, key=int)
    found: dict[str, State] = {}
    for first in range(0, len(wanted), MOST_IDS):
        ids = wanted[first : first + MOST_IDS]
        found |= parse_states(
            _answer([
                "sacct", "--noheader", "--parsable2", "--allocations", "--array", "--jobs", ",".join(ids),
                "--format=JobID,State",
            ])
        )  # fmt: skip
        # what is queued now; jobs that squeue knows nothing of are an error only if none is known
        found |= parse_states(
            _answer([
                "squeue", "--noheader", "--array", "--states=all", "--jobs", ",".join(ids), "--format=%i|%T|%r",
            ])
        )  # fmt: skip
    return found


def parse_states(answer: str) -> dict[str, State]:
    """What squeue or sacct has answered."""
    found = {}
    for line in answer.splitlines():
        fields = [part.strip() for part in line.split("|")]
        if len(fields) >= 2 and re.fullmatch(r"\d+(_\d+)?", fields[0]) and fields[1]:
            reason = fields[2] if len(fields) > 2 and fields[2] not in ("None", "(null)") else ""
            found[fields[0]] = State(fields[1].split()[0], reason)
    return found


def _answer(words: Sequence[str]) -> str:
    """What a command of SLURM prints; nothing if it isn't there or fails."""
    program = shutil.which(words[0])
    if program is None:
        return ""
    try:
        asked = subprocess.run(
            [program, *words[1:]],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout if asked.returncode == 0 else ""
