"""One member of one generation goes wrong in the user's own code, in every way; then it is healed and the run resumed.

    python -m tests.faults.poisons --count 100 --seed 0 --ranks 0,2

What can be told from Python ends the job with one line and without a traceback, what changes the process without
ending it does not change h, and no exit code is 0 for a run that isn't done. What takes too long is ended by
``env.episode_seconds``. What kills its process does so in three starts, and the fourth names it. What stops a process
hangs, as EXPECTED says, where no other rank looks at it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from esd.episodes.seeds import EpisodeSeeds
from esd.evolution.noise import Purpose
from esd.objectives.problem import evaluation_seed
from esd.run.losses import LOSSES
from tests.faults import runs
from tests.faults.jobs import Ended, Job
from tests.faults.poison_members import DEED, DEEDS, SEED
from tests.faults.program import Options, Outcome, chosen, run
from tests.helpers.shell import esd, messages

MODULE = "tests.faults.poison_members"
POPULATION, GENERATIONS, RUN_SEED = 16, 4, 3
COMMON = (
    f"--set=seed={RUN_SEED}", f"--set=population={POPULATION}", f"--set=generations={GENERATIONS}",
    "--set=es.common_random_numbers=none", "--set=run.center_episodes=1", "--set=run.deadline_minutes=0.25",
    "--set=run.silence_seconds=3",
)  # fmt: skip
ENVIRONMENT = f"--set=env.id={MODULE}:Poisoned-v0"
LIMITED = "--set=env.episode_seconds=1"
POLICY = f"--set=policy={{kind = '{MODULE}:PoisonedPolicy'}}"
OBJECTIVE = f"--set=objective.function={MODULE}:poisoned"
KINDS = {
    "environment": ("cartpole-static", *COMMON, ENVIRONMENT, LIMITED, "--set=policy.hidden=[4]"),
    "policy": ("cartpole-static", *COMMON, ENVIRONMENT, LIMITED, POLICY),
    "objective": ("rosenbrock", *COMMON, OBJECTIVE, "--set=objective.max_seconds=1"),
}
LIMIT_SECONDS = 20.0  # a job that does nothing for so long hangs
MEMORY = 6_000_000_000  # bytes of address space


@dataclass(frozen=True)
class Expected:
    """How a job ends.

    Attributes:
        alone: exit codes of one process; None is a hang.
        ranks: exit codes under mpirun.
        same_h: where it is 0: h is that of a healthy run.
        leaves: processes may be left behind.
    """

    alone: frozenset[int | None]
    ranks: frozenset[int | None]
    same_h: bool = True
    leaves: bool = False


def _codes(*codes: int | None) -> frozenset[int | None]:
    return frozenset(codes)


ONE_LINE = Expected(_codes(1, 2), _codes(1, 2))
FAILS_A_MEMBER = Expected(_codes(0), _codes(0), same_h=False)
DIES = Expected(_codes(*range(3, 256)), _codes(*range(1, 256)))
HANGS = Expected(_codes(None), _codes(1, None))
IS_ENDED = Expected(_codes(1), _codes(*range(1, 256)))
LEAVES = Expected(_codes(0), _codes(0))
HARMLESS = Expected(_codes(0), _codes(0))
EXPECTED = dict.fromkeys(DEEDS, ONE_LINE) | {
    "raise KeyboardInterrupt": Expected(_codes(1, 2, 75, 130), _codes(1, 2, 75, 130)),
    "NaN": FAILS_A_MEMBER,
    "infinite": FAILS_A_MEMBER,
    "observation NaN": FAILS_A_MEMBER,
    "segmentation fault": DIES,
    "abort": DIES,
    "kill itself": DIES,
    "terminate itself": Expected(_codes(75, 143), _codes(75, 143)),
    "loop in C with the interpreter's lock": IS_ENDED,
    "stop itself": HANGS,
    "leave a thread": LEAVES,
    "leave a forked child": LEAVES,
    "leave a program": LEAVES,
}  # fmt: skip
for harmless in (
    "change directory", "change umask", "ignore signals", "clear the environment", "raise for every numpy warning",
    "replace sys.stdout", "close sys.stdout", "print much", "print bytes that are no text",
):  # fmt: skip
    EXPECTED[harmless] = HARMLESS
for unclear in (
    "close descriptors", "close stdout and stderr", "limit files", "limit file sizes", "fork and return",
):  # fmt: skip
    EXPECTED[unclear] = Expected(_codes(0, 1), _codes(*range(256)))
# an objective has a time limit, and a call that fails is a failed member
OF_OBJECTIVES = {
    name: FAILS_A_MEMBER
    for name in (
        "raise RuntimeError", "raise an error of its own", "raise without a text", "raise BrokenPipeError",
        "raise MemoryError", "raise StopIteration", "raise GeneratorExit", "sys.exit(0)", "sys.exit(3)",
        "sys.exit('text')", "recursion", "text", "complex", "a vector", "another shape", "exhaust memory",
        "sleep for an hour", "loop for ever", "wait in C for ever", "NaN", "infinite", "os._exit(0)", "os._exit(1)",
    )
}  # fmt: skip
# a policy's outputs are numbers
NOT_OF = {
    "policy": ("observation NaN", "four values", "complex", "a vector", "text"),
    "objective": ("observation NaN", "four values"),
}
CASES = [f"{kind}: {deed}" for kind in KINDS for deed in DEEDS if deed not in NOT_OF.get(kind, ())]


@cache
def compiled(kind: str) -> None:
    """Compile what a run of this kind needs, once: that takes longer than its deadline on a busy machine."""
    with tempfile.TemporaryDirectory() as folder:
        words = [word for word in KINDS[kind] if "deadline" not in word]
        done = esd("train", *words, "--run", "run", cwd=Path(folder), timeout=600.0)
        assert done.returncode == 0, done.stderr


def seed_of(kind: str, generation: int, member: int) -> int:
    """The seed of the episode, or of the call, of a member."""
    where = (RUN_SEED, Purpose.TRAIN_EPISODE, generation, member, 0)
    if kind == "objective":
        return evaluation_seed(*where)
    seeds = EpisodeSeeds.named(*where)
    return seeds.policy if kind == "policy" else seeds.environment


def expected_of(kind: str, deed: str) -> Expected:
    """How a case ends."""
    return {**EXPECTED, **(OF_OBJECTIVES if kind == "objective" else {})}[deed]


def start(kind: str, folder: Path, ranks: int, **variables: str) -> Job:
    """Train; with variables one member is poisoned."""
    limit = ("tests.faults.limited", "AS", str(MEMORY))
    module = limit if "memory" in variables.get(DEED, "") else ("esd",)
    arguments = ("train", *KINDS[kind], "--run", folder / "run")
    return Job(*arguments, cwd=folder, ranks=ranks, module=module, **variables)


def wrong_with(ended: Ended, expected: Expected, ranks: int, run_folder: Path) -> list[str]:
    """What is not as it is expected today."""
    wrong = []
    allowed = expected.ranks if ranks else expected.alone
    if ended.code not in allowed:
        wrong.append(f"{ended.how}: {ended.last_line}")
    if ended.code == 0 and not runs.is_done(run_folder):
        wrong.append("exit code 0, but the run is not done")
    if ended.code is not None and ended.orphans and not expected.leaves:
        wrong.append(f"processes left behind: {', '.join(ended.orphans)}")
    if expected in (ONE_LINE, FAILS_A_MEMBER, HARMLESS) and ended.code != 0:
        own = list(messages(ended.errors.splitlines()))
        if len(own) != 1 or len(own[0]) > 1000:
            wrong.append(f"{len(own)} lines of esd, expected one")
    # those that others print of a process that dies are not ours
    if "Traceback (most recent call last)" in ended.errors and expected is not DIES:
        wrong.append(f"a traceback: {ended.last_line}")
    return wrong


def not_named(kind: str, folder: Path, ranks: int, poison: dict[str, str], name: str) -> list[str]:
    """What is wrong with the starts that follow: of at most four the last names the member, and ends with 1."""
    for _ in range(LOSSES):
        again = start(kind, folder, ranks, **poison).ended()
        if name in again.last_line and again.code == 1:
            return []
        if kind == "objective" and name in again.errors and again.code == 0:
            return []  # which ranks such members last
    return [f"after {1 + LOSSES} starts, {again.how} does not name it: {again.last_line}"]


def trial(seed: int, folder: Path, options: Options) -> Outcome:
    """Poison a member, and heal it."""
    case, dice = chosen(seed, CASES, options)
    kind, _, deed = case.partition(": ")
    ranks = dice.choice(options.ranks)
    member = dice.randrange(POPULATION)
    generation = dice.randrange(1, GENERATIONS)
    expected = expected_of(kind, deed)
    poison = {DEED: deed, SEED: str(seed_of(kind, generation, member))}
    compiled(kind)
    job = start(kind, folder, ranks, **poison)
    began = job.wait_until(lambda: runs.lines_of(folder / "run") >= generation, 0.01)
    # from here on: to start may take long on a busy machine
    ended = job.ended(time.monotonic(), LIMIT_SECONDS if began else 90.0, orphan_limit=3.0)
    wrong = wrong_with(ended, expected, ranks, folder / "run")
    if expected in (DIES, IS_ENDED) and ended.code:
        wrong += not_named(
            kind, folder, ranks, poison, f"generation {generation}, member {member}: "
        )
    # whatever it was: healed, the same command resumes to the run of a healthy member
    healthy = start(kind, folder / "healthy", 0) if (folder / "healthy").mkdir() is None else None
    assert healthy is not None
    healthy_end = healthy.ended()
    if healthy_end.code != 0:
        wrong.append(f"a healthy run ends with {healthy_end.code}: {healthy_end.last_line}")
    elif kind == "objective" and runs.is_done(folder / "run"):
        pass  # the member has ranked last
    elif ended.code != 0 or expected.same_h:
        if ended.code != 0 and (resumed := start(kind, folder, 0).ended()).code != 0:
            wrong.append(f"healed, it ends with {resumed.code}: {resumed.last_line}")
        wrong += runs.differences(folder / "run", runs.of_folder(folder / "healthy" / "run"))
    how = ended.how + (", leaves processes" if ended.orphans and ended.code is not None else "")
    return Outcome(f"{case} ({'ranks' if ranks else 'alone'})", how, ended.seconds, tuple(wrong))


def main(words: list[str] | None = None) -> int:
    """The program."""
    return run("poisons", (__doc__ or "").splitlines()[0], trial, CASES, "0,2", words)


if __name__ == "__main__":
    sys.exit(main())
