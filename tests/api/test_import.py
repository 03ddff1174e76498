"""``import esd`` is quick, and what it offers is there."""

from __future__ import annotations

import subprocess
import sys

import esd

HEAVY = ("numpy", "numba", "torch", "gymnasium", "mpi4py", "rich", "typer")
LOADED = f"import sys, esd; print([name for name in {HEAVY} if name in sys.modules])"


def test_importing_esd_loads_nothing_heavy() -> None:
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_every_public_name_can_be_had_and_is_documented() -> None:
    assert sorted(esd.__all__) == esd.__all__
    for name in esd.__all__:
        assert getattr(esd, name).__doc__, name
    assert set(esd.__all__) <= set(dir(esd))


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(esd, "no_such_name")
