"""Only regular files of bounded size are read, and TOML and JSON of bounded depth; anything else is one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from esd.config.tables import apply_settings, parse
from esd.errors import EsdError, UsageError, one_line, shown
from esd.reading import parse_json, parse_toml, read_bytes, read_json, read_text, read_toml


def refused(error: pytest.ExceptionInfo[UsageError], *words: str) -> None:
    text = str(error.value)
    assert len(text) <= 1_000
    assert text.isprintable()
    for word in words:
        assert word in text


def test_a_pipe_a_device_a_folder_and_a_link_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x = 1")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "zero").symlink_to("/dev/zero")
    start = time.monotonic()
    for name, words in (
        ("pipe", "a named pipe"),
        ("folder", "a folder"),
        ("link", "a symbolic link; replace it with the file that it points to"),
        ("zero", "a symbolic link"),
    ):
        with pytest.raises(UsageError) as error:
            read_toml(tmp_path / name)
        refused(error, name, words)
    with pytest.raises(UsageError) as error:
        read_toml(tmp_path / "zero", follow=True)
    refused(error, "zero", "a device")
    assert read_toml(tmp_path / "link", follow=True) == {"x": 1}
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "missing")
    assert time.monotonic() - start < 2.0


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(UsageError) as error:
        read_toml(path)
    refused(error, "1,000,000,000,000 bytes", "at most 1,000,000")
    path.write_bytes(bytes(11))
    assert read_bytes(path, 11) == bytes(11)
    with pytest.raises(UsageError):
        read_bytes(path, 10)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"ab\xff")
    with pytest.raises(UsageError, match=r"x\.json: not UTF-8 text \(byte 2\)$"):
        read_text(path, 100)


DEEP = 10_000


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * DEEP + "]" * DEEP,
        "a = " + "{a=" * DEEP,
        "".join(f"[{'a.' * 15}a{i}]\n" for i in range(3)) + f"[{'a.' * 100_000}a]",
        "a." * 100_000 + "a = 1",
        "a = " + "9" * 10_000,
        "a = '''" * 1_000,
        '"' * 999_999,
        'a = """' + '\\"' * 400_000 + "\\",
        "[[a]]\n" * 100_000,
        "x" * 1_000_001,
        "a = 1\na = 2",
        "a = " + "{b = " * 20 + "[" * 20,
    ],
    ids=lambda text: text[:12],
)
def test_hostile_toml_is_refused_in_seconds(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(UsageError) as error:
        parse(parse_toml(text, "x.toml"), "x.toml")
    refused(error, "x.toml")
    assert time.monotonic() - start < 20.0  # most of it on a busy machine


def test_ordinary_toml_is_read_as_it_is() -> None:
    text = '''
    # a sentence. And more. And more. And more. And more. And more. And more. And more. And more. And more. [[[
    a.b.c = [[1, 2.5], [3, 4.5]]
    s = "…[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a \\" {{"
    t = """
    a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"" [[["""
    n = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0]
    '''
    table = parse_toml(text, "x")
    assert table["a"] == {"b": {"c": [[1, 2.5], [3, 4.5]]}}
    assert len(table["n"]) == 20


def test_hostile_json_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("[" * 100_000, '{"a":' * 100_000, "9" * 10_000, "{", "[" * 40 + "]" * 40):
        path.write_text(text)
        with pytest.raises(UsageError) as error:
            read_json(path, 1_000_000)
        refused(error, "x.json: not valid JSON")
    assert parse_json('{"a": [NaN, -Infinity, 18446744073709551615]}') == {
        "a": [None, None, 2**64 - 1]
    }


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("population=1" + "0" * 30, "a whole number of 31 digits: expected a whole number of 64 bits"),
        ("es.sigma=1" + "0" * 400, "es.sigma = a whole number of 401 digits"),
        ("policy.hidden=[1" + "0" * 400 + "]", "policy.hidden = a whole number of 401 digits"),
        ("env.kwargs.x=0x" + "f" * 20_000, "env.kwargs.x = a whole number of 24083 digits"),
        ("a." * 100 + "a=1", "the key has 101 parts, expected at most 16"),
        ("env.kwargs.a=" + "[" * 33 + "]" * 33, "nested more than 32 levels deep"),
        ("env.id=" + "x" * 100_000, None),
        ("x" * 100_000 + "=1", "unknown key"),
        ("policy.kind=" + "x" * 100_000, "policy.kind = 'xxx"),
        ("es.optimizer=" + "x" * 100_000, "es.optimizer = 'xxx"),
        ("env.id=\x1b[2J\n", None),
    ],
)  # fmt: skip
def test_a_value_that_no_setting_can_be_is_named_in_one_line(
    words: str, expected: str | None
) -> None:
    if expected is None:
        assert parse(apply_settings({}, [words]), "--set")
        return
    with pytest.raises(UsageError) as error:
        parse(apply_settings({}, [words]), "--set")
    refused(error, expected)


def test_of_many_problems_the_first_are_named() -> None:
    table = {f"unknown_{n}": n for n in range(100_000)}
    start = time.monotonic()
    with pytest.raises(UsageError) as error:
        parse(table, "x.toml")
    refused(error, "x.toml: unknown_0: unknown key", "more")
    assert time.monotonic() - start < 20.0


def test_parameters_of_any_size_are_checked_without_making_them() -> None:
    parameter = {"shape": [10**12], "initial": 0.5, "low": 0.0, "high": 1.0}
    table = {
        "objective": {"function": "sphere", "direction": "minimize", "parameters": {"x": parameter}}
    }
    assert parse(table, "x").objective.parameters["x"].shape == (10**12,)


def test_every_message_is_one_line_of_at_most_1000_characters() -> None:
    long = str(EsdError("begin " + "x\n" * 10_000 + " end"))
    assert len(long) == 1_000
    assert long.isprintable()
    assert long.startswith("begin x x")
    assert long.endswith(" end")
    assert one_line("a\x1b[2Jb\tc\nd") == "a\\x1b[2Jb c d"
    assert str(EsdError("σ = 0.1…")) == "σ = 0.1…"


def test_a_value_is_shown_short() -> None:
    assert shown("a") == "'a'"
    assert shown(1.5) == "1.5"
    assert shown([1, 2]) == "[1, 2]"
    assert len(shown("x" * 10_000)) == len(shown(list(range(10_000)))) == 100
    assert shown(10**5_000) == "a whole number of 5001 digits"
    assert shown([10**5_000]) == "a list too long to show"
