"""``esd list`` as people see it: sections that fit 80 columns, each name with what it is."""

from __future__ import annotations

import pytest

from esd.commands.list import list_names
from esd.commands.names import HEADINGS, Topic, names_of
from esd.commands.sections import print_sections
from esd.config.kinds import OPTIMIZERS


def listed(topic: Topic | None, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints."""
    import typer

    with pytest.raises(typer.Exit) as ending:
        list_names(topic)
    assert ending.value.exit_code == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.mark.parametrize("columns", ["80", "120"])
def test_every_topic_fits_the_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for topic in (None, *Topic):
        for line in listed(topic, capsys).splitlines():
            assert len(line) <= int(columns), line
            assert line == line.rstrip()


def test_the_overview_has_all_sections_but_the_longest(capsys: pytest.CaptureFixture[str]) -> None:
    shown = listed(None, capsys)
    for topic, heading in HEADINGS.items():
        assert (f"{heading}\n" in shown) == (topic is not Topic.SETTINGS)
    assert "esd/HiddenCartPole-v0" in shown
    assert "Acrobot-v1" not in shown
    assert "esd list environments shows" in shown.splitlines()[-1]


def test_every_built_in_name_says_what_it_is() -> None:
    for topic in Topic:
        names = names_of(topic)
        assert names
        for name, text in names.items():
            if topic is not Topic.ENVIRONMENTS or name.startswith("esd/"):
                assert len(text) > 4, name
                assert "``" not in text


def test_rules_are_formulas() -> None:
    rules = names_of(Topic.RULES)
    assert rules["AD"] == "Δw = A·xy + D"
    assert rules["ABCD_lr_D_in_and_out"] == "Δw = η(A·xy + B·x + C·y + D) + D_out"


def test_a_broken_package_is_named_and_the_others_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from importlib.metadata import EntryPoint

    broken = {"broken": EntryPoint("broken", "nowhere:X", "esd.optimizers")}
    monkeypatch.setitem(vars(OPTIMIZERS), "installed", broken)
    found = names_of(Topic.OPTIMIZERS)
    assert "nowhere:X can't be imported" in found["broken"]
    assert found["adam"].startswith("Adam")


def test_color_is_for_terminals_and_not_with_no_color(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = {"A heading": {"a name": "its [text], not markup"}}
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_sections(sections)
    plain = capsys.readouterr().out
    assert plain == "A heading\n\n  a name  its [text], not markup\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_sections(sections)
    assert "\x1b[36m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    print_sections(sections)
    assert "\x1b[36m" not in capsys.readouterr().out
