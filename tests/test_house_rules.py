"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SOURCES = sorted([*(REPOSITORY / "esd").rglob("*.py"), *(REPOSITORY / "envs").rglob("*.py")])
PICKLING = {
    "allreduce",
    "bcast",
    "scatter",
    "gather",
    "allgather",
    "alltoall",
    "reduce",
    "send",
    "recv",
    "sendrecv",
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, and whether at its top (not only for types)."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            yield name, node in tree.body and id(node) not in typing_only


def test_only_the_mpi_package_imports_mpi4py_and_never_at_the_top() -> None:
    for path in SOURCES:
        for name, at_top in imports(path):
            if name.split(".")[0] == "mpi4py" and (at_top or path.parent.name != "mpi"):
                text = path.read_text("utf-8")
                assert not at_top, path
                assert "TYPE_CHECKING" in text, path


def test_the_mathematics_imports_no_mpi_torch_or_environments() -> None:
    for name in (
        "noise", "strategy", "shaping", "optim", "vectorize", "observations", "reversible",
    ):  # fmt: skip
        for module, _ in imports(REPOSITORY / "esd" / f"{name}.py"):
            forbidden = (
                "mpi4py",
                "torch",
                "gymnasium",
                "esd.mpi",
                "esd.episodes.rollout",
                "esd.episodes.environments",
            )
            assert not module.startswith(forbidden)


def test_only_what_is_there_for_torch_imports_it_at_the_top() -> None:
    allowed = {
        *(REPOSITORY / "esd" / "batch").glob("*.py"),
        REPOSITORY / "esd/policies/torch_module.py",
        REPOSITORY / "esd/attention/reversible_torch.py",
    }
    for path in SOURCES:
        for name, at_top in imports(path):
            heavy = name.split(".")[0] == "torch" or name.startswith(
                ("esd.lockstep", "esd.policies.torch_module", "esd.attention.reversible_torch")
            )
            assert not (heavy and at_top) or path in allowed, (path, name)


def test_environments_import_nothing_from_esd() -> None:
    for path in (REPOSITORY / "envs").rglob("*.py"):
        assert not [module for module, _ in imports(path) if module.split(".")[0] == "esd"]


def test_no_pickling_collective_of_mpi4py_is_called() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value)
                assert not (node.func.attr in PICKLING and "comm" in owner.lower()), (
                    path,
                    node.lineno,
                )


def test_nothing_is_pickled_and_no_kernel_is_compiled_with_fastmath() -> None:
    for path in SOURCES:
        text = path.read_text("utf-8")
        assert "import pickle" not in text
        assert "fastmath=True" not in text.replace("``fastmath=True``", "")
        assert not [m for m, _ in imports(path) if m == "numba"] or path.parent.name == "kernels"


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "launch/README.md",
        "docs/algorithms.md",
        "docs/attention.md",
        "docs/devices.md",
        "docs/evaluation.md",
        "docs/performance.md",
        "docs/policies.md",
        "docs/worlds.md",
    ],
)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = REPOSITORY / name
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize(("page", "calls"), [("README.md", 8), ("docs/evaluation.md", 8)])
def test_every_flag_in_the_documentation_exists(page: str, calls: int) -> None:
    from typer.main import get_command

    from esd.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    commands = {**commands, "report compare": commands["report"].commands["compare"]}
    text = (REPOSITORY / page).read_text("utf-8")
    used = re.findall(r"esd (train|eval|show|list|bench|doctor|report compare)([^`#\n]*)", text)
    assert len(used) > calls
    for command, rest in used:
        known = {flag for parameter in commands[command].params for flag in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, (command, rest)


def test_the_python_examples_of_the_attention_page_run() -> None:
    page = (REPOSITORY / "docs/attention.md").read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(compile(example, "docs/attention.md", "exec"), {})


def test_every_test_and_file_that_the_attention_page_names_exists() -> None:
    page = (REPOSITORY / "docs/attention.md").read_text("utf-8")
    tests = "\n".join(
        path.read_text("utf-8") for path in (REPOSITORY / "tests/attention").glob("*.py")
    )
    named = re.findall(r"`(test_\w+)`", page)
    assert named
    assert all(f"def {name}(" in tests for name in named)
    paths = re.findall(r"`(tests/[\w/.]+)`", page)
    assert paths
    assert all((REPOSITORY / path).exists() for path in paths)
