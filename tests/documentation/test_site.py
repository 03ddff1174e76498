"""The documentation site: it builds without a warning, loads nothing from elsewhere, and its reference is complete."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import esd
from esd.config.descriptions import describe_settings
from tests.documentation.pages import PAGES, REPOSITORY, prose
from tests.helpers.shell import environment

FIGURES = sorted((REPOSITORY / "docs/figures").glob("concept-*.svg"))


def hooks() -> ModuleType:
    """The hooks of MkDocs, which need no MkDocs for what they generate."""
    path = REPOSITORY / "docs/site/pages.py"
    spec = importlib.util.spec_from_file_location("site_pages", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    for name in ("mkdocs", "material", "mkdocstrings"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}: pip install 'esd-mpi[docs]'")
    folder = tmp_path_factory.mktemp("site")
    paths = [
        environment()["PYTHONPATH"],
        *filter(None, sys.path),
    ]  # also what is installed elsewhere
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env=environment(PYTHONPATH=os.pathsep.join(paths), NO_MKDOCS_2_WARNING="1"),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.xdist_group("site")
def test_the_site_builds_without_a_warning_and_has_every_page_of_docs(site: Path) -> None:
    for page in PAGES:
        if page.startswith("docs/"):
            assert (site / page.removeprefix("docs/")).with_suffix(".html").exists(), page
    for page in (
        "index",
        "contributing",
        "changelog",
        "report-a-vulnerability",
        "source/esd/config/kinds.py",
    ):
        assert (site / f"{page}.html").exists(), page


@pytest.mark.xdist_group("site")
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]*src=\"(https?:[^\"]+)|<link[^>]*rel=\"(?:stylesheet|preconnect)\"[^>]*href=\"(https?:[^\"]+)"
    )
    for page in site.rglob("*.html"):
        assert not loaded.findall(page.read_text("utf-8")), page


@pytest.mark.xdist_group("site")
def test_the_python_reference_has_every_public_name(site: Path) -> None:
    text = (site / "reference/python.html").read_text("utf-8")
    for name in esd.__all__:
        if not name.startswith("_"):
            assert f'id="esd.{name}"' in text, name
    assert "in your own loop" in text  # of a docstring


def test_the_reference_has_every_setting_with_its_default() -> None:
    text = hooks().settings()
    for name, description in describe_settings().items():
        (row,) = re.findall(rf"^\| `{re.escape(name)}` \|.*$", text, re.MULTILINE)
        default = description.rpartition(" [default: ")[2].removesuffix("]")
        assert (f"| `{default}` |" if default else "| empty |") in row
    assert "| `es.sigma` |" in text


def test_the_reference_has_every_command_with_its_options() -> None:
    from typer.main import get_command

    from esd.cli import app

    text = hooks().commands()
    groups = {"esd": get_command(app)}
    while groups:
        path, command = groups.popitem()
        inner = getattr(command, "commands", None)
        if inner:
            groups.update({f"{path} {name}": below for name, below in inner.items()})
            continue
        section = text[text.index(f"## `{path}`\n") :].partition("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
                assert f"`{parameter.opts[0]}`" in section, (path, parameter.opts)


def test_the_errors_of_the_questions_page_are_messages_of_the_code() -> None:
    theirs = ("There are not enough slots", "mpirun has detected an attempt to run as root")
    headings = re.findall(r"^### `(.*)$", prose("docs/faq.md"), re.MULTILINE)
    parts = [part for heading in headings for part in re.findall(r"`?([^`…]+)`", heading)]
    texts = "\n".join(
        node.value
        for path in (REPOSITORY / "esd").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    assert len(parts) > 18
    for part in parts:
        assert part in texts or part.startswith(theirs), part


@pytest.mark.parametrize("figure", FIGURES, ids=lambda path: path.stem)
def test_a_picture_of_a_concept_has_colors_for_dark_pages_and_loads_nothing(figure: Path) -> None:
    text = figure.read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    assert not re.findall(r"(?:href|src)=\"(?!#)", text)
    changed = set(re.findall(r"\[style\*=\"(?:fill|stroke): (#\w{6})\"\]", text))
    used = set(re.findall(r"style=\"[^\"]*(?:fill|stroke): (#\w{6})", text))
    assert {"#1f2328", "#fffffe"} <= used & changed
    assert "#ffffff" not in used
    assert "#000000" not in used
    assert f"figures/{figure.name}" in "".join(prose(p) for p in PAGES if "concepts" in p)
