"""Where a run came from: versions, the user's own modules, commit, machine, command; and what has changed since."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esd.config.settings import Config
from esd.errors import UsageError
from esd.reading import MB, read_json
from esd.run.user_modules import own_modules

PACKAGES = (
    "esd-mpi",
    "numpy",
    "numba",
    "gymnasium",
    "mujoco",
    "box2d",
    "torch",
    "mpi4py",
    "safetensors",
)

CPU_INFO = Path("/proc/cpuinfo")
MOST_LISTED = 4  # changes in a message
ORIGIN = "started_from"  # of the first call
MOST_BYTES = 100_000_000

Call = dict[str, Any]


def collect(ranks: int, config: Config | None = None) -> Call:
    """What is worth knowing later, as JSON can hold it; the config says which modules matter beside ours."""
    named = [] if config is None else _named_modules(config)
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": sys.argv,
        "ranks": ranks,
        "host": socket.gethostname(),
        "machine": platform.machine(),
        "processor": processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES} | _packages_of(named),
        "modules": own_modules(named),
        "git_commit": _commit(),
        "mpi_library": mpi_library(),
    }


def _named_modules(config: Config) -> list[str]:
    """The modules that settings name as ``module:Name``, and those of registered environments."""
    env = config.env
    wrappers = [*env.wrappers, *(w for variant in env.variants for w in variant.wrappers)]
    ids = [env.id, *(variant.id for variant in env.variants)]
    registry = getattr(sys.modules.get("gymnasium"), "registry", {})
    entries = [getattr(registry.get(id.rpartition(":")[2]), "entry_point", "") for id in ids]
    values = [
        *ids,
        *(wrapper.id for wrapper in wrappers),
        *(
            entry if isinstance(entry, str) else f"{entry.__module__}:"
            for entry in entries
            if entry
        ),
        config.policy.kind,
        config.objective.function,
        config.es.algorithm,
        getattr(config.es, "optimizer", ""),
    ]
    return [value.partition(":")[0] for value in values if ":" in str(value)]


def _packages_of(modules: Sequence[str]) -> dict[str, str | None]:
    """The installed packages that modules come from, with their versions."""
    tops = {name.partition(".")[0] for name in modules} - {
        "",
        "__main__",
        "__mp_main__",
        "esd",
        "esd_envs",
    }
    files = {top: str(getattr(sys.modules.get(top), "__file__", "") or "") for top in tops}
    known = {name.lower() for name in PACKAGES}
    installed = [
        top for top, file in files.items() if "-packages" in file and top.lower() not in known
    ]
    found = {top: version(top) for top in installed}
    unknown = [top for top, number in found.items() if number is None]
    if unknown:  # a distribution of another name; reading what all have installed takes 0.4 s
        distributions = importlib.metadata.packages_distributions()
        names = {name for top in unknown for name in distributions.get(top, ())}
        found = {top: found[top] for top in found if top not in unknown}
        found |= {name: version(name) for name in names}
    return dict(sorted(found.items()))


def read(path: Path) -> list[Call]:
    """The training sessions in provenance.json, oldest first; none without the file.

    Raises:
        UsageError: if it is damaged.
    """
    try:
        calls = read_json(path, 100 * MB)
    except FileNotFoundError:
        return []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UsageError(f"{path}: not a list of training sessions")
    return calls


def origin_of(path: Path) -> str | None:
    """The run that a run was started from (``--from``), from the root on; None without one, or if it is not known."""
    try:
        calls = read(path)
    except UsageError:
        return None
    return calls[0].get(ORIGIN) if calls else None


def what_changed(path: Path, now: Call) -> str:
    """What differs between a run's first call and this one, for a message; whatever the file holds."""
    try:
        calls = read(path)
    except UsageError as error:
        return f"the changes are not known ({error})"
    if not calls:
        return "the changes are not known, because its provenance.json is missing"
    since = "the run was started"
    before = calls[0]
    found = [
        *changed_modules(before, now, since),
        *_other_modules(before, now),
        *_changed_versions(before, now),
    ]
    known = isinstance(before.get("processor"), str)
    if found:
        more = len(found) - MOST_LISTED
        return (
            "; ".join(found[:MOST_LISTED])
            + (f"; and {more} more" if more > 0 else "")
            + ("" if known else "; the processor then is not known")
        )
    if not isinstance(before.get("modules"), dict):
        return (
            "no package version has changed since; your own modules may have changed, but this run has no "
            "hashes of them"
        )
    if known:
        same, others = "your modules, package versions nor the processor have", ""
    else:
        same, others = "your modules nor package versions have", " or the processor"
        others += f" (then {before.get('machine')} on {before.get('host')})"
    return (
        f"neither {same} changed since. Either a file that they read or an environment variable{others} has changed, "
        "or your code depends on the process or the time (esd doctor checks this)"
    )[:400]


def changed_modules(before: Call, now: Call, since: str) -> list[str]:
    """The modules of the user's own whose files differ between two calls, a text each."""
    old, new = (_hashes(call) for call in (before, now))
    if old is None or new is None:
        return []
    return [
        f"{_shown(file)} has changed since {since} (sha256 {digest[:12]} → {new[name][1][:12]})"
        for name, (file, digest) in old.items()
        if name in new and new[name][1] != digest
    ]


def _other_modules(before: Call, now: Call) -> list[str]:
    """The modules of the user's own that only one of two calls has imported, a text each."""
    old, new = (_hashes(call) for call in (before, now))
    if old is None or new is None:
        return []
    found = [f"{_shown(old[name][0])} is no longer imported" for name in old if name not in new]
    return found + [
        f"{_shown(new[name][0])} was not imported then" for name in new if name not in old
    ]


def _hashes(call: Call) -> dict[str, tuple[str, str]] | None:
    """File and hash by module; None if a call has none, or something else."""
    modules = call.get("modules")
    if not isinstance(modules, dict):
        return None
    return {
        str(name): (str(module.get("file")), str(module.get("sha256")))
        for name, module in modules.items()
        if isinstance(module, dict)
    }


def _changed_versions(before: Call, now: Call) -> list[str]:
    """Packages and Python in other versions, a text each."""
    found = []
    old, new = (call.get("packages") for call in (before, now))
    if isinstance(old, dict) and isinstance(new, dict):
        found = [
            f"{_shown(name)} {_shown(old.get(name))} → {_shown(new.get(name))}"
            for name in sorted({*map(str, old), *map(str, new)})
            if old.get(name) != new.get(name)
        ]
    kind = "processor" if isinstance(before.get("processor"), str) else "machine"
    labels = {"python": "Python", kind: "processor", "git_commit": "commit of esd"}
    return found + [
        f"{label} {_shown(before.get(key))} → {_shown(now.get(key))}"
        for key, label in labels.items()
        if before.get(key) != now.get(key)
    ]


def _shown(value: Any) -> str:
    """A value of a file that anyone may have written, short and in one line."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"…{text[-59:]}"


def version(package: str) -> str | None:
    """Of an installed distribution; None if it isn't."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor(place: Path = CPU_INFO) -> str:
    """The model of this machine's processor, or its kind where the system doesn't say."""
    with contextlib.suppress(OSError):
        for line in place.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str | None:
    """The commit of the source that runs, if it runs from a checkout."""
    source = Path(__file__).parent
    try:
        git = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40"]
        output = subprocess.run(git, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return output.stdout.strip() or None


def mpi_library() -> str | None:
    """The MPI library in use, in its own words; None in a process that has not loaded one."""
    mpi = sys.modules.get("mpi4py.MPI")
    return None if mpi is None else str(mpi.Get_library_version()).strip("\0").splitlines()[0]
