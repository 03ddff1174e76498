"""Shell completion: what may follow on the command line, for bash, zsh and fish.

typer asks for it (``esd --install-completion`` installs its script in a shell) and knows commands and options. Here are
the values: experiments, settings, runs, environments. Nothing of a run is imported.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shlex
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path

INSTALL = "--install-completion"
COMPLETE = "_ESD_COMPLETE"  # set by the shells' scripts: what typer has to do
_BASH_WORDS, _BASH_INDEX = "COMP_WORDS", "COMP_CWORD"
_LINE = "_TYPER_COMPLETE_ARGS"  # of zsh and fish
_MOST_NAMES = 2000  # looked at in a folder
_HINT_CHARACTERS = 60
_SEPARATE = "=:"  # bash makes words of their own of these

Candidate = str | tuple[str, str]


def experiments(incomplete: str) -> list[Candidate]:
    """Shipped experiments with their descriptions, and TOML files."""
    from esd.config.experiment_files import experiment_names, first_comment

    shipped = [name for name in experiment_names() if name.startswith(incomplete)]
    return [*((name, _hint(first_comment(name))) for name in shipped), *_toml_files(incomplete)]


def runs(incomplete: str) -> list[Candidate]:
    """Folders of runs, at most one level below the folder that has been typed."""
    return [(path, "run") for path in _below(incomplete)]


def groups(incomplete: str) -> list[Candidate]:
    """Runs behind NAME= and commas, as in ``hebbian=runs/a,runs/b``."""
    begun = max(incomplete.rfind("="), incomplete.rfind(",")) + 1
    if "=" not in incomplete:
        return []
    return [(incomplete[:begun] + path, "run") for path in _below(incomplete[begun:])]


def runs_or_groups(incomplete: str) -> list[Candidate]:
    """Runs, with or without NAME= in front; the name of a run's folder may have an equals sign itself."""
    return runs(incomplete) or groups(incomplete)


def experiments_and_runs(incomplete: str) -> list[Candidate]:
    """Both."""
    return [*experiments(incomplete), *runs(incomplete)]


def settings(incomplete: str) -> list[Candidate]:
    """Settings as ``KEY=``; once the key is known its possible values or its default."""
    return _settings(incomplete, ())


def settings_of_episodes(incomplete: str) -> list[Candidate]:
    """The same of [env] and [policy] alone."""
    return _settings(incomplete, ("env.", "policy."))


def environments(incomplete: str) -> list[Candidate]:
    """Ids of registered environments."""
    import gymnasium

    from esd.episodes.registration import register_installed

    register_installed()
    return [name for name in sorted(gymnasium.registry) if name.startswith(incomplete)]


def _settings(incomplete: str, sections: tuple[str, ...]) -> list[Candidate]:
    from esd.config.descriptions import settings_by_key

    every = settings_by_key()
    flat = {k: d for k, d in every.items() if not sections or k.startswith(sections)}
    keys = [key for key in flat if f"{key}=".startswith(incomplete)]
    known = incomplete.partition("=")[0] if "=" in incomplete else keys[0] if len(keys) == 1 else ""
    if known not in flat:
        return [(f"{key}=", _hint(flat[key].text)) for key in keys]
    described = flat[known]
    values = _ids(known, incomplete) or described.choices
    if not values and described.default not in ("", "unset"):
        values = (described.default,)
    if "=" not in incomplete:  # at least two: behind a single one bash and zsh would add a space
        values = ("", *(values or ("VALUE",)))
    found = [(f"{known}={value}", _hint(described.text)) for value in values]
    return [candidate for candidate in found if candidate[0].startswith(incomplete)]


def _ids(key: str, incomplete: str) -> tuple[str, ...]:
    """The ids that ``env.id`` may have; nothing for other keys."""
    if key != "env.id" or "=" not in incomplete:  # Gymnasium takes a while
        return ()
    return tuple(str(name) for name in environments(incomplete.partition("=")[2]))


def _hint(text: str) -> str:
    """What fits beside a candidate, without what typer would take for markup."""
    text = text.partition(" [default")[0].replace("[", "(").replace("]", ")")
    return text if len(text) <= _HINT_CHARACTERS else f"{text[: _HINT_CHARACTERS - 1].rstrip()}…"


def _toml_files(incomplete: str) -> Iterator[str]:
    folder, begun = _cut(incomplete)
    for name in _names(folder):
        if name.startswith(begun) and name.endswith(".toml"):
            yield folder + name


def _below(incomplete: str) -> Iterator[str]:
    """Runs whose paths begin so."""
    folder, begun = _cut(incomplete)
    for name in _names(folder):
        if not name.startswith(begun) or (name.startswith(".") and not begun):
            continue
        path = folder + name
        if _is_run(path):
            yield path
        else:
            inner = (f"{path}/{below}" for below in _names(f"{path}/"))
            yield from filter(_is_run, inner)


def _cut(incomplete: str) -> tuple[str, str]:
    """The folder that has been typed, with its slash, and the beginning of a name in it."""
    folder, slash, begun = incomplete.rpartition("/")
    return folder + slash, begun


def _is_run(path: str) -> bool:
    return (Path(path).expanduser() / "config.toml").is_file()


def _names(folder: str) -> list[str]:
    """The names in a folder, sorted; none if it can't be read."""
    with contextlib.suppress(OSError, RuntimeError), os.scandir(Path(folder).expanduser()) as found:
        return sorted(entry.name for entry in itertools.islice(found, _MOST_NAMES))
    return []


def prepare(environment: MutableMapping[str, str]) -> str:
    """Repair what a shell says of its line, in place.

    bash cuts words at = and :, and what follows ``esd launch … train`` is completed as after ``esd train``.

    Returns:
        What bash will not replace of the word that is completed, and so must not be repeated before a candidate.
    """
    kept = ""
    if _BASH_WORDS in environment and environment.get(_BASH_INDEX, "").isdigit():
        words, index = environment[_BASH_WORDS].split("\n"), int(environment[_BASH_INDEX])
        words = words[: index + 1]
        words += [""] * (index + 1 - len(words))
        words, kept = _joined(words)
        words = _without_launch(words)
        environment[_BASH_WORDS] = "\n".join(words)
        environment[_BASH_INDEX] = str(len(words) - 1)
    if _LINE in environment:
        with contextlib.suppress(ValueError):
            words = shlex.split(environment[_LINE])
            words += [""] if environment[_LINE].endswith(" ") else []
            shorter = _without_launch(words)
            if shorter != words:
                environment[_LINE] = " ".join(shlex.quote(word) if word else "" for word in shorter)
    return kept


def _joined(words: list[str]) -> tuple[list[str], str]:
    """Words as they were typed, and what stands before the last piece of the last one."""
    whole: list[str] = []
    last, begun = "", False  # the last piece; whether the next one continues the word
    for word in words:
        separates = bool(word) and set(word) <= set(_SEPARATE)
        if len(whole) > 1 and (separates or (begun and word)):
            whole[-1] += word
            last = "" if separates else word
        else:
            whole.append(word)
            last = word
        begun = separates
    return whole, whole[-1].removesuffix(last) if last else whole[-1]


def _without_launch(words: list[str]) -> list[str]:
    """``esd launch -n 4 train …`` as ``esd train …``, once the word train is there."""
    if words[1:2] == ["launch"] and "train" in words[2:-1]:
        return [words[0], *words[words.index("train") :]]
    return words


def complete(app: Callable[[], object]) -> None:
    """Let typer print the candidates, as the shell that asks needs them."""
    kept = prepare(os.environ)
    printed = io.StringIO()
    nowhere = (
        io.StringIO()
    )  # warnings, and an error of ours: nothing may be written into the line that is typed
    try:
        with (
            contextlib.suppress(Exception),
            contextlib.redirect_stderr(nowhere),
            contextlib.redirect_stdout(printed),
        ):
            app()
    finally:
        for line in printed.getvalue().splitlines():
            print(line.removeprefix(kept))
