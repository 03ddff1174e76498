"""Compiled kernels are kept between starts, but never beyond a change of any kernel's source."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from numba.core import config

from esd_kernels import CacheFolder
from esd_kernels.cache import kind_of_machine, read_entry, write_entry

REPOSITORY = Path(__file__).parent.parent.parent
PRINT_NOISE = (
    "from esd.evolution.noise import Noise; print(Noise('gaussian', 0).epsilon(0, 0, 0, 3))"
)


def noise_of(tree: Path) -> str:
    """What a tree's code gives, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{tree / 'envs'}"}
    environment.pop("NUMBA_CACHE_DIR", None)
    words = [sys.executable, "-c", PRINT_NOISE]
    result = subprocess.run(
        words, env=environment, cwd=tree, capture_output=True, text=True, check=True
    )
    return result.stdout


def test_a_change_in_an_inlined_file_is_not_hidden_by_the_cache(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("esd", "envs"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=ignored)
    before = noise_of(tmp_path)
    kept = list((tmp_path / "esd" / "kernels" / "__pycache__").glob("kernels-*/**/*.kernel"))
    assert kept, "nothing was cached: nothing is tested"
    assert noise_of(tmp_path) == before
    elementary = tmp_path / "esd" / "kernels" / "elementary.py"
    text = elementary.read_text("utf-8")
    changed = text.replace("(-0.16666655", "(-0.2")
    assert changed != text
    elementary.write_text(changed, "utf-8")
    assert noise_of(tmp_path) != before


PACKAGE = """
from pathlib import Path
from esd_kernels import Compiler

@Compiler(Path(__file__).parent).kernel
def add(numbers):
    total = 0.0
    for number in numbers:
        total += number * number
    return total
"""
COUNT_COMPILATIONS = """
import sys
from numba.core import event
compilations = []
class Listener(event.Listener):
    def on_start(self, e):
        compilations.append(e.data["dispatcher"].py_func.__name__)
    def on_end(self, e):
        pass
event.register("numba:compile", Listener())
sys.path.insert(0, sys.argv[1])
import numpy, small
total = small.add(numpy.arange(5) / 3)
print(compilations.count("add"), total.hex())
"""


def counting(folder: Path) -> list[str]:
    """The words of a process that calls a kernel of a small package and tells how often it has compiled it."""
    package = folder / "package"
    if not package.exists():
        package.mkdir()
        (package / "small.py").write_text(PACKAGE)
    return [sys.executable, "-c", COUNT_COMPILATIONS, str(package)]


def start_counting(cache: Path) -> subprocess.Popen[str]:
    """Start such a process, with its package in the cache's folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    words = counting(cache)
    return subprocess.Popen(
        words,
        env=environment,
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counted(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    count, bits = output.split()
    return int(count), bits


def test_of_many_processes_that_start_together_one_compiles(tmp_path: Path) -> None:
    results = [counted(process) for process in [start_counting(tmp_path) for _ in range(4)]]
    assert sorted(count for count, _ in results) == [0, 0, 0, 1]
    assert len({bits for _, bits in results}) == 1


def cut_in_half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip_a_bit_of_the_code(data: bytes) -> bytes:
    """Python's pickle would load it, and the processor run it."""
    place = data.index(b"\x7fELF") + 0x400
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("damage", [cut_in_half, flip_a_bit_of_the_code])
def test_a_damaged_file_is_compiled_again(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    _, bits = counted(start_counting(tmp_path))
    files = list(tmp_path.rglob("*.kernel"))
    assert files
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    assert counted(start_counting(tmp_path)) == (1, bits)
    assert counted(start_counting(tmp_path)) == (0, bits)


def test_another_host_with_the_same_processor_compiles_nothing(tmp_path: Path) -> None:
    """As a fresh container: its name is in nothing that the folder is called by."""
    counted(start_counting(tmp_path))
    (folder,) = {path.parent for path in tmp_path.rglob("*.kernel")}
    assert folder.name == kind_of_machine()
    assert socket.gethostname() not in str(folder)


def test_another_processor_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    package = package_of(tmp_path)
    own = CacheFolder(package).path
    names = {kind_of_machine()}
    for setting, value in (("CPU_NAME", "generic"), ("CPU_FEATURES", "+sse2"), ("OPT", 1)):
        with monkeypatch.context() as changed:
            changed.setattr(f"numba.core.config.{setting}", value)
            kind_of_machine.cache_clear()
            names.add(kind_of_machine())
            assert CacheFolder(package).path != own
    kind_of_machine.cache_clear()
    assert len(names) == 4
    assert CacheFolder(package).path == own


def test_an_entry_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f.kernel"
    write_entry(path, b"key", b"content")
    data = path.read_bytes()
    assert read_entry(path, b"key") == b"content"
    assert read_entry(path, b"another key") is None
    assert list(tmp_path.iterdir()) == [path]
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert read_entry(path, b"key") is None
        path.write_bytes(data[:at])
        assert read_entry(path, b"key") is None


def test_an_entry_that_others_can_have_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f.kernel"
    write_entry(path, b"key", b"content")
    assert read_entry(path, b"key") == b"content"
    path.chmod(0o666)
    assert read_entry(path, b"key") is None
    path.chmod(0o644)
    path.rename(tmp_path / "g.kernel")
    path.symlink_to("g.kernel")
    assert read_entry(path, b"key") is None
    path.unlink()
    os.mkfifo(path)
    assert read_entry(path, b"key") is None


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_a_folder_that_others_can_write_is_neither_read_nor_written(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    package = package_of(tmp_path)
    folder = CacheFolder(package).path
    assert folder is not None
    folder.chmod(mode)
    assert CacheFolder(package).path is None
    assert CacheFolder(package).readable == []


def test_a_folder_in_an_image_that_cannot_be_written_is_read_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = package_of(tmp_path)
    shipped = CacheFolder(package).path
    assert shipped is not None
    assert shipped.is_relative_to(package)
    access = os.access
    monkeypatch.setattr("os.access", lambda path, mode: path != shipped and access(path, mode))
    folder = CacheFolder(package)
    assert folder.path is not None
    assert folder.path.is_relative_to(tmp_path / "cache")
    assert folder.readable == [shipped, folder.path]


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    """As on a full disk: a limit on the size of files, which holds for root as well."""
    words = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    *before, program, package = counting(tmp_path)
    process = subprocess.run(
        [*before, words + program, package],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert process.stdout.split()[0] == "1"
    assert list(tmp_path.rglob("*.kernel")) == []


def test_a_process_that_dies_while_it_compiles_holds_up_nobody(tmp_path: Path) -> None:
    first = start_counting(tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob(kind_of_machine())) and time.monotonic() < deadline:
        time.sleep(0.01)  # its folder is made just before it starts to compile
    time.sleep(0.05)
    first.kill()
    first.communicate()
    assert counted(start_counting(tmp_path))[0] <= 1


def test_a_file_in_the_working_directory_names_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = tmp_path / ".numba_config.yaml"
    settings.write_text("cache_dir: planted\n")
    try:
        config.reload_config()
        assert (
            config.CACHE_DIR == "planted"
        )  # numba's own, and whoever runs it here unpickles what is in it
        places = CacheFolder(package_of(tmp_path)).places
        assert places
        assert not any("planted" in place.parts for place in places)
    finally:
        settings.unlink()
        config.reload_config()


def package_of(folder: Path) -> Path:
    """A package with one source."""
    package = folder / "package"
    package.mkdir()
    (package / "kernels.py").write_text("x = 1\n")
    return package


def test_a_package_that_cannot_be_written_has_its_folder_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = package_of(tmp_path)
    own = CacheFolder(package).path
    assert own is not None
    assert own.is_relative_to(package / "__pycache__")
    shutil.rmtree(package / "__pycache__")
    (package / "__pycache__").touch()  # in the way, also of root
    elsewhere = CacheFolder(package).path
    assert elsewhere is not None
    assert elsewhere.is_relative_to(tmp_path / "cache" / "esd")
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").touch()
    assert CacheFolder(package).path is None


def test_a_source_edited_after_its_import_does_not_name_the_folder_of_the_old_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is made at the first call, which in a notebook may be hours after the import."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    package = package_of(tmp_path)
    imported = CacheFolder(package)
    (package / "kernels.py").write_text("x = 2\n")
    assert imported.path != CacheFolder(package).path
