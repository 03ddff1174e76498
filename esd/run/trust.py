"""Whether the code that a run's settings name may be imported: docs/security.md has the rules.

A run that was created here by this user is trusted with what it was created with; any other only if the user says so.
Names of esd and of installed packages need no trust, as long as they stand for what the setting is for: a folder from
elsewhere shall not choose which function of Python's library is called with which arguments.
"""

from __future__ import annotations

import enum
import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from esd.config.installed import Place, is_installed, place_of
from esd.config.nearby import look_near, where_it_lies
from esd.config.references import ENVIRONMENTS, KINDS, WRAPPERS, Reference, references_in
from esd.config.unimported import is_of_a_missing_package
from esd.errors import UntrustedError, shortened, shown
from esd.policies.guard import PARTS
from esd.policies.kind import PolicyKind
from esd.run import made_here

VARIABLE = "ESD_TRUST"  # in the environment: as --trust
MOST_NAMED = 3  # in a message
WHOLE_FILE = "sha256"  # stands for a setting in what is remembered of a file of ``esd export``
PARTS_OF_AN_OPTIMIZER = ("moment_names", "initial_scalars", "step")


Run = tuple[Path, Path, str]  # as ``require_trust`` has it: run, journal, sha256


class Trust(enum.Enum):
    """Whether code that is not of an installed package may be imported for a run.

    Attributes:
        NEVER: not for this command, whoever created the run.
        ASK: if the run was created here by this user.
        YES: the user has said so, or it was asked before.
    """

    NEVER = "never"
    ASK = "ask"
    YES = "yes"


def trust_of(flag: bool) -> Trust:
    """What ``--trust``, or ``trust=True`` in Python, means."""
    return Trust.YES if flag else Trust.ASK


def is_trusted_by_environment() -> bool:
    """Whether ``ESD_TRUST`` is set: for jobs whose command line can't be changed."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def require_trust(
    run: Path,
    journal: Path,
    table: Mapping[str, Any],
    given: Collection[Reference] = (),
    sha256: str = "",
) -> None:
    """Make sure that what a run's settings name may be imported; of what isn't installed nothing was before.

    Args:
        run: the run's folder, for messages.
        journal: the run's.
        table: its settings, as TOML gives them.
        given: what the user's own command line, or their own experiment's file, names.
        sha256: of the file of ``esd export`` that stands in the journal's place; empty if it is a journal.

    Raises:
        UntrustedError: naming what would be imported, and from where.
    """
    if not is_trusted_by_environment():
        _require_memory(run, journal, table, given, sha256)


def _require_memory(
    run: Path, journal: Path, table: Mapping[str, Any], given: Collection[Reference], sha256: str
) -> None:
    """See ``require_trust``; ``ESD_TRUST`` makes no difference."""
    asked = [reference for reference in references_in(table) if reference not in given]
    for outside in (_not_installed(asked), _not_of_their_kind(asked)):
        found = list(outside)
        if not found:
            continue
        known = made_here.remembered(journal)
        if sha256 and [WHOLE_FILE, sha256, ""] not in known:
            known = []
        unknown = [(ref, why) for ref, why, place in found if not _is_known(ref, place, known)]
        absent = [
            r for r, _, place in found if r.module and not place.folders and _was_named(r, known)
        ]
        if unknown and len(absent) == len(unknown):
            raise UntrustedError(_not_found(run, absent[0], known))
        if unknown:
            raise UntrustedError(_message(run, unknown))


def remember(run: Path, journal: Path, table: Mapping[str, Any]) -> bool:
    """Remember that this user trains a run here, with what its settings name.

    Args:
        run: the run's folder.
        journal: the run's.
        table: its settings.

    Returns:
        False if there was something to remember and no place for it.
    """
    references = references_in(table)
    rows = [_row(reference, place_of(reference.module)) for reference in references]
    if not rows or made_here.remember(journal, rows, run):
        return True
    return not any(True for each in (_not_installed, _not_of_their_kind) for _ in each(references))


def remember_exported(file: Path, sha256: str, run: Run, table: Mapping[str, Any]) -> bool:
    """Remember that ``esd export`` has written a file here, if the run in it was itself created here.

    Args:
        file: that was written.
        sha256: of its contents.
        run: what was exported: its path for messages, its journal or file, and the sha256 of a file.
        table: its settings.

    Returns:
        False if there was something to remember and no place for it.
    """
    references = references_in(table)
    try:
        _require_memory(run[0], run[1], table, (), run[2])
    except UntrustedError:  # --trust, which was for that one command
        return True
    rows = [_row(reference, place_of(reference.module)) for reference in references]
    return not rows or made_here.remember(file, [*rows, [WHOLE_FILE, sha256, ""]], file)


def names_foreign_code(table: Mapping[str, Any], section: str) -> list[Reference]:
    """What a section, such as "policy", names that is neither esd's nor offered by an installed package by its name."""
    own = table.get(section, {})
    named = references_in({section: own})
    found = [
        reference
        for reference in named
        if reference.module and (":" in reference.text or not is_installed(reference.module))
    ]
    for setting in KINDS:
        of, _, key = setting.partition(".")
        if of == section and key in own and is_of_a_missing_package(setting, own[key]):
            found.append(Reference(setting, own[key]))
    return found


Found = tuple[Reference, str, Place]


def _not_installed(references: list[Reference]) -> Iterator[Found]:
    """What is not of an installed package, with where it is, in words."""
    for reference in references:
        if reference.module:
            place = place_of(reference.module)
            if not place.installed:
                module = shortened(repr(reference.module.partition(".")[0]), 60)
                where = shortened(place.file, 150) or f"not found from {shortened(_here(), 150)}"
                lies = "" if place.file else where_it_lies(reference.module)
                where += f"; {lies}" if lies else ""
                yield reference, f"module {module}, {where}", place
        elif not reference.names_code and reference.may_name_a_file_or_code:
            yield reference, "an argument that may name a file or a module", Place(False)


def _not_of_their_kind(references: list[Reference]) -> Iterator[Found]:
    """What an installed package has, but is something else than what the setting is for."""
    for reference in references:
        place = place_of(reference.module) if reference.module else None
        if place is None or not place.installed or _is_of_its_kind(reference):
            continue
        yield reference, f"{_expected(reference.setting)}", place


def _is_of_its_kind(reference: Reference) -> bool:
    """Whether ``module:Name`` of an installed package is what its setting is for; imports that package."""
    setting, text = reference.setting, reference.text
    if setting in KINDS and text in KINDS[setting].installed:
        return True  # a package offers it for this
    module, _, name = text.partition(":")
    if setting == "objective.function" or module.partition(".")[0] in sys.stdlib_module_names:
        return False
    try:
        imported = importlib.import_module(module)
        found = getattr(imported, name, None)
        if setting in ENVIRONMENTS:
            return _is_environment(name, found)
        return _fits(setting, found)
    except Exception:  # of their import; whoever trusts the run is told
        return False


def _is_environment(name: str, found: Any) -> bool:
    import gymnasium

    registered = any(id == name or id.startswith(f"{name}-v") for id in gymnasium.registry)
    return registered or (isinstance(found, type) and issubclass(found, gymnasium.Env))


def _fits(setting: str, found: Any) -> bool:
    """Whether an object is what a setting other than ``env.id`` is for."""
    if setting in WRAPPERS:
        import gymnasium

        return isinstance(found, type) and issubclass(found, gymnasium.Wrapper)
    if setting == "es.algorithm":
        from esd.evolution.algorithm import AlgorithmKind

        return isinstance(found, AlgorithmKind)
    if not isinstance(found, type):
        return setting == "policy.kind" and isinstance(found, PolicyKind)
    if setting == "es.optimizer":
        return all(hasattr(found, part) for part in PARTS_OF_AN_OPTIMIZER)
    torch = sys.modules.get("torch")
    if torch is not None and issubclass(found, torch.nn.Module):
        return True
    return all(hasattr(found, part) for part in PARTS if part not in ("layout", "squashed"))


def _expected(setting: str) -> str:
    """What a name of an installed package is not, in words."""
    if setting == "objective.function":
        return "a function of an installed package with arguments from this run"
    kinds = {
        "policy.kind": "a policy",
        "es.algorithm": "an algorithm",
        "es.optimizer": "an optimizer",
    }
    what = kinds.get(setting, "a Gymnasium wrapper" if setting in WRAPPERS else "an environment")
    return f"not {what} of an installed package"


def _row(reference: Reference, place: Place) -> list[str]:
    """A reference as it is remembered: code with the folders it is found in, so that no other folder has a namesake."""
    folders = os.pathsep.join(place.folders) if reference.module else ""
    return [reference.setting, reference.text, folders]


def _is_known(reference: Reference, place: Place, known: list[list[str]]) -> bool:
    """Whether a reference is remembered; of a module that this process has imported the folder doesn't matter."""
    row = _row(reference, place)
    if reference.module.partition(".")[0] in sys.modules:
        return any(row[:2] == each[:2] for each in known)
    return row in known


def _was_named(reference: Reference, known: list[list[str]]) -> bool:
    """Whether a reference is remembered, wherever its module was."""
    return any([reference.setting, reference.text] == row[:2] for row in known)


def _not_found(run: Path, reference: Reference, known: list[list[str]]) -> str:
    """What is said of a run of this user's whose module is not found from here."""
    for row in known:
        if row[:2] == [reference.setting, reference.text] and len(row) > 2:
            for folder in filter(None, str(row[2]).split(os.pathsep)):
                look_near(Path(folder))
    module = shortened(repr(reference.module), 60)
    lies = where_it_lies(reference.module) or (
        f"run the command in the folder that holds {shortened(reference.module, 60)}.py, or set PYTHONPATH"
    )
    return (
        f"{shortened(str(run), 150)}: {reference.setting} = {shown(reference.text)}: module {module} is not found from "
        f"{shortened(_here(), 150)}: {lies}"
    )


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a working directory that was removed"


def _message(run: Path, unknown: list[tuple[Reference, str]]) -> str:
    named = [f"{ref.setting} = {shown(ref.text)} ({why})" for ref, why in unknown[:MOST_NAMED]]
    more = len(unknown) - MOST_NAMED
    text = "; ".join(named) + (f"; and {more} more" if more > 0 else "")
    return (
        f"{shortened(str(run), 150)}: was not created here and would run this code: {text}. If you trust the "
        "authors of the run and of this code, add --trust (in Python: trust=True)"
    )
