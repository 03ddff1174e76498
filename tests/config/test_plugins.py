"""Names of the user's own in settings: what is said of a module that can't be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from esd.config.kinds import ALGORITHMS, OBJECTIVES, OPTIMIZERS, POLICIES, Kinds
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
