"""Blocks of code on all pages: Python compiles and its imports resolve, TOML and command lines fit esd."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from esd.cli import app
from esd.config.descriptions import describe_settings
from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.tables import apply_settings, flatten, parse
from esd.errors import EsdError
from esd.launching.site import read_site
from esd.run.trust import names_foreign_code
from tests.documentation.pages import BLOCKS, PAGES, SHELL, Block, commands, of_esd, prose

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
OPTIONAL = {"torch", "optuna", "evosax", "evotorch", "matplotlib", "onnxruntime"}
SECTIONS = {name.partition(".")[0] for name in describe_settings()} | {"policy", "extends"}
SETTINGS = {re.sub(r"<\w[^>]*>\.", "", name) for name in describe_settings()} | {"policy.kind"}
PLACEHOLDER = re.compile(r"[A-Z_]+(\.toml)?|.*…")


def of_language(*languages: str) -> list[Any]:
    return [pytest.param(b, id=str(b)) for b in BLOCKS if b.language in languages]


# ------------------------------------------------------------------------------------------------ Python


@pytest.mark.parametrize("block", of_language("python"))
def test_python_compiles_and_what_it_imports_exists(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    own = {Path(b.name).stem for b in BLOCKS if b.page == block.page}
    modules: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                if top not in own and known(top):
                    module = importlib.import_module(alias.name)
                    modules[alias.asname or top] = (
                        module if alias.asname else importlib.import_module(top)
                    )
        elif isinstance(node, ast.ImportFrom) and node.module:
            top = node.module.partition(".")[0]
            names = [alias.name for alias in node.names] if top not in own and known(top) else []
            for name in names:
                if not hasattr(importlib.import_module(node.module), name):
                    importlib.import_module(f"{node.module}.{name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = modules.get(node.value.id)
            assert owner is None or hasattr(owner, node.attr), f"{node.value.id}.{node.attr}"


def known(module: str) -> bool:
    """Whether a module has to be here; those that are optional take long to import, or may be missing."""
    assert module in OPTIONAL or importlib.util.find_spec(module), module
    return module not in OPTIONAL


# ------------------------------------------------------------------------------------------------ TOML


def check_settings(table: dict[str, Any], name: str) -> None:
    """Parse them without the code that they name; plain names have to be known."""
    parse(table, name, importing=False)
    for section in ("policy", "es"):
        assert [r.text for r in names_foreign_code(table, section) if not r.module] == []


@pytest.mark.parametrize("block", of_language("toml"))
def test_toml_is_an_experiment_or_another_file_that_esd_reads(block: Block, tmp_path: Path) -> None:
    table = tomllib.loads(block.text)
    file = tmp_path / "block.toml"
    file.write_text(block.text)
    if {*table} <= SECTIONS:
        name, merged = read_experiment(str(file))
        check_settings(merged, name)
    elif {*table} == {"project"}:
        assert all(group.startswith("esd.") for group in table["project"]["entry-points"])
    else:
        read_site(file)


# ------------------------------------------------------------------------------------------------ command lines


def check_call(words: list[str], files: dict[str, str], folder: Path) -> None:
    """Parse a call of esd as the command line does, and check the experiment and the settings that it names."""
    if words[0].startswith("--"):
        assert words[0] in ("--version", "--help")
        return
    assert words[0] in COMMANDS, f"no command {words[0]}"
    command, rest = COMMANDS[words[0]], words[1:]
    if hasattr(command, "commands"):
        assert rest[0] in command.commands, f"no command {words[0]} {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    given = command.make_context("esd", [*rest]).params
    if words[0] == "launch":
        check_call(rest[rest.index("train") :], files, folder)
    settings = list(given.get("settings") or ())
    if words[0] in ("train", "submit"):
        experiment = given.get("experiment") or "cartpole"
        if experiment in files:
            (folder / experiment).write_text(files[experiment])
            experiment = str(folder / experiment)
        if experiment in experiment_names() or Path(experiment).exists():
            name, table = read_experiment(experiment)
            check_settings(apply_settings(table, settings), name)
            return
        assert experiment.endswith(".toml") or PLACEHOLDER.fullmatch(experiment), experiment
    for key in flatten(apply_settings({}, settings)):
        assert known_setting(key), key


def known_setting(key: str) -> bool:
    """Whether there is such a setting; below kwargs, parameters and the like anything is allowed."""
    return any(key == name or key.startswith(f"{name}.") for name in SETTINGS)


@pytest.mark.parametrize("block", of_language(*SHELL))
def test_every_call_of_esd_in_a_shell_block_is_right(block: Block, tmp_path: Path) -> None:
    files = {b.name: b.text for b in BLOCKS if b.page == block.page and b.name}
    called = [words for words in map(of_esd, commands(block.text, tmp_path)) if words]
    lines = re.sub(r"(^|\s)#.*", "", block.text)
    assert bool(called) == bool(re.search(r"(?<!-t )\besd [a-z-]", lines))
    for words in called:
        try:
            check_call(words, files, tmp_path)
        except (Exception, SystemExit) as error:
            pytest.fail(f"{block}: esd {' '.join(words)}: {error}")


@pytest.mark.parametrize(
    "wrong",
    [
        "esd trian cartpole",
        "esd train cartpol",
        "esd train cartpole --sett seed=1",
        "esd train cartpole --set es.sigm=0.1",
        "for s in 1 2; do mpirun -n 2 esd train cartpole --set sed=$s; done",
        "esd launch -n 2 train cartpole --set population=3",
        "esd compare --by seed a=b",
        "esd eval runs/x --set envs.id=A",
    ],
)
def test_a_wrong_call_would_be_noticed(wrong: str, tmp_path: Path) -> None:
    words = of_esd(commands(wrong, tmp_path)[0])
    assert words
    with pytest.raises((Exception, SystemExit)):
        check_call(words, {}, tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_in_a_text_exists(page: str) -> None:
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        found = re.search(r"(?:^|\s)esd ([a-z]+)(?: ([a-z]+))?(.*)", code)
        if found is None or page == "CHANGELOG.md":  # which names what was there once
            continue
        command, inner, rest = found.groups()
        assert (command, inner) != ("report", "compare"), f"{page}: it is esd compare"
        rest = re.sub(r" -- .*", "", rest)  # options of mpirun
        assert command in COMMANDS, f"{page}: {code}"
        chosen = COMMANDS[command]
        if hasattr(chosen, "commands") and inner:
            assert inner in chosen.commands, f"{page}: {code}"
            chosen = chosen.commands[inner]
        options = {name for parameter in chosen.params for name in parameter.opts}
        if command in ("launch", "submit"):  # which pass on what follows
            options |= {name for parameter in COMMANDS["train"].params for name in parameter.opts}
        used = {word.partition("=")[0] for word in re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)}
        assert used <= {*options, "--help"}, f"{page}: {code}"


def test_calls_of_esd_are_in_blocks_that_say_so() -> None:
    for block in BLOCKS:
        if block.language not in SHELL:
            assert not re.search(r"^(esd|mpirun) ", block.text, re.MULTILINE), str(block)


def test_what_a_setting_accepts_is_checked(tmp_path: Path) -> None:
    with pytest.raises(EsdError):
        check_call(["train", "cartpole", "--set", "population=7"], {}, tmp_path)
