"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from esd.config import kinds
from tests.law_breaks import BREAKS, Break

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


# from the bottom to the top: a room imports from itself and from those before it
ROOMS = (
    "errors", "reading", "forks", "watch", "time_limit", "config", "kernels", "evolution", "attention", "policies",
    "episodes", "objectives", "lockstep", "problems", "mpi", "run", "loggers", "training", "evaluation",
    "export", "report", "launching", "doctor", "commands", "cli", "__main__",
)  # fmt: skip
# the public API and what it is made of stand above all that they offer
ABOVE = ("api", "")

# what a room knows nothing of
FORBIDDEN = {
    "evolution": ("mpi4py", "torch", "gymnasium"),
    "kernels": ("mpi4py", "torch", "gymnasium"),
    "attention": ("mpi4py", "gymnasium"),
    "policies": ("mpi4py", "gymnasium"),
    "episodes": ("mpi4py", "torch"),
    "objectives": ("mpi4py", "torch", "gymnasium"),
    "run": ("mpi4py", "torch", "gymnasium"),
    "mpi": ("torch", "gymnasium", "esd.evolution", "esd.problems"),
}


def modules() -> dict[str, Path]:
    """The files of esd by the names that they are imported by."""
    return {
        ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (REPOSITORY / "esd").rglob("*.py")
    }


def arrows() -> Iterator[tuple[str, str]]:
    """Who imports whom within esd, also inside of functions and for types."""
    known = modules()
    for importer, path in known.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            named: list[str] = []
            if isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in named:
                if name in known and name not in (importer, "esd"):
                    yield importer, name


def room_of(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def test_rooms_import_only_what_stands_below_them() -> None:
    order = {room: number for number, room in enumerate((*ROOMS, *ABOVE))}
    wrong = [(a, b) for a, b in arrows() if order[room_of(b)] > order[room_of(a)]]
    assert not wrong


def test_contributing_lists_the_rooms_in_their_order_and_files_that_exist() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    table = page[page.index("| room |") : page.index("| beside")]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    listed = [
        name.removesuffix(".py").strip("/") for name in re.findall(r"`(.*?)`", " ".join(cells))
    ]
    here = [
        room for room in ROOMS if list((REPOSITORY / "esd").glob(f"{room}*")) and room != "__main__"
    ]
    assert listed == ["esd/__init__", "api", *reversed(here)]
    named = re.findall(r"`((?:esd|envs|tests)/[\w/]+(?:\.\w+)?)", page)
    assert len(named) > 20
    for name in named:
        assert "NAME" in name or (REPOSITORY / name).exists(), name


def test_contributing_names_the_entry_points_that_there_are() -> None:
    page = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    tables = {table.group for table in vars(kinds).values() if isinstance(table, kinds.Kinds)}
    assert {*re.findall(r"`(esd\.[a-z]+)`", page)} == tables
    for group in tables:
        pages = (REPOSITORY / "docs").glob("*.md")
        assert any(f'"{group}"]' in text.read_text("utf-8") for text in pages), group


def test_no_files_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for importer, imported in arrows():
        graph.setdefault(importer, set()).add(imported)
    order = tuple(graphlib.TopologicalSorter(graph).static_order())  # CycleError names a circle
    assert len(order) > 50


@pytest.mark.parametrize("room", FORBIDDEN, ids=lambda room: f"esd/{room}")
def test_a_room_knows_nothing_of_what_is_not_its_own(room: str) -> None:
    # torch has files of its own: those that only what needs it imports
    of_torch = ("torch_module.py", "reversible_torch.py")
    paths = list((REPOSITORY / "esd" / room).glob("*.py"))
    assert paths
    for path in paths:
        for module, at_top in imports(path):
            # at the top, since only esd/mpi imports MPI and lazily
            if at_top and path.name not in of_torch:
                assert not module.startswith(FORBIDDEN[room]), (path, module)


def test_only_what_is_there_for_torch_imports_it_at_the_top() -> None:
    allowed = {
        *(REPOSITORY / "esd/lockstep").glob("*.py"),
        REPOSITORY / "esd/policies/torch_module.py",
        REPOSITORY / "esd/attention/reversible_torch.py",
    }
    for path in SOURCES:
        for name, at_top in imports(path):
            heavy = name.split(".")[0] == "torch" or name.startswith(
                ("esd.lockstep", "esd.policies.torch_module", "esd.attention.reversible_torch")
            )
            assert not (heavy and at_top) or path in allowed, (path, name)


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: f"law {case.law}, {case.why}")
def test_what_break_laws_changes_is_there_once_and_its_test_exists(case: Break) -> None:
    assert (REPOSITORY / case.file).read_text("utf-8").count(case.old) == 1
    assert (REPOSITORY / case.test.partition(" -k ")[0].split("::")[0]).exists()


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
        # but for numba's own format of machine code, after owner and checksum of a file have been checked
        assert "import pickle" not in text or path.name == "cache.py"
        assert "fastmath=True" not in text.replace("``fastmath=True``", "")
        compiled = path.parent.name in ("kernels", "esd_kernels")
        assert compiled or not [m for m, _ in imports(path) if m.split(".")[0] == "numba"]


@pytest.mark.parametrize(
    ("page", "calls"),
    [
        ("README.md", 3),
        ("docs/train.md", 8),
        ("docs/evaluation.md", 8),
        ("docs/export.md", 8),
        ("docs/launch/slurm.md", 5),
    ],
)
def test_every_flag_in_the_documentation_exists(page: str, calls: int) -> None:
    from typer.main import get_command

    from esd.cli import app

    commands = get_command(app).commands  # type: ignore[attr-defined]
    text = (REPOSITORY / page).read_text("utf-8")
    used = re.findall(
        r"esd (train|eval|export|show|list|bench|doctor|submit|compare|report)([^`#\n]*)", text
    )
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


@pytest.mark.parametrize(("name", "count"), [("docs/python.md", 6), ("README.md", 1)])
def test_the_python_examples_of_a_page_run_one_after_the_other(
    name: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (REPOSITORY / name).read_text("utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == count
    for example in examples:
        exec(compile(example, name, "exec"), {})


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
