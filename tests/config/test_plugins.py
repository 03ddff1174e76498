"""Names of the user's own in settings: what is said of a module that can't be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.config.kinds import ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES, Kinds
from esd.config.plugins import import_name
from esd.errors import UsageError
from esd.evolution.optimizers import make_optimizer

SOURCES = {
    "raises_in_import": ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero"),
    "has_bad_syntax": ("def (\n", "SyntaxError: invalid syntax (has_bad_syntax.py, line 1)"),
    "exits_in_import": ("raise SystemExit(5)\n", "SystemExit: 5 (exits_in_import.py, line 1)"),
}


@pytest.mark.parametrize("kinds", [ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES])
@pytest.mark.parametrize("module", SOURCES)
def test_a_module_that_raises_while_it_is_imported_gets_one_line(
    kinds: Kinds, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, message = SOURCES[module]
    (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError) as caught:
        kinds.find(f"{module}:Name")
    text = str(caught.value)
    assert text.startswith(f"{kinds.setting} = '{module}:Name': importing it raised {message}")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("math:pi", r"is 3\.14.*; expected a class"),
        ("math:sqrt", "is <built-in function sqrt>; expected a class"),
        ("fractions:Fraction", "lacks moment_names, initial_scalars, step; expected a class"),
    ],
)
def test_what_is_no_optimizer_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_optimizer(name)


MODULES = {
    "bm_key_error": "{}['gain']\n",
    "bm_assertion": "assert 1 == 2, 'impossible'\n",
    "bm_odd": "class Odd(BaseException):\n    pass\nraise Odd('x')\n",
    "bm_imports_nothing": "import no_such_package.inside\n",
    "bm_imports_no_name": "from math import no_such_name\n",
    "bm_circle": "from bm_circle import Name\n",
    "bm_lines": "raise RuntimeError('a\\nb\\n' * 500)\n",
    "bm_getattr": "def __getattr__(name):\n    raise RuntimeError('no ' + name)\n",
    "bm_missing_package": "import mujoco_that_is_not_here\n",
    "bm_recursion": "def f():\n    f()\nf()\n",
}
MODULE_MESSAGES = {
    "bm_key_error": "importing it raised KeyError: 'gain' (bm_key_error.py, line 1)",
    "bm_assertion": "importing it raised AssertionError: impossible (bm_assertion.py, line 1)",
    "bm_odd": "importing it raised Odd: x (bm_odd.py, line 3)",
    "bm_imports_nothing": "ModuleNotFoundError: No module named 'no_such_package' (bm_imports_nothing.py, line 1)",
    "bm_imports_no_name": "importing it raised ImportError: cannot import name 'no_such_name' from 'math'",
    "bm_circle": "cannot import name 'Name' from partially initialized module 'bm_circle' (most likely due to a circ",
    "bm_lines": "importing it raised RuntimeError: a b a b",
    "bm_getattr": "importing it raised RuntimeError: no ",
    "bm_missing_package": "raised ModuleNotFoundError: No module named 'mujoco_that_is_not_here'",
    "bm_recursion": "importing it raised RecursionError: maximum recursion depth exceeded",
}


@pytest.mark.parametrize("name", MODULES)
def test_whatever_an_import_raises_is_one_line_with_its_place(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text(MODULES[name])
    monkeypatch.syspath_prepend(tmp_path)
    assert MODULE_MESSAGES[name] in refused(f"{name}:Name")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = '\xff'\n", "importing it raised SyntaxError: "),
        (
            b"\0\0\0",
            "Error: source code string cannot contain null bytes",  # a ValueError before Python 3.11.4
        ),
        (b"x = 1\n\tif", "importing it raised IndentationError: unexpected indent"),
    ],
)
def test_a_file_that_is_no_python_is_named(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bm_bytes.py").write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path)
    assert message in refused("bm_bytes:Name")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("module:", "expected module:Name, such as my_module:MyClass"),
        (":Class", "expected module:Name"),
        ("a:b:c", "expected module:Name"),
        (".mine:Class", "expected module:Name, such as my_module:MyClass; relative names are not supported"),
        ("mine.py:Class", "write the module as Python imports it: mine:Class"),
        ("./code/mine.py:Class", "write the module as Python imports it: code.mine:Class"),
        ("my-module:Class", "expected module:Name"),
        ("module:Class()", "expected module:Name"),
        ("module: Class", "expected module:Name"),
        ("no_such_module_here:Class", "module 'no_such_module_here' can't be imported (No module named"),
        ("json.no_such:Class", "module 'json.no_such' can't be imported (No module named 'json.no_such')"),
        ("fractions:fraction", "no 'fraction' in it, did you mean 'Fraction'?"),
        ("math:PI", "no 'PI' in it, did you mean 'pi'?"),
        (f"{'m' * 5000}:Class", "can't be imported"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_says_how_to_write_it(reference: str, message: str) -> None:
    assert message in refused(reference)


def test_the_case_of_a_modules_name_is_hinted_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "BmLarge.py").write_text("Name = 1\n")
    monkeypatch.chdir(tmp_path)
    assert refused("bmlarge:Name").endswith("; did you mean 'BmLarge'?")


def test_a_folder_of_the_modules_name_is_told_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bm_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert f"it is the folder {tmp_path / 'bm_folder'}, which has no __init__.py" in refused(
        "bm_folder:Name"
    )


def test_a_file_that_a_librarys_module_hides_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fractions.py").write_text("Mine = 1\n")
    monkeypatch.chdir(tmp_path)
    assert "fractions.py in the working directory; rename your file" in refused("fractions:Mine")


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_ctrl_c_during_an_import_is_not_swallowed(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bm_interrupt.py").write_text(f"raise {error.__name__}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error):
        import_name("bm_interrupt:Name", "policy.kind")


def refused(reference: str) -> str:
    """What is said of a name, in one line that begins with its setting."""
    with pytest.raises(UsageError) as caught:
        import_name(reference, "policy.kind")
    text = str(caught.value)
    assert text.startswith("policy.kind = '")
    assert len(text) <= 1000
    assert text.isprintable()
    return text
