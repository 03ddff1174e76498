"""Is this machine fit for esd: packages, cores, memory, the place for compiled kernels, the disk?

Each check is a line: ok, a note (what to know, or a choice), or FAILED with what to do. ``esd.doctor.mpi`` checks MPI,
and ``esd.doctor.purity`` an environment, in lines of the same kind.
"""

from __future__ import annotations

import enum
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import esd
from esd.errors import EXTRAS
from esd.mpi import control_groups
from esd.mpi.launch import launched_processes
from esd.mpi.memory import available_memory, memory_limit
from esd.mpi.placement import THREAD_VARIABLES
from esd.run.provenance import mpi_library, version

# what is imported, and the distribution that it comes from
PACKAGES = {
    "numpy": "numpy",
    "numba": "numba",
    "gymnasium": "gymnasium",
    "safetensors": "safetensors",
}
# optional ones that results may depend on, so that ranks should have the same
OPTIONAL = {"torch": "torch", "mujoco": "mujoco", "Box2D": "box2d"}
# what each optional package is for: a setting, a command or environments
PURPOSES = {
    "torch": "device, batch_members and torch modules",
    "mujoco": "MuJoCo environments",
    "Box2D": "Box2D environments",
    "popgym": "popgym environments",
    "plotly": "esd report",
    "PIL": "esd eval --video FILE.gif",
    "imageio_ffmpeg": "esd eval --video FILE.mp4",
    "scipy": "esd export --format mat",
    "onnx": "esd export --format onnx",
    "tensorboard": "run.loggers",
    "wandb": "run.loggers",
    "mlflow": "run.loggers",
}
DISTRIBUTIONS = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg", "mlflow": "mlflow-skinny"}
SLOW_TO_IMPORT = ("popgym", "tensorboard", "wandb", "mlflow")  # so they are only looked for
LITTLE_MEMORY = 0.5e9  # bytes per core: a rank takes 90 MB, its environment comes on top
LITTLE_DISK = 1e9
GIGA = 1e9
ROOT = Path("/")


class Verdict(enum.StrEnum):
    """How a check ended."""

    OK = "ok"
    NOTE = "note"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: what was looked at.
        state: how it ended.
        text: what was found and, unless all is fine, what to do.
        figures: the numbers in it, by name and unit, for programs.
    """

    name: str
    state: Verdict
    text: str = ""
    figures: dict[str, float] = field(default_factory=dict)


def ok(name: str, text: str = "") -> Check:
    """All is fine."""
    return Check(name, Verdict.OK, text)


def note(name: str, text: str) -> Check:
    """Worth knowing."""
    return Check(name, Verdict.NOTE, text)


def failed(name: str, text: str) -> Check:
    """To be mended."""
    return Check(name, Verdict.FAILED, text)


def told(fine: bool, name: str, otherwise: str, says: str = "") -> Check:
    """Fine, which may be said in words, or failed with a text."""
    return ok(name, says) if fine else failed(name, otherwise)


def machine() -> Iterator[Check]:
    """Examine this machine, one line after the other."""
    system = f"{platform.node()}, {platform.platform()}"
    yield ok("machine", f"{system}, Python {platform.python_version()}, esd {esd.__version__}")
    yield packages()
    yield optional_packages()
    yield cores()
    yield memory()
    yield threads()
    yield kernel_cache()
    yield disk()


def versions() -> dict[str, str | None]:
    """What ranks should have the same of."""
    return {
        "Python": platform.python_version(),
        "esd": esd.__version__,
        **{name: version(package) for name, package in {**PACKAGES, **OPTIONAL}.items()},
        "MPI": mpi_library(),
    }


def packages() -> Check:
    """Whether all that esd needs can be imported: a version alone doesn't say that its libraries load."""
    found, missing, broken = _imported(PACKAGES)
    broken += [f"{name} (not installed)" for name in missing]
    if broken:
        return failed(
            "packages", f"could not be imported: {'; '.join(broken)}. Install esd-mpi again"
        )
    return ok("packages", ", ".join(found))


def optional_packages() -> Check:
    """What some settings and commands need; none of it has to be there, but what is there has to load."""
    name = "optional packages"
    imported = {n: _distribution(n) for n in PURPOSES if n not in SLOW_TO_IMPORT}
    found, missing, broken = _imported(imported)
    for module in SLOW_TO_IMPORT:
        if importlib.util.find_spec(module) is None:
            missing.append(module)
        else:
            found.append(f"{module} {version(_distribution(module))}")
    if broken:
        return failed(name, f"could not be imported: {'; '.join(broken)}. Install them again")
    if missing:
        by_purpose: dict[str, list[str]] = {}
        for module in missing:
            by_purpose.setdefault(PURPOSES[module], []).append(EXTRAS[module][0])
        absent = "; ".join(f"{', '.join(names)} ({use})" for use, names in by_purpose.items())
        extras = ",".join(sorted({EXTRAS[module][1] for module in missing}))
        return note(
            name,
            f"{', '.join(found) or 'none'}. Not installed: {absent}. Install all of these, or only the extras "
            f"that you need: pip install 'esd-mpi[{extras}]'",
        )
    return ok(name, ", ".join(found))


def _distribution(module: str) -> str:
    """What pip calls the package of a module."""
    return {**OPTIONAL, **DISTRIBUTIONS}.get(module, module)


def _imported(packages: dict[str, str]) -> tuple[list[str], list[str], list[str]]:
    """Packages with their versions, those that are not installed, and those that don't load, with the reason."""
    found, missing, broken = [], [], []
    for name, distribution in packages.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # a package may fail in any way while it loads
            if isinstance(error, ModuleNotFoundError) and error.name == name:
                missing.append(name)
            else:
                broken.append(f"{name} ({type(error).__name__}: {' '.join(str(error).split())})")
        else:
            found.append(f"{name} {version(distribution)}")
    return found, missing, broken


def usable_cores() -> int:
    """Cores that ranks on this machine may use; a launcher binds each of its ranks to some, which says nothing."""
    if hasattr(os, "sched_getaffinity") and launched_processes() == 1:
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores() -> Check:
    """How many ranks have a core of their own here."""
    name, usable, quota = "cores", usable_cores(), cgroup_cores()
    text = f"{usable} of {os.cpu_count()} can be used"
    if quota is not None and quota < usable:
        return note(
            name,
            f"{text}, but a control group limits CPU time to {quota:.3g} cores: start at most "
            f"{max(1, int(quota))} ranks here",
        )
    ranks = launched_on_this_machine()
    if ranks > usable:
        return note(
            name,
            f"{text}, used by {ranks} ranks, which have to share them: start at most {usable} here",
        )
    return ok(name, f"{text}: up to {usable} ranks here")


def launched_on_this_machine() -> int:
    """Ranks that the launcher started on this machine, if it tells; 0 if not."""
    for variable in ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"):
        value = os.environ.get(variable, "")
        if value.isdigit():
            return int(value)
    return 0


def memory() -> Check:
    """What this process and its like may take."""
    name = "memory"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available, limit = available_memory(ROOT), memory_limit(ROOT)
    text = f"{total / GIGA:.1f} GB, {available / GIGA:.1f} GB available"
    if limit is not None and limit < total:
        text += f", limited by a control group to {limit / GIGA:.1f} GB"
    if available < LITTLE_MEMORY * usable_cores():
        return note(
            name,
            f"{text}: little for {usable_cores()} ranks: each rank needs 0.1 GB and the memory of its environment",
        )
    return ok(name, text)


def cgroup_cores() -> float | None:
    """The smallest share of processor time of this process's control groups [cores]; None without."""
    return control_groups.cores(ROOT)


def threads() -> Check:
    """Libraries that start threads of their own take cores from other ranks."""
    several = {
        name: os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name, "1") != "1"
    }
    if several:
        shown = ", ".join(f"{name}={value}" for name, value in several.items())
        return note(
            "threads",
            f"{shown}: esd runs in parallel by ranks, so unset them (esd then uses 1 thread per rank)",
        )
    return ok("threads", "one per rank")


def kernel_cache() -> Check:
    """Whether compiled kernels are kept, and whether they are there."""
    from esd.kernels import COMPILER

    name, folder = "kernel cache", COMPILER.folder.path
    readable = COMPILER.folder.readable
    compiled = sum(1 for place in readable for _ in place.glob("*.kernel"))
    if compiled and folder is None:  # as in an image, on the kind of processor that it was built on
        return ok(name, f"{compiled} compiled kernels in {', '.join(map(str, readable))}")
    if folder is None or not _writable(folder):
        return note(
            name,
            "no folder for it is writable: every start compiles for several seconds. Set NUMBA_CACHE_DIR to a "
            "folder that is kept",
        )
    if not compiled:
        return note(name, f"{folder}: empty, so the next start compiles for several seconds")
    return ok(name, f"{folder}: {compiled} compiled kernels")


def disk() -> Check:
    """Whether a run could be written here."""
    name, here = "disk", Path.cwd()
    if not _writable(here):
        return note(name, f"{here} is not writable: use another run folder with --run")
    free = shutil.disk_usage(here).free
    if free < LITTLE_DISK:
        return note(
            name,
            f"{free / GIGA:.2f} GB free in {here}: a run keeps three checkpoints of 4 to 12 bytes per parameter",
        )
    return ok(name, f"{free / GIGA:,.1f} GB free in {here}")


def _writable(folder: Path) -> bool:
    """Whether a file can be made: permissions alone don't say (a read-only file system, a quota)."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
