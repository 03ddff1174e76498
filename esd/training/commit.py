"""What rank 0 keeps of a run: the best checkpoint, the journal, the metrics, the last checkpoints, in this order."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from pathlib import Path

from esd.config.identity import identity
from esd.config.settings import Config
from esd.errors import NotWritableError, RunError
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.loggers.all import Loggers
from esd.run import checkpoint, journal, metrics
from esd.run.checkpoint import Checkpoint
from esd.run.files import changing, write_atomically
from esd.run.journal import JournalContents, JournalHeader
from esd.run.journal_writer import JournalWriter
from esd.run.training_folder import TrainingFolder
from esd.training.diagnosis import Course, Finding, diagnose
from esd.training.node_state import Step
from esd.training.patience import Patience
from esd.training.reports import GenerationReport, News, Reporter, Timing
from esd.training.trusted import remember_run

CHECKPOINTS_KEPT = 2
USUAL_CHECKPOINTS = 10  # generations between them
CHECKPOINT_SECONDS = 1.0  # and more if those take less: a checkpoint waits for the disk, 5 to 12 ms


class Commit:
    """Writes a run's folder. Made by ``begin`` or ``resume``.

    What can't be written is kept and tried again (``Patience``), in the order in which it has to be written.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        config: Config,
        writer: JournalWriter,
        reporter: Reporter,
        lines: list[metrics.Line],
        metrics_size: int,
        best: metrics.BestCenter,
        next_generation: int = 0,
    ) -> None:
        """Go on after ``lines`` of metrics in a file of so many bytes, with the best center so far."""
        self._folder, self._config, self._writer, self._reporter = folder, config, writer, reporter
        self._identity = identity(config)
        self._best = best
        self._patience = Patience(config.run.unsaved_generations, reporter.note)
        self._entries: deque[tuple[int, bytes]] = deque()  # of the journal, to be written
        self._lines: deque[metrics.Line] = deque()  # of metrics.jsonl, to be written
        self._new_best: Checkpoint | None = None  # to be written
        self._checkpoint_is_due = False
        self._metrics_size = metrics_size
        self._metrics_changed = False
        last = lines[-1] if lines else {}
        self._env_steps, self._episodes = last.get("env_steps", 0), last.get("episodes", 0)
        self._seconds, self._core_seconds = last.get("seconds", 0.0), last.get("core_seconds", 0.0)
        self._loggers = Loggers(folder.logs, config, lines, reporter.note)
        self._since = time.monotonic()
        self._next = next_generation  # the first whose members are not in the journal
        self._checkpointed_at = -math.inf
        self._last_center = -1  # the generation that the center alone was kept of

    @classmethod
    def begin(
        cls, folder: TrainingFolder, config: Config, header: JournalHeader, reporter: Reporter
    ) -> Commit:
        """Start an empty journal in a folder that was just created."""
        write_atomically(
            folder.journal_file,
            journal.encode_header(header),
            lambda file: remember_run(folder, file, config, reporter.note),
        )
        good_bytes = folder.journal_file.stat().st_size
        writer = JournalWriter(folder.journal_file, good_bytes)
        return cls(folder, config, writer, reporter, [], 0, metrics.BestCenter())

    @classmethod
    def resume(
        cls, folder: TrainingFolder, config: Config, contents: JournalContents, reporter: Reporter
    ) -> Commit:
        """Go on behind the last whole record; metrics beyond it are dropped, and the run is not done any more."""
        generation = contents.next_generation
        reporter.note(News(f"resuming {folder.path} at generation {generation}"))
        if contents.torn_bytes:
            reporter.note(f"dropped a record of {contents.torn_bytes} bytes that was cut short")
        with changing(folder.place):
            folder.done_file.unlink(missing_ok=True)
        lines = metrics.completed(
            folder.metrics_file, config, contents, reporter.note, last_center=False
        )
        size = metrics.store(folder.metrics_file, lines)
        best = metrics.BestCenter.of(config, contents)
        writer = JournalWriter(folder.journal_file, _end_of_members(contents, config))
        return cls(folder, config, writer, reporter, lines, size, best, generation)

    def generation(
        self, state: RunState, step: Step, records: Records, timing: Timing
    ) -> GenerationReport | None:
        """Keep one generation and say what it gave.

        The best checkpoint goes first: if we die before the journal has the record, the generation is simply
        evaluated again, with the same outcome; the other way round the best state would be lost.

        Args:
            state: before the update.
            step: the update.
            records: of the members and the center.
            timing: how long it took.

        Returns:
            What it gave; None if it is kept already, as after the loss of a rank.

        Raises:
            RunError: if another program has changed the folder, so that the run can't go on in it.
            StoppedEarlyError: if nothing could be written for too many generations.
        """
        if self.has(state.generation, records.members):
            return None
        if state.generation > self._next:
            raise RunError(
                f"{self._folder.journal_file}: ends before generation {self._next}, but the run is at generation "
                f"{state.generation}: the rank that kept the generations in between in its memory was lost. Run the "
                "same command again to evaluate them again"
            )
        before = self._best.episodes
        if self._best.add(self._config, state.generation, records):
            self._new_best = Checkpoint(self._identity, state, self._best.center_return)
        if 0 < before != self._best.episodes:
            self._reporter.note(
                f"the center has {self._best.episodes} episodes now, {before} before: the best checkpoint is chosen "
                "anew"
            )
        if len(records.table):
            self._entries.append(
                (state.generation, journal.encode_entry(state.generation, records))
            )
        if records.members:
            self._next = state.generation + 1
        else:
            self._last_center = state.generation
        report = self._report(state, step, records, timing)
        self._lines.append(report.line())
        self._checkpoint_is_due |= self._is_time_for_a_checkpoint(step.state.generation)
        self._patience.try_to(
            lambda: self._write(step.state), self._generations_at_risk, self._bytes_in_memory
        )
        if self._new_best is not None and self._new_best.state is state:
            kept = RunState.of_arrays(  # the next update writes over it
                state.generation, {name: array.copy() for name, array in state.arrays().items()}
            )
            self._new_best = Checkpoint(self._identity, kept, self._best.center_return)
        self._reporter.generation(report, self._config.generations)
        return report

    def _is_time_for_a_checkpoint(self, generation: int) -> bool:
        """Whether a state is to be saved: the journal has what follows the last one that was."""
        every = self._config.run.checkpoint_every
        if every:
            return generation % every == 0
        soon = time.monotonic() - self._checkpointed_at < CHECKPOINT_SECONDS
        return generation % USUAL_CHECKPOINTS == 0 and not soon

    def _write(self, state: RunState) -> None:
        """Write all that waits; after a failure, the next call goes on where it was.

        Args:
            state: the last one.

        Raises:
            NotWritableError: if something can't be written now.
            RunError: if another program has changed the folder.
        """
        self._folder.check_in_place()
        self._writer.check()
        while self._entries:
            generation, entry = self._entries[0]
            best = self._new_best
            if best is not None and best.state.generation <= generation:
                self._save(self._folder.best_file, best)
                self._new_best = None
            self._writer.append(entry)
            self._entries.popleft()
        while self._lines:
            self._append_metrics(self._lines[0])
            self._loggers.add(self._lines.popleft())
        self._writer.sync_now_and_then()
        if self._checkpoint_is_due:
            self._checkpoint(state)
            self._checkpoint_is_due = False

    def _generations_at_risk(self) -> int:
        return len(self._entries) + len(self._writer.unsynced)

    def _bytes_in_memory(self) -> int:
        return sum(len(entry) for _, entry in self._entries)

    def has(self, generation: int, members: int) -> bool:
        """Whether a generation is in the journal; without members, the evaluation of the center after the last one."""
        return generation < self._next if members else generation == self._last_center

    def members_of(self, generation: int) -> Records | None:
        """The records of a generation if the journal has them: what was decided there holds."""
        if generation >= self._next:
            return None
        contents = self._folder.journal(self._config, verify=False)
        return next((r for g, r in contents.entries(generation, generation + 1) if r.members), None)

    def _report(
        self,
        state: RunState,
        step: Step,
        records: Records,
        timing: Timing,
    ) -> GenerationReport:
        now = time.monotonic()
        elapsed, self._since = now - self._since, now
        self._env_steps += records.steps
        self._episodes += records.episodes
        self._seconds += elapsed
        self._core_seconds += elapsed * timing.ranks
        means, centers = metrics.of_variants(self._config, records)
        return GenerationReport(
            generation=state.generation,
            **metrics.of_records(self._config, records),
            sigma=state.evolution.sigma,
            sigma_min=state.evolution.sigma_range[0],
            sigma_max=state.evolution.sigma_range[1],
            learning_rate=state.evolution.scalars["learning_rate"],
            h_norm=step.h_norm,
            update_norm=step.update_norm,
            gradient_agreement=step.gradient_agreement,
            steps_per_second=records.steps / elapsed,
            idle_share=timing.idle_share(elapsed),
            generation_seconds=elapsed,
            ranks=timing.ranks,
            env_steps=self._env_steps,
            episodes=self._episodes,
            seconds=self._seconds,
            core_seconds=self._core_seconds,
            variant_returns=means,
            variant_centers=centers,
            minimizes=self._config.sign < 0,
            counts="evaluations" if self._config.objective.named else "steps",
        )

    def _append_metrics(self, line: metrics.Line) -> None:
        """Add a line; if the file is not as it was left, say so and put it right when the run ends."""
        size, as_left = metrics.append(self._folder.metrics_file, line, self._metrics_size)
        self._metrics_size = size
        if not as_left and not self._metrics_changed:
            self._metrics_changed = True
            self._reporter.note(
                f"{self._folder.metrics_file}: was removed or changed by another program; missing lines are rebuilt "
                "from the journal when the run ends"
            )

    def _checkpoint(self, state: RunState) -> None:
        """Save a state; older ones go only after the new one is in place."""
        path = self._folder.checkpoint_file(state.generation)
        self._checkpointed_at = time.monotonic()
        self._save(path, Checkpoint(self._identity, state))
        with changing(self._folder.place):
            for old in self._folder.checkpoint_files()[CHECKPOINTS_KEPT:]:
                old.unlink(missing_ok=True)

    def _save(self, path: Path, saved: Checkpoint) -> None:
        """Save a checkpoint, never ahead of the journal."""
        self._writer.sync()
        with changing(self._folder.place):
            path.parent.mkdir(exist_ok=True)  # somebody may have made room
        checkpoint.save(path, saved)

    def end(self, state: RunState, reason: str, finished: bool) -> list[Finding]:
        """Save the last state, and if the run is finished say so in DONE.json, last of all.

        Returns:
            What went wrong in the whole run although it ended.

        Raises:
            RunError: if what was written before is not there any more.
            StoppedEarlyError: if something can't be written, also after a while.
        """
        self._checkpoint_is_due = True
        self._insist(lambda: self._write(state))
        self._folder.check_complete(self._config, state.generation)
        lines = self._folder.metrics_lines(self._config, self._reporter.note)
        if self._metrics_changed:
            self._insist(lambda: metrics.store(self._folder.metrics_file, lines))
        findings = diagnose(Course.of_lines(lines, self._config, state.h.size))
        if finished:
            done = {
                "reason": reason,
                "generation": state.generation,
                "h_sha256": state.h_sha256(),
                "best_center_return": (
                    metrics.in_own_sign(self._config, self._best.center_return)
                    if self._best.generation >= 0
                    else None
                ),
                "env_steps": self._env_steps,
                "seconds": self._seconds,
                "findings": [finding.as_json() for finding in findings],
            }
            data = json.dumps(done, indent=2).encode() + b"\n"
            self._insist(lambda: write_atomically(self._folder.done_file, data))
        return findings

    def _insist(self, write: Callable[[], object]) -> None:
        """Write, and wait for a while if that isn't possible.

        Raises:
            StoppedEarlyError: if it isn't possible then, either.
        """
        self._patience.insist_on(write, self._generations_at_risk)

    def close(self) -> None:
        """Close the journal and the loggers, and let go of the folder."""
        self._loggers.close()
        try:
            self._writer.close()
        except NotWritableError:
            if not self._patience.tried_in_vain:  # otherwise the user knows
                raise
        finally:
            self._folder.unlock()


def _end_of_members(contents: JournalContents, config: Config) -> int:
    """Where a journal is gone on with.

    If a run died after its last evaluation of the center and before DONE.json, the center is evaluated again, and its
    record must not stand there twice.
    """
    first = bisect_left(contents.generations, contents.next_generation)
    is_last = contents.next_generation == config.generations and first < len(contents.positions)
    return contents.positions[first] if is_last else contents.good_bytes
