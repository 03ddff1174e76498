"""The script that ``sbatch`` is given: a pure function of a ``BatchJob``.

Whatever a path or a setting holds (blanks, quotes, line breaks, ``$``, backticks) reaches ``esd train`` as it is: it is
quoted for bash, and never part of a ``#SBATCH`` line, which SLURM reads in a way of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from esd.config.another_python import esd_command
from esd.errors import EXIT_USAGE
from esd.launching.site import Site
from esd.launching.slurm_time import text_of

MARGIN_SECONDS = 30  # before the time limit, for SLURM to take the job back


@dataclass(frozen=True)
class Task:
    """What one job of an array trains.

    Attributes:
        run: the run's folder.
        settings: its own ``key=value`` texts, after those that all tasks share.
    """

    run: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class BatchJob:
    """All that a script depends on.

    Attributes:
        name: of the job, plain.
        nodes: how many.
        tasks_per_node: ranks on each.
        seconds: the time limit.
        stop_before: so many seconds before it the training is asked to stop.
        give_up_after: starts in a row that gain nothing.
        working_directory: where the training runs, from the root on.
        folder: of the submission, for its logs and notes; relative to the working directory, or from the root on.
        log: where SLURM writes what the job prints, as a ``#SBATCH`` line has it.
        python: the interpreter that has esd, if the site names no environment.
        launcher: ``srun`` or ``mpirun``.
        fault_tolerant: survivors of a lost rank go on; with ``mpirun`` only.
        site: what the cluster needs.
        experiment: a shipped one or a TOML file; None for the settings of the run in the folder.
        settings: ``key=value`` texts for all tasks.
        trust: pass ``--trust`` on.
        tasks: at least one; several are an array.
        at_once: how many of them run at the same time at most; None for no limit.
        gpus_per_node: None for none.
        array: it is an array, be it of one task.
        options: further options of sbatch, after the site's.
    """

    name: str
    nodes: int
    tasks_per_node: int
    seconds: int
    stop_before: int
    give_up_after: int
    working_directory: str
    folder: str
    log: str
    python: str
    launcher: str
    fault_tolerant: bool
    site: Site
    experiment: str | None
    settings: tuple[str, ...]
    trust: bool
    tasks: tuple[Task, ...]
    at_once: int | None = None
    gpus_per_node: str | None = None
    array: bool = False
    options: tuple[str, ...] = ()


def render(job: BatchJob) -> str:
    """The script."""
    return "\n".join(
        (
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in _options(job)),
            "",
            _HEAD,
            *_prologue(job),
            "",
            *_what_to_train(job),
            "",
            *_launcher(job),
            "",
            _NUMBERS.format(
                stop=max(job.stop_before - MARGIN_SECONDS, job.stop_before // 2),
                give_up=job.give_up_after,
                notes=quoted(str(PurePosixPath(job.folder) / "starts")),
            ),
            _BODY,
        )
    )


def quoted(text: str) -> str:
    """A word for bash, in one line: a line break, or what else can't be seen, is written as a code.

    Bytes of a file's name that are no UTF-8 (surrogates in Python) stay what they are when the script is written.
    """
    if all(c.isprintable() or "\udc80" <= c <= "\udcff" for c in text):
        return shlex.quote(text)
    parts = []
    for c in text:
        if c in "'\\":
            parts.append(f"\\{c}")
        elif c.isprintable() or "\udc80" <= c <= "\udcff":
            parts.append(c)
        else:
            parts.append("".join(f"\\x{byte:02x}" for byte in c.encode()))
    return f"$'{''.join(parts)}'"


def _words(words: Sequence[str]) -> str:
    return " ".join(map(quoted, words))


def _options(job: BatchJob) -> Iterator[str]:
    """The options of sbatch."""
    site = job.site
    yield f"--job-name={job.name}"
    yield f"--nodes={job.nodes}"
    yield f"--ntasks-per-node={job.tasks_per_node}"
    yield f"--time={text_of(job.seconds)}"
    if job.gpus_per_node is not None:
        yield f"--gpus-per-node={job.gpus_per_node}"
    yield from site.sbatch  # before what has an option of its own: SLURM takes the last
    for name in ("account", "partition", "qos", "constraint"):
        if value := getattr(site, name):
            yield f"--{name}={value}"
    if job.array:
        limit = "" if job.at_once is None else f"%{job.at_once}"
        last = len(job.tasks) - 1
        yield f"--array={f'0-{last}' if last else '0'}{limit}"
    yield f"--output={job.log}"
    yield "--open-mode=append"
    yield "--requeue"
    yield f"--signal=B:USR1@{job.stop_before}"
    yield from job.options


_HEAD = """\
# Written by esd submit. It trains until the run has its DONE.json. Before the time limit it asks the training to stop,
# which keeps everything, and queues the job again. The same command goes on from the run's folder.
# shellcheck disable=SC1091,SC2016 # a file on the cluster; words that are meant as they are written

say() { printf 'esd submit: %s\\n' "$*" >&2; }
"""


def _prologue(job: BatchJob) -> Iterator[str]:
    """Make the environment."""
    site = job.site
    yield f"cd -- {quoted(job.working_directory)} || exit 1"
    for name, value in site.environment.items():
        yield f"export {name}={quoted(value)}"
    if site.modules:
        yield f"module load {_words(site.modules)} || exit 1"
    if site.venv:
        yield f". {quoted(f'{site.venv}/bin/activate')} || exit 1"
    if site.conda:
        yield 'eval "$(conda shell.bash hook)" || exit 1'
        yield f"conda activate {quoted(site.conda)} || exit 1"
    yield from site.before


def _what_to_train(job: BatchJob) -> Iterator[str]:
    """Choose the task."""
    yield "# what this job trains"
    yield "task=${SLURM_ARRAY_TASK_ID:-0}"
    yield 'case "$task" in'
    for number, task in enumerate(job.tasks):
        flags = [f"--set={setting}" for setting in task.settings]
        yield f"{number}) run={quoted(task.run)} settings=({_words(flags)}) ;;"
    yield '*) say "there is no task $task"'
    yield f"  exit {EXIT_USAGE} ;;"
    yield "esac"


def _launcher(job: BatchJob) -> Iterator[str]:
    """Put the command together."""
    own = job.site.venv or job.site.conda or job.site.image
    esd = ["esd"] if own else esd_command(job.python, PurePosixPath(job.working_directory))
    inside = ["apptainer", "exec", *job.site.apptainer, job.site.image] if job.site.image else []
    if job.launcher == "srun":
        # not when a rank ends with a code: 75 is how they stop, one after the other. A rank that is killed ends all.
        start = ["srun", f"--mpi={job.site.mpi}", "--kill-on-bad-exit=0", *inside, *esd]
    elif job.site.image:
        start = ["mpirun", *inside, *esd]
    else:  # finds the right mpirun, and starts it again when ranks are lost
        start = [*esd, "launch", *(["--fault-tolerant"] if job.fault_tolerant else [])]
    words = ["--trust"] if job.trust else []
    words += [f"--set={setting}" for setting in job.settings]
    experiment = "" if job.experiment is None else f" -- {quoted(job.experiment)}"
    yield f"command=({_words([*start, 'train'])}"
    yield f'  "--run=$run" {_words(words)}{" " if words else ""}"${{settings[@]}}"{experiment})'


_NUMBERS = """\
stop_seconds={stop} # for the generation under way to end, once the training is asked to stop
give_up={give_up} # starts in a row that gain nothing
notes={notes}"""

_BODY = """\
mkdir -p -- "$notes" || exit 1

# Whatever ended the starts before, node failures included: the journal grows with every generation, and within one
# that takes longer than a start does what is kept of its evaluations.
journal=0
[ ! -f "$run/journal.bin" ] || journal=$(wc -c <"$run/journal.bin")
evaluations=$(cat -- "$run/in_progress/"* 2>/dev/null | wc -c)
last_journal=-1 last_evaluations=0 fruitless=0
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ] && [ -f "$notes/$task" ]; then
  read -r last_journal last_evaluations fruitless <"$notes/$task"
fi
if [ "$journal" -gt "$last_journal" ] || [ "$evaluations" -gt "$last_evaluations" ]; then
  fruitless=0
else
  fruitless=$((fruitless + 1))
fi
if [ "$fruitless" -ge "$give_up" ]; then
  say "$run: $fruitless starts in a row without progress; not queued again, see the messages above. Without any," \\
    "use a longer --time or more ranks, and submit it again"
  exit 1
fi
printf '%s %s %s\\n' "$journal" "$evaluations" "$fruitless" >"$notes/$task.new"
mv -- "$notes/$task.new" "$notes/$task"

job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

queue_again() {
  say "$run: $1; job $job is queued again"
  if ! scontrol requeue "$job"; then
    say "job $job could not be queued again; to resume, submit the script again: sbatch '${notes%/starts}/job.sh'"
    [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null
  fi
  exit 75
}

# Ranks notice within a minute that a node is lost, and end with exit code 1; SLURM often needs five.
nodes_respond() {
  local nodes=${SLURM_JOB_NUM_NODES:-1}
  [ "$nodes" = 1 ] && return # this one
  timeout --kill-after=5 60 \
    srun "--nodes=$nodes" "--ntasks=$nodes" --ntasks-per-node=1 --overlap --mpi=none true >/dev/null 2>&1
}

pid='' timer=''
stop='' # limit: the time limit is near; late: the generation did not end in time; cancel: the job is to end
interrupted=''
ask_to_stop() {
  interrupted=yes
  [ -z "$pid" ] || kill -USR1 "$pid" 2>/dev/null
}
# shellcheck disable=SC2329 # the trap calls it
at_limit() {
  if [ -z "$stop" ]; then
    stop=limit
    { sleep "$stop_seconds"; kill -ALRM "$$"; } >/dev/null 2>&1 &
    timer=$!
  fi
  ask_to_stop
}
trap at_limit USR1
trap 'stop=cancel; ask_to_stop' TERM INT # by scancel, or to make room for another job
trap 'interrupted=yes; [ "$stop" = cancel ] || stop=late' ALRM

say "$run: job $job, start $((${SLURM_RESTART_COUNT:-0} + 1))"
"${command[@]}" &
pid=$!
[ -z "$stop" ] || ask_to_stop
while :; do
  interrupted=''
  wait "$pid"
  code=$?
  [ "$stop" != late ] || queue_again "the current generation did not end in time; finished evaluations are kept"
  [ -n "$interrupted" ] || break
done
pid=''
[ -z "$timer" ] || kill "$timer" 2>/dev/null

# An exit code of 0 is not enough: mpirun also ends with it when a node is lost.
if [ -f "$run/DONE.json" ] && { [ "$code" = 0 ] || [ "$run/DONE.json" -nt "$notes/$task" ]; }; then
  say "$run is done"
  exit 0
fi
case "$stop:$code" in
  cancel:*) say "$run: the job was canceled, or ended by SLURM; unless it is queued again, submit it again to resume"
    exit "$code" ;;
  limit:75) queue_again "stopped before the time limit" ;;
  *:75) queue_again "stopped early" ;;
  *:0) queue_again "ended without a DONE.json" ;;
  limit:12[89] | limit:1[3-9]? | limit:2??) queue_again "ended by the signal before the time limit" ;;
  *:1) nodes_respond || queue_again "a node of the job was lost" ;;
  *:2 | *:126 | *:127) ;;
  *) queue_again "its processes were killed (exit code $code)" ;; # with a node, or because memory was full
esac
say "$run: ended with exit code $code; not queued again, see the message above"
exit "$code"
"""
