"""What rank 0 keeps of a run: the best checkpoint, the journal, the metrics, the last checkpoints, in this order."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Protocol

from esd.config.identity import identity
from esd.config.settings import Config
from esd.evolution.records import Records
from esd.evolution.state import RunState
from esd.run import checkpoint, journal, metrics
from esd.run.checkpoint import Checkpoint
from esd.run.files import changing, write_atomically
from esd.run.journal import JournalContents, JournalHeader
from esd.run.journal_writer import JournalWriter
from esd.run.training_folder import TrainingFolder
from esd.training.diagnosis import Course, Finding, diagnose
from esd.training.node_state import Step
from esd.training.trusted import remember_run

CHECKPOINTS_KEPT = 2
USUAL_CHECKPOINTS = 10  # generations between them
CHECKPOINT_SECONDS = 1.0  # and more if those take less: a checkpoint waits for the disk, 5 to 12 ms


@dataclass(frozen=True)
class GenerationReport:
    """One generation in numbers: a line of metrics.jsonl. Returns are per episode, before any penalty.

    Of an objective they are its values, in the user's own sign, and steps and episodes are its evaluations.
    With variants a member's return, and the center's, is the mean or the worst of those on each, by variants.reduce.

    Attributes:
        generation: t.
        return_mean: over members.
        return_std: over members.
        return_min: over members.
        return_max: over members.
        center_return: mean of the center's episodes; None in generations without.
        failed_members: how many had no finite fitness.
        tied_share: the share of members in the largest group with one return, if others did better.
        sigma: standard deviation of this generation's perturbations; if coordinates differ, the geometric mean.
        sigma_min: the smallest of a coordinate.
        sigma_max: the largest.
        learning_rate: of this generation's update.
        h_norm: ‖h‖ after the update.
        update_norm: ‖h_{t+1} − h_t‖.
        steps_per_second: environment steps per second of this generation, all ranks.
        idle_share: of the ranks' time until the exchange of records was complete, what they spent waiting.
        generation_seconds: wall time of this generation.
        ranks: how many took part.
        env_steps: environment steps of the run so far.
        episodes: episodes of the run so far.
        seconds: wall time of the run so far.
        core_seconds: wall time × ranks so far.
        variant_returns: by variant, the mean over members; None of a variant on which none is finite.
        variant_centers: by variant, the mean of the center's episodes; None in generations without.
        minimizes: small returns are good; not in the line.
        counts: what the steps are, for the console: "steps" or "evaluations"; not in the line.
    """

    generation: int
    return_mean: float | None
    return_std: float | None
    return_min: float | None
    return_max: float | None
    center_return: float | None
    failed_members: int
    tied_share: float
    sigma: float
    sigma_min: float
    sigma_max: float
    learning_rate: float
    h_norm: float
    update_norm: float
    steps_per_second: float
    idle_share: float
    generation_seconds: float
    ranks: int
    env_steps: int
    episodes: int
    seconds: float
    core_seconds: float
    variant_returns: dict[str, float | None]
    variant_centers: dict[str, float | None]
    minimizes: bool = False
    counts: str = "steps"

    @property
    def return_best(self) -> float | None:
        """Of the best member."""
        return self.return_min if self.minimizes else self.return_max

    def line(self) -> metrics.Line:
        """As a line of metrics.jsonl, the variants' returns as ``return_mean.NAME`` and ``center_return.NAME``."""
        line = dict(vars(self))  # asdict copies every value, which takes longer than all the rest
        del line["minimizes"], line["counts"]
        means, centers = line.pop("variant_returns"), line.pop("variant_centers")
        return line | metrics.names_of_variants(means, centers)


class Reporter(Protocol):
    """Tells the user what happens; on rank 0 only."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def generation(self, report: GenerationReport, generations: int) -> None:
        """A generation is complete and kept."""


@dataclass(frozen=True)
class Timing:
    """How long a generation took.

    Attributes:
        seconds: wall time from its start until the records were exchanged.
        busy_seconds: what all ranks together spent on evaluations.
        ranks: how many.
    """

    seconds: float
    busy_seconds: float
    ranks: int

    @property
    def idle_share(self) -> float:
        """The share of the ranks' time in which they waited."""
        return max(0.0, 1.0 - self.busy_seconds / (self.seconds * self.ranks))


class Commit:
    """Writes a run's folder. Made by ``begin`` or ``resume``."""

    def __init__(
        self,
        folder: TrainingFolder,
        config: Config,
        writer: JournalWriter,
        reporter: Reporter,
        lines: list[metrics.Line],
        metrics_size: int,
        best: float,
        next_generation: int = 0,
    ) -> None:
        """Go on after ``lines`` of metrics in a file of so many bytes, with the best center's return (−∞ without one).

        It is, like those in records, of the sign that is maximized.
        """
        self._folder, self._config, self._writer, self._reporter = folder, config, writer, reporter
        self._identity = identity(config)
        self._best = best
        self._metrics_size = metrics_size
        self._metrics_changed = False
        last = lines[-1] if lines else {}
        self._env_steps, self._episodes = last.get("env_steps", 0), last.get("episodes", 0)
        self._seconds, self._core_seconds = last.get("seconds", 0.0), last.get("core_seconds", 0.0)
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
        return cls(folder, config, writer, reporter, [], 0, -math.inf)

    @classmethod
    def resume(
        cls, folder: TrainingFolder, config: Config, contents: JournalContents, reporter: Reporter
    ) -> Commit:
        """Go on behind the last whole record; metrics beyond it are dropped, and the run is not done any more."""
        generation = contents.next_generation
        reporter.note(f"resuming {folder.path} at generation {generation}")
        if contents.torn_bytes:
            reporter.note(f"dropped a record of {contents.torn_bytes} bytes that was cut short")
        with changing(folder.place):
            folder.done_file.unlink(missing_ok=True)
        lines = metrics.completed(
            folder.metrics_file, config, contents, reporter.note, last_center=False
        )
        size = metrics.store(folder.metrics_file, lines)
        centers = (metrics.center_of(config, records) for _, records in contents.outcomes())
        best = max((center for center in centers if center is not None), default=-math.inf)
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
            RunError: if something can't be written.
        """
        if self.has(state.generation, records.members):
            return None
        self._folder.check_in_place()
        self._writer.check()
        center = metrics.center_of(self._config, records)
        if center is not None and center >= self._best:
            self._best = center
            self._writer.sync()
            checkpoint.save(self._folder.best_file, Checkpoint(self._identity, state, center))
        if len(records.table):
            self._writer.append(journal.encode_entry(state.generation, records))
        if records.members:
            self._next = state.generation + 1
        else:
            self._last_center = state.generation
        report = self._report(state, step, records, timing)
        self._append_metrics(report.line())
        if self._is_checkpoint_due(step.state.generation):
            self._checkpoint(step.state)
        self._reporter.generation(report, self._config.generations)
        return report

    def _is_checkpoint_due(self, generation: int) -> bool:
        """Whether a state is to be saved: the journal has what follows the last one that was."""
        every = self._config.run.checkpoint_every
        if every:
            return generation % every == 0
        soon = time.monotonic() - self._checkpointed_at < CHECKPOINT_SECONDS
        return generation % USUAL_CHECKPOINTS == 0 and not soon

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
            steps_per_second=records.steps / elapsed,
            idle_share=timing.idle_share,
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
                f"{self._folder.metrics_file}: was removed or changed by another program; what is missing is rebuilt "
                "from the journal when the run ends"
            )

    def _checkpoint(self, state: RunState) -> None:
        """Save a state; older ones go only after the new one is in place."""
        self._checkpointed_at = time.monotonic()
        path = self._folder.checkpoint_file(state.generation)
        self._writer.sync()
        checkpoint.save(path, Checkpoint(self._identity, state))
        with changing(self._folder.place):
            for old in self._folder.checkpoint_files()[CHECKPOINTS_KEPT:]:
                old.unlink(missing_ok=True)

    def end(self, state: RunState, reason: str, finished: bool) -> list[Finding]:
        """Save the last state, and if the run is finished say so in DONE.json, last of all.

        Returns:
            What went wrong in the whole run although it ended.

        Raises:
            RunError: if it can't be written, or what was written before is not there any more.
        """
        self._writer.check()
        self._checkpoint(state)
        self._folder.check_complete(self._config, state.generation)
        lines = self._folder.metrics_lines(self._config, self._reporter.note)
        if self._metrics_changed:
            metrics.store(self._folder.metrics_file, lines)
        findings = diagnose(Course.of_lines(lines, self._config, state.h.size))
        if finished:
            done = {
                "reason": reason,
                "generation": state.generation,
                "h_sha256": state.h_sha256(),
                "best_center_return": (
                    self._config.sign * self._best if math.isfinite(self._best) else None
                ),
                "env_steps": self._env_steps,
                "seconds": self._seconds,
                "findings": [finding.as_json() for finding in findings],
            }
            write_atomically(self._folder.done_file, json.dumps(done, indent=2).encode() + b"\n")
        return findings

    def close(self) -> None:
        """Close the journal and let go of the folder."""
        self._writer.close()
        self._folder.unlock()


def _end_of_members(contents: JournalContents, config: Config) -> int:
    """Where a journal is gone on with.

    If a run died after its last evaluation of the center and before DONE.json, the center is evaluated again, and its
    record must not stand there twice.
    """
    first = bisect_left(contents.generations, contents.next_generation)
    is_last = contents.next_generation == config.generations and first < len(contents.positions)
    return contents.positions[first] if is_last else contents.good_bytes
