"""Relative links lead to files and headings that exist, on every page of the repository."""

from __future__ import annotations

import re
import urllib.parse

import pytest

from tests.documentation.pages import PAGES, REPOSITORY, prose

LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`[^`\n]*`")


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *#* *$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("\\", "")
        anchor = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = 0
        while anchor + (f"-{number}" if number else "") in found:
            number += 1
        found.add(anchor + (f"-{number}" if number else ""))
    found.update(re.findall(r'(?:id|name)="([^"]+)"', prose(page)))
    return found


def broken(page: str) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for target in LINK.findall(CODE.sub("``", prose(page))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = ((REPOSITORY / page).parent / urllib.parse.unquote(name)).resolve()
        here = path if name else REPOSITORY / page
        if not here.exists():
            wrong.append(f"{target}: no such file")
        elif anchor and here.suffix == ".md":
            other = here.relative_to(REPOSITORY).as_posix()
            if urllib.parse.unquote(anchor) not in anchors(other):
                wrong.append(f"{target}: no such heading")
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_to_a_file_and_a_heading(page: str) -> None:
    assert not broken(page)


def test_all_markdown_files_of_the_repository_are_looked_at() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/train.md", "docs/launch/slurm.md"} <= {*PAGES}
    assert "docs/tutorials/first-run.md" in PAGES


def test_links_are_found() -> None:
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) > 200
    assert "one-word-one-meaning" in anchors("CONTRIBUTING.md")


@pytest.mark.parametrize("page", PAGES)
def test_pictures_have_a_text_for_those_who_cannot_see_them(page: str) -> None:
    for text in re.findall(r"!\[([^\]]*)\]\(", prose(page)):
        assert len(text) > 10, page
