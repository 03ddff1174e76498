"""Hooks of MkDocs: pages that are made from the code, and pages of the repository that are not below docs/.

Nothing is written into docs/. A comment such as ``<!-- generated: settings -->`` says where a generated part goes.
"""

from __future__ import annotations

import enum
import inspect
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parent.parent.parent
DOCS = REPOSITORY / "docs"
# pages of the repository by their name on the site
PROJECT = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "report-a-vulnerability.md",
}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")
FENCE = re.compile(r"^(`{3,}).*?^\1\s*$", re.DOTALL | re.MULTILINE)
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".sh": "bash", "": "text"}


# ------------------------------------------------------------------------------------------------ MkDocs calls these


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that mkdocs.yml does not list to its guides."""
    listed = set(_leaves(config.nav))
    (guides,) = (entry["Guides"] for entry in config.nav or () if "Guides" in entry)
    for path in sorted(DOCS.rglob("*.md")):
        name = path.relative_to(DOCS).as_posix()
        if name not in listed:
            guides.append(name)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository, and the source files that pages link to."""
    from mkdocs.structure.files import File

    pages = {path: path.relative_to(DOCS).as_posix() for path in sorted(DOCS.rglob("*.md"))}
    pages.update({REPOSITORY / name: where for name, where in PROJECT.items()})
    sources = {s for path in pages for s in _links(path) if _is_source(s)}
    for name, where in PROJECT.items():
        text = (REPOSITORY / name).read_text("utf-8")
        files.append(File.generated(config, where, content=text))
    for source in sorted(sources):
        files.append(File.generated(config, _page_of(source), content=_source_page(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in what is generated, and turn links that leave docs/ into links to pages of the site."""
    where = page.file.src_uri
    # where the text is in the repository, from which its links are meant
    origin = next((REPOSITORY / n for n, site in PROJECT.items() if site == where), DOCS / where)
    markdown = re.sub(
        r"<!-- generated: (\w+) -->", lambda match: GENERATED[match.group(1)](), markdown
    )
    return _outside_of_fences(markdown, lambda text: _pipes(_relinked(text, origin, where)))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Remove the colons that docstrings have before a block of code."""
    return html.replace("<p>::</p>\n", "")


# ------------------------------------------------------------------------------------------------ links


def _leaves(nav: Any) -> Iterator[str]:
    for entry in nav if isinstance(nav, list) else nav.values():
        if isinstance(entry, str):
            yield entry
        else:
            yield from _leaves(entry)


def _outside_of_fences(markdown: str, change: Any) -> str:
    """Change the text, but not the blocks of code in it."""
    parts, last = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [change(markdown[last : fence.start()]), fence.group()]
        last = fence.end()
    return "".join([*parts, change(markdown[last:])])


def _pipes(text: str) -> str:
    r"""In code within a table GitHub reads ``\|`` as a bar, Python-Markdown reads both signs."""
    return re.sub(r"`[^`\n]+`", lambda match: match.group().replace("\\|", "|"), text)


def _links(page: Path) -> Iterator[Path]:
    """What in the repository a page links to."""
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in LINK.findall(text):
        yield Path(os.path.normpath(page.parent / target))


def _is_source(path: Path) -> bool:
    """Whether the site needs a page for it: it is in the repository, but no page or picture."""
    outside = REPOSITORY in path.parents and DOCS not in path.parents
    return outside and path.name not in PROJECT and path.exists()


def _page_of(source: Path) -> str:
    return f"source/{source.relative_to(REPOSITORY).as_posix()}.md"


def _source_page(path: Path) -> str:
    """A page that shows a file, or lists the files of a folder."""
    name = path.relative_to(REPOSITORY).as_posix()
    title = f"---\nsearch: {{exclude: true}}\n---\n\n# `{name}`\n\n"
    if path.is_dir():
        return title + "".join(f"- `{file.name}`\n" for file in sorted(path.iterdir()))
    language = LANGUAGES.get(path.suffix, "text")
    return f"{title}````{language}\n{path.read_text('utf-8').rstrip()}\n````\n"


def _relinked(text: str, origin: Path, where: str) -> str:
    def on_the_site(match: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin.parent / match.group()))
        if target.name in PROJECT and target.parent == REPOSITORY:
            place = PROJECT[target.name]
        elif _is_source(target):
            place = _page_of(target)
        elif DOCS in target.parents:
            place = target.relative_to(DOCS).as_posix()
        else:
            return match.group()  # MkDocs warns of it
        return os.path.relpath(place, Path(where).parent)

    return LINK.sub(on_the_site, text)


# ------------------------------------------------------------------------------------------------ the reference


SECTIONS = {
    "": ("The run", "Keys at the top of the file."),
    "env": ("`[env]`", "The environment, and how often each member is evaluated in it."),
    "policy": ("`[policy]`", "The network. Each kind has settings of its own."),
    "es": (
        "`[es]`",
        "The evolution strategy. Each algorithm and optimizer has settings of its own.",
    ),
    "variants": ("`[variants]`", "How the results on several variants become one fitness."),
    "objective": ("`[objective]`", "A function in place of an environment and a policy."),
    "run": ("`[run]`", "What a run stores and when it stops. None of these changes the result."),
}


def settings() -> str:
    """Every setting with its default and its text, from the config's own tables."""
    from esd.config.descriptions import describe_settings

    rows: dict[str, list[str]] = {section: [] for section in SECTIONS}
    for name, description in describe_settings().items():
        text, _, default = description.rpartition(" [default: ")
        section = name.partition(".")[0] if "." in name else ""
        cell = f"`{default.removesuffix(']')}`" if default != "]" else "empty"
        rows[section].append(f"| `{name}` | {cell} | {_cell(text)} |")
    parts = []
    for section, (title, text) in SECTIONS.items():
        table = "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows[section]])
        parts.append(f"## {title}\n\n{text}\n\n{table}\n")
    return "\n".join(parts)


def commands() -> str:
    """Usage, arguments and options of every command, from the command line's own definitions."""
    from typer.main import get_command

    from esd.cli import app

    def sections(command: Any, path: str) -> Iterator[str]:
        inner = getattr(command, "commands", {})
        for name, below in inner.items():
            yield from sections(below, f"{path} {name}")
        if not inner:
            yield _command(command, path)

    return "\n".join(sections(get_command(app), "esd"))


def _command(command: Any, path: str) -> str:
    """A section of the page; typer's objects have what click's have, but are not of click's classes."""
    hints = typing.get_type_hints(command.callback)
    rows, arguments = [], []
    for parameter in command.params:
        choices = hints.get(parameter.name)
        is_choice = isinstance(choices, type) and issubclass(choices, enum.Enum)
        value = parameter.metavar or parameter.name.upper()
        if is_choice:
            value = "|".join(choices)
        help_text = parameter.help or ""
        default = parameter.default
        if (
            default not in (None, "", ())
            and not isinstance(default, bool)
            and not callable(default)
        ):
            help_text += f" Default: {default}."
        if parameter.param_type_name == "option":
            names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
            rows.append(
                f"| {names if parameter.is_flag else f'{names} {_code(value)}'} | {_cell(help_text)} |"
            )
        else:
            many = "…" if parameter.nargs != 1 else ""
            arguments.append(f"{value}{many}" if parameter.required else f"[{value}{many}]")
            rows.append(f"| {_code(value)} | {_cell(help_text)} |")
    usage = " ".join([path, "[OPTIONS]", *arguments])
    table = "\n".join(["| argument or option | meaning |", "|---|---|", *rows])
    help_text = inspect.cleandoc(command.help or "").replace("\f", "")
    return f"## `{path}`\n\n{help_text}\n\n```text\n{usage}\n```\n\n{table}\n"


def python() -> str:
    """A directive of mkdocstrings for every public name of esd."""
    import esd

    names = [name for name in esd.__all__ if not name.startswith("_")]
    functions = sorted(name for name in names if name.islower())
    errors = sorted(name for name in names if name.endswith("Error"))
    classes = sorted({*names} - {*functions} - {*errors})
    parts = []
    for title, group in (("Functions", functions), ("Classes", classes), ("Errors", errors)):
        parts += [f"## {title}\n", *(f"::: esd.{name}\n" for name in group)]
    return "\n".join(parts)


def _cell(text: str) -> str:
    """Text in a table: one line, and nothing in it is markup."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|")


GENERATED = {"settings": settings, "commands": commands, "python": python}
