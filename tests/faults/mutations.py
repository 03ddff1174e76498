"""Damages the files of a small run at random and reads them: whatever is in a folder, no command may do anything odd.

    python -m tests.faults.mutations --count 100000          all of them: about 40 minutes of one core
    python -m tests.faults.mutations --count 1 --seed 4711   one of them again, with what it did

Every mutation is made by its seed alone. What reads a run afterwards (show, show --generation, show --csv, eval,
resume, report, doctor) may give the very same h, or one line of at most 1,000 characters (``UsageError``,
``RunError``). Anything else is a finding: another exception, another h, more than 10 s, more than 200 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esd.errors import EsdError, RunError

MOST_SECONDS = (
    10  # of the processor; of the clock 10 times as much, on a machine that has more to do
)
MOST_MEMORY = 200e6  # bytes more than before
RESUME_EVERY = 25  # mutations; a whole training takes much longer than reading
SETTINGS = {
    "seed": 4, "generations": 3, "population": 6, "env.max_steps": 60, "policy.hidden": [4],
    "run.checkpoint_every": 1, "run.center_episodes": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Originals:
    """Runs that are damaged, and what their h is.

    Attributes:
        run: the run.
        other: one with another seed.
        h: by the identity of a run, its h_sha256 of each generation.
    """

    run: Path
    other: Path
    h: dict[str, list[str]]


def make_originals(folder: Path) -> Originals:
    """Train two small runs and evaluate them."""
    import esd
    from esd.config.identity import identity
    from esd.run.folder import RunFolder

    h = {}
    for name, seed in (("run", 4), ("other", 5)):
        run = esd.train("cartpole", run=folder / name, settings={**SETTINGS, "seed": seed})
        run.evaluate(episodes=2)
        run.evaluate(episodes=2, checkpoint="last")
        own = RunFolder(folder / name)
        config = own.config()
        contents = own.journal(config)
        h[identity(config)] = [
            own.state_at(t, config, contents).h_sha256() for t in range(6) if t < 4
        ]
    return Originals(folder / "run", folder / "other", h)


# --- what is done to a file -------------------------------------------------------------------------------------------

Mutation = Callable[[random.Random, Path, Originals], None]
NASTY = (
    b"1e400", b"-1e308", b"1" + b"0" * 30, b"9" * 5_000, b"9" * 200_000, b"null", b"true", b"nan", b"-0.0",
    b'"\\ud800"', b"[]", b"{}", b'""', b'"' + b"x" * 5_000 + b'"', b"[" * 2_000, b"{a=" * 2_000,
    b"a." * 20_000 + b"a = 1", b"\xff\xfe", b"\x00", b"[[1, [2, [3, {}]]]]", b"1979-05-27T07:32:00Z",
    b"18446744073709551616", b"1000000000", b"0x" + b"f" * 4_000, b'"\\u001b[2J"', b"-1", b"0",
)  # fmt: skip


def flip(rng: random.Random, path: Path, originals: Originals) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(rng: random.Random, path: Path, originals: Originals) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def cut_out(rng: random.Random, path: Path, originals: Originals) -> None:
    data = path.read_bytes()
    start = rng.randrange(len(data) + 1)
    path.write_bytes(data[:start] + data[start + rng.choice((1, 8, 100)) :])


def insert(rng: random.Random, path: Path, originals: Originals) -> None:
    data = path.read_bytes()
    at = rng.randrange(len(data) + 1)
    path.write_bytes(data[:at] + rng.randbytes(rng.choice((1, 4, 100, 5_000))) + data[at:])


def zero_a_page(rng: random.Random, path: Path, originals: Originals) -> None:
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) + 1)
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    path.write_bytes(data)


def repeat(rng: random.Random, path: Path, originals: Originals) -> None:
    data = path.read_bytes()
    path.write_bytes(data + data[rng.randrange(len(data) + 1) :])


def another_value(rng: random.Random, path: Path, originals: Originals) -> None:
    """Something else in the place of a value of a text file: behind "= " or ": "."""
    data = path.read_bytes()
    ends = [i + 2 for i in range(len(data) - 2) if data[i : i + 2] in (b"= ", b": ")]
    if not ends:
        return flip(rng, path, originals)
    start = rng.choice(ends)
    end = start
    while end < len(data) and data[end] not in b",\n}":
        end += 1
    path.write_bytes(data[:start] + rng.choice(NASTY) + data[end:])
    return None


def another_head(rng: random.Random, path: Path, originals: Originals) -> None:
    """Another length in the first 16 bytes, as journals and checkpoints have it."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(9)
    data[at : at + 8] = rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, 1_000)).to_bytes(8, "little")
    path.write_bytes(data)


def nasty(rng: random.Random, path: Path, originals: Originals) -> None:
    path.write_bytes(rng.choice(NASTY) * rng.choice((1, 1, 20)))


def empty(rng: random.Random, path: Path, originals: Originals) -> None:
    path.write_bytes(b"")


def remove(rng: random.Random, path: Path, originals: Originals) -> None:
    path.unlink()


def swap(rng: random.Random, path: Path, originals: Originals) -> None:
    other = rng.choice(files_of(path.parent))
    data = other.read_bytes()
    other.write_bytes(path.read_bytes())
    path.write_bytes(data)


def from_the_other(rng: random.Random, path: Path, originals: Originals) -> None:
    files = files_of(originals.other)
    same = [f for f in files if f.name == path.name]
    path.write_bytes(rng.choice(same or files).read_bytes())


def a_link(rng: random.Random, path: Path, originals: Originals) -> None:
    path.unlink()
    own = str(originals.run / "journal.bin")
    targets = ("/dev/zero", "/dev/null", "/etc/passwd", "/nowhere", path.name, own, "/dev/fd/0")
    path.symlink_to(rng.choice(targets))


def a_pipe(rng: random.Random, path: Path, originals: Originals) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(rng: random.Random, path: Path, originals: Originals) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").touch()


def a_sparse_terabyte(rng: random.Random, path: Path, originals: Originals) -> None:
    os.truncate(path, rng.choice((10**12, 10**9)))


def a_folder_elsewhere(rng: random.Random, path: Path, originals: Originals) -> None:
    """A link in the place of a folder of the run."""
    run = (
        path.parent
        if path.parent.name not in ("checkpoints", "evaluations")
        else path.parent.parent
    )
    folder = run / rng.choice(("checkpoints", "evaluations"))
    if folder.is_dir() and not folder.is_symlink():
        shutil.rmtree(folder)
        folder.symlink_to(originals.other / folder.name)


MUTATIONS: tuple[tuple[Mutation, int], ...] = (
    (flip, 12), (cut, 8), (cut_out, 5), (insert, 8), (zero_a_page, 6), (repeat, 2), (another_value, 14),
    (another_head, 5), (nasty, 5), (empty, 2), (remove, 2), (swap, 4), (from_the_other, 4), (a_link, 3), (a_pipe, 2),
    (a_folder, 2), (a_sparse_terabyte, 2), (a_folder_elsewhere, 1),
)  # fmt: skip


def files_of(folder: Path) -> list[Path]:
    """The regular files of a run, in a fixed order; those that were made sparse are left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path for path in found if path.name != "lock" and path.stat().st_size < 1e8)


def mutate(seed: int, originals: Originals, folder: Path) -> list[str]:
    """Make a damaged copy of the run; returns what was done."""
    rng = random.Random(seed)
    shutil.copytree(originals.run, folder)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files = files_of(folder)
        if files:
            kinds, weights = zip(*MUTATIONS, strict=True)
            path, mutation = rng.choice(files), rng.choices(kinds, weights)[0]
            done.append(f"{mutation.__name__} {path.relative_to(folder)}")
            mutation(rng, path, originals)
    return done


# --- what reads it ----------------------------------------------------------------------------------------------------


def readers(
    folder: Path, resume: bool
) -> Iterator[tuple[str, Callable[[], tuple[str, int, str] | None]]]:
    """What reads a run, by name; each gives the identity of a run, t and the hash of h_t, if it has an h."""
    from esd.commands import doctor, follow, show
    from esd.config.identity import identity
    from esd.evaluation import groups, of_run
    from esd.evaluation.test_episodes import choose
    from esd.run.folder import RunFolder
    from esd.training.plan import TrainRequest, make_plan

    run = RunFolder(folder)

    def quiet(text: str) -> None:
        check_line(text)

    def shown(generation: int | None) -> tuple[str, int, str]:
        run.require_run()
        description = show._describe(run, generation)
        show._print_state(run, generation, False)
        show._print_state(run, generation, True)
        return identity(run.config()), description["generation"], description["h_sha256"]

    def loaded(which: str) -> tuple[str, int, str]:
        config, state, _ = of_run.load(run, which, quiet)
        choose(config, None, [], [])
        return identity(config), state.generation, state.h_sha256()

    def planned() -> None:
        make_plan(TrainRequest(run=folder), quiet).encode()

    def resumed() -> tuple[str, int, str]:
        import esd

        ended = esd.train(run=folder, generations=3)
        return identity(ended.config), ended.generation, ended._state("last").h_sha256()

    def csv() -> None:
        run.require_run()
        show._print_csv(run)

    def followed() -> None:
        if run.done(quiet) is not None:  # else it waits for the end
            follow.follow(run)

    yield "show", lambda: shown(None)
    yield "show --generation 2", lambda: shown(2)
    yield "show --csv", csv
    yield "show --follow", followed
    yield "eval", lambda: loaded("best")
    yield "eval --checkpoint last", lambda: loaded("last")
    yield "report", lambda: groups._read(folder, quiet) and None
    yield "doctor", lambda: doctor._config(str(folder), None, []) and None
    yield "plan", planned
    if resume:
        yield "resume", resumed


class FindingError(Exception):
    """Something that may not happen."""


def check_line(text: str) -> None:
    """A message is one line of bounded length."""
    if len(text) > 1_000 or "\n" in text:
        raise FindingError(f"a message of {len(text)} characters: {text[:200]!r}")


def _too_slow(number: int, frame: Any) -> None:
    raise FindingError(f"more than {MOST_SECONDS} s")


def outcomes(seed: int, originals: Originals, folder: Path) -> Iterator[tuple[str, str]]:
    """Damage a copy and read it: the outcomes by reader, and the findings as "finding: …"."""
    shutil.rmtree(folder, ignore_errors=True)
    mutate(seed, originals, folder)
    outside = (
        originals.other.stat().st_mtime_ns,
        [f.read_bytes() for f in files_of(originals.other)],
    )
    signal.signal(signal.SIGALRM, _too_slow)
    signal.signal(signal.SIGPROF, _too_slow)
    for name, read in readers(folder, seed % RESUME_EVERY == 0):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        printed = io.StringIO()
        signal.alarm(10 * MOST_SECONDS)
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                found = read()
            if found is not None:
                run, generation, h = found
                if run not in originals.h or originals.h[run][generation] != h:
                    raise FindingError(f"another h of generation {generation}: {h}")
            outcome = "ok"
        except EsdError as error:
            outcome = "RunError" if isinstance(error, RunError) else "UsageError"
            with contextlib.suppress(FindingError):
                check_line(str(error))
                yield name, outcome
                continue
            outcome = f"finding: {name}: a message of {len(str(error))} characters"
        except FindingError as finding:
            outcome = f"finding: {name}: {finding}"
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}, line {last.lineno}"
            outcome = f"finding: {name}: {type(error).__name__}: {error} ({where})"
        finally:
            signal.alarm(0)
            signal.setitimer(signal.ITIMER_PROF, 0)
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 > MOST_MEMORY:
            outcome = f"finding: {name}: more than {MOST_MEMORY / 1e6:.0f} MB of memory"
        yield name, outcome[:400]
    if outside != (
        originals.other.stat().st_mtime_ns,
        [f.read_bytes() for f in files_of(originals.other)],
    ):
        yield "links", "finding: something outside of the run was changed"


def _many(
    work: tuple[int, int, int, Originals, Path],
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Every n-th seed; in a process of its own."""
    first, last, step, originals, folder = work
    counts: Counter[tuple[str, str]] = Counter()
    findings = []
    for seed in range(first, last, step):
        try:
            found = list(outcomes(seed, originals, folder / f"damaged-{first % step}"))
        except KeyboardInterrupt:
            print(f"stopped before seed {seed}", file=sys.__stderr__, flush=True)
            break
        counts["mutations", "made"] += 1
        for name, outcome in found:
            counts[name, outcome.partition(":")[0]] += 1
            if outcome.startswith("finding"):
                findings.append(f"seed {seed}: {outcome}")
                print(findings[-1], file=sys.__stderr__, flush=True)
    return counts, findings


def examine(
    first: int, count: int, processes: int, folder: Path
) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Mutations ``first`` to ``count``, shared by processes: how often each outcome came, and the findings."""
    originals = make_originals(folder)
    work = [(first + n, count, processes, originals, folder) for n in range(processes)]
    if processes == 1:
        return _many(work[0])
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        results = pool.map(_many, work)
    counts: Counter[tuple[str, str]] = sum((found for found, _ in results), Counter())
    return counts, [finding for _, findings in results for finding in findings]


def main() -> None:
    """Run mutations and print how often each outcome came; exit code 1 with findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000, help="how many mutations")
    parser.add_argument("--seed", type=int, default=0, help="of the first")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    start = time.monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # spares the disk
    with tempfile.TemporaryDirectory(dir=memory) as name:
        if options.count == 1:
            originals = make_originals(Path(name))
            print("; ".join(mutate(options.seed, originals, Path(name) / "told")))
            for reader, outcome in outcomes(options.seed, originals, Path(name) / "damaged"):
                print(f"{reader:24} {outcome}")
            return
        counts, findings = examine(
            options.seed, options.seed + options.count, options.processes, Path(name)
        )
    made = counts.pop(("mutations", "made"))
    for (reader, outcome), number in sorted(counts.items()):
        print(f"{reader:24} {outcome:12} {number:>9,}")
    print(f"{made:,} mutations, {sum(counts.values()):,} readings, {len(findings)} findings, "
          f"{time.monotonic() - start:,.0f} s")  # fmt: skip
    for finding in findings[:100]:
        print(finding)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
