"""Break each law on purpose, in a copy of the project, and see its test fail: ``python tests/break_laws.py``.

A test that can't fail holds no law. Every row is a small change of the code that breaks one law, and the test that
has to notice. Takes a few minutes; ends with 1 if a break went unnoticed. ``python tests/break_laws.py WORD…`` tries
only those whose text, file or test contains one of the words.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
MPIRUN = str(Path(sys.executable).parent / "mpirun")


@dataclass(frozen=True)
class Break:
    """One law, one way to break it, and who notices.

    Attributes:
        law: its number in the design.
        why: what the change does.
        file: what is changed.
        old: the text that is replaced, once.
        new: by this.
        test: pytest arguments of the test that has to fail.
        ranks: under mpirun with so many; 0 without.
    """

    law: int
    why: str
    file: str
    old: str
    new: str
    test: str
    ranks: int = 0


BREAKS = (
    Break(
        2,
        "members that are perturbed together all have the sign of the first of a pair",
        "esd/kernels/philox.py",
        "(-sigma if member & 1 else sigma)",
        "sigma",
        "tests/evolution/test_noise.py -k many_members",
    ),
    Break(
        1,
        "lanes begin episodes with the weights of the lane before",
        "esd/kernels/members.py",
        "put_weights(drawn[k], bounds, weights[lanes[k], episodes[k]], 1, settings[SIZES:])",
        "put_weights(drawn[k // 2], bounds, weights[lanes[k], episodes[k]], 1, settings[SIZES:])",
        "tests/episodes/test_side_by_side.py -k first_weights",
    ),
    Break(
        1,
        "sums of activities go on from one episode to the next",
        "esd/kernels/plastic.py",
        "    if settings[AVERAGE]:\n        units, widest = _units(settings[SIZES:])\n",
        "    if settings[AVERAGE] > 1:\n        units, widest = _units(settings[SIZES:])\n",
        "tests/policies/test_hebbian.py -k counts_from_its_start",
    ),
    Break(
        1,
        "lanes go on from one episode to the next with the sums of activities",
        "esd/kernels/members.py",
        "    if networks[2][AVERAGE]:",
        "    if networks[2][AVERAGE] > 1:",
        "tests/episodes/test_side_by_side.py -k member_alone",
    ),
    Break(
        1,
        "a network that is asked directly normalizes by the statistics of the first generation",
        "esd/episodes/one_step.py",
        "        if scale is self._scale:",
        "        if self._scale is not None:",
        "tests/episodes/test_one_step.py -k statistics",
    ),
    Break(
        4,
        "a member that was found to end its processes is evaluated again by whoever replays or resumes",
        "esd/training/suspects.py",
        "if missing[row] and (one.holds or (one.judged and not stops))",
        "if missing[row] and one.holds",
        "tests/training/test_suspects.py -k goes_on_at_once",
    ),
    Break(
        4,
        "suspects are evaluated beside others, so that nobody knows which of them ends the process",
        "esd/training/loop.py",
        "        if to_do.suspects or to_do.alone:",
        "        if to_do.alone:",
        "tests/training/test_suspects.py -k evaluated_alone",
    ),
    Break(
        4,
        "every rank writes the row of a member without a result",
        "esd/training/suspects.py",
        """        if comm.rank == 0:
            for row, text in""",
        """        if comm.rank >= 0:
            for row, text in""",
        "tests/training/test_suspects.py -k survivors_find_it_out",
    ),
    Break(
        1,
        "an environment that has raised is used for the next member as it was left",
        "esd/episodes/variant.py",
        "        anew, self._cut_off = self._rebuild or self._cut_off, False",
        "        anew = self._rebuild",
        "tests/training/test_on_failure.py -k made_anew",
    ),
    Break(
        5,
        "a process that was asked to end counts against the member that it evaluated",
        "esd/run/in_flight.py",
        "ASKED.isdisjoint(signals)",
        "True",
        "tests/run/test_in_flight.py -k asked_to_end",
    ),
    Break(
        5,
        "compiled code that never returns outlives the time limit of an episode",
        "esd/time_limit.py",
        "        _end_later(limit + GRACE_SECONDS)\n",
        "",
        "tests/test_time_limit.py",
    ),
    Break(
        4,
        "what rank 0 had not written when it was lost is missing in the journal",
        "esd/training/survivors.py",
        "                run.last.kept(run.commit)",
        "                pass",
        "tests/training/test_survivors.py -k any_collective and last",
    ),
    Break(
        4,
        "evaluations that a survivor has made are made again by another",
        "esd/training/survivors.py",
        "    missing = writers == 0",
        "    missing = writers < 2",
        "tests/training/test_survivors.py -k survivors_are_not",
    ),
    Break(
        5,
        "an unfinished run whose mpirun ends with 0 is taken for done",
        "esd/launching/restarts.py",
        "        if self.after.done is None:\n            return False",
        "        if self.after.done is None:\n            return self.code == 0",
        "tests/launching/test_restarts.py -k success_is_done",
    ),
    Break(
        2,
        "low-rank noise multiplies a row by the factor of the first row of the piece",
        "esd/kernels/low_rank.py",
        "            a = factors[part[FACTORS + q] + row - part[ROW]] * scale\n",
        "            a = factors[part[FACTORS + q]] * scale\n",
        "tests/evolution/test_low_rank.py -k oracles_bits",
    ),
    Break(
        4,
        "a row that a slice of low-rank noise cuts is summed from where the slice begins",
        "esd/evolution/low_rank.py",
        "        row = first // matrix.columns\n",
        "        row = -(-first // matrix.columns)\n",
        "tests/mpi/test_node_state.py -k low_rank",
        ranks=2,
    ),
    Break(
        2,
        "the factors of low-rank noise share their stream with dense noise",
        "esd/evolution/noise.py",
        "    LOW_RANK = 9  # factors of perturbations",
        "    LOW_RANK = 0  # factors of perturbations",
        "tests/evolution/test_low_rank.py -k oracles_bits",
    ),
    Break(
        4,
        "a product of low-rank noise is added to its sum with one rounding",
        "esd/kernels/low_rank.py",
        """                product = builder.fmul(factor, row)  # rounded before its sum
                builder.store(builder.fadd(builder.load(sums[i]), product), sums[i])
""",
        """                both = builder.fma(factor, row, builder.load(sums[i]))
                builder.store(both, sums[i])
""",
        "tests/evolution/test_low_rank.py -k sums_of_larger",
    ),
    Break(
        1,
        "a slot goes on counting the steps of the episode that it had before",
        "esd/episodes/slots.py",
        "        self._counts[:, slot] = 1, 0, 0",
        "        self._counts[0, slot] = 1",
        "tests/lockstep/test_module.py -k compiled_steps_of_all_slots",
    ),
    Break(
        4,
        "how many members of a module a call computes depends on batch_members",
        "esd/lockstep/policies.py",
        "        return members_at_once(policy.layout.size)",
        "        return min(64, config.batch_members or 64)",
        "tests/lockstep/test_module.py -k any_number_at_a_time",
    ),
    Break(
        1,
        "a recorded module keeps the parameters that it was recorded with",
        "esd/lockstep/recorded.py",
        "            self._constants[id(value)] = node, value\n",
        "            self._constants[id(value)] = node, value.clone()\n",
        "tests/lockstep/test_module.py -k recorded_module_has_the_bits",
    ),
    Break(
        1,
        "a lane of members keeps the step number of the member that it had before",
        "esd/kernels/members.py",
        "    networks[3][lane] = 0\n",
        "",
        "tests/episodes/test_side_by_side.py -k order_and_number",
    ),
    Break(
        4,
        "a compiled reset draws other numbers than NumPy",
        "envs/esd_envs/kernels/numpy_random.py",
        "return low + width *",
        "return low + (width + 1e-17) *",
        "tests/envs/test_compiled_steps.py -k compiled_reset",
    ),
    Break(
        4,
        "a compiled step of MuJoCo is told another number of frames than the environment's own",
        "envs/esd_envs/kernels/mujoco.py",
        "for _ in range(int(parameters[FRAME_SKIP])):",
        "for _ in range(int(parameters[FRAME_SKIP]) - 1):",
        "tests/envs/test_compiled_steps.py -k HalfCheetah",
    ),
    Break(
        2,
        "what a member of CR-FM-NES needs of all coordinates is summed in pieces",
        "esd/evolution/cr_fm_nes.py",
        "in_order(np.concatenate([blocks[0, 0] for blocks in partials]))",
        "sum(float(in_order(blocks[0, 0])) for blocks in partials)",
        "tests/evolution/test_cr_fm_nes.py -k pieces_of_any_size",
    ),
    Break(
        4,
        "a sum over h begins with each rank's own",
        "esd/evolution/vectors.py",
        "for row in self.gather(partials)]",
        "for row in self.gather(np.cumsum(partials, axis=1))]",
        "tests/evolution/test_cr_fm_nes.py -k slices_that_cover",
    ),
    Break(
        4,
        "ranks read sums that others overwrite already",
        "esd/training/node_state.py",
        "_AREAS = 2",
        "_AREAS = 1",
        "tests/mpi/test_node_state.py -k unequal_speed",
        3,
    ),
    Break(
        6,
        "deviations of coordinates are not kept",
        "esd/evolution/state.py",
        "vector for name, vector in self.evolution.vectors.items()}",
        "vector for name, vector in self.evolution.vectors.items() if name != 'sigma'}",
        "tests/run/test_algorithms.py -k goes_on_to_the_same_bits and pgpe",
    ),
    Break(
        1,
        "the first weights ever drawn are used again",
        "esd/policies/hebbian.py",
        "        weights = self._evolved_weights if self._coevolved else self._initial_weights.draw(seed)",
        "        fresh = self._initial_weights.draw(seed)\n"
        "        weights = self._kept = getattr(self, '_kept', fresh)",
        "tests/episodes/test_rollout.py -k first_last_twice",
    ),
    Break(
        1,
        "the environment is not seeded",
        "esd/episodes/variant.py",
        "environment.reset(seed=seed, **options)",
        "environment.reset(**options)",
        "tests/episodes/test_rollout.py -k first_last_twice",
    ),
    Break(
        1,
        "numpy's global generator is not seeded",
        "esd/evolution/global_generators.py",
        "    np.random.seed(seed)",
        "    pass",
        "tests/episodes/test_rollout.py -k first_last_twice and global",
    ),
    Break(
        1,
        "nobody looks whether a policy's outputs depend on the episodes before",
        "esd/episodes/purity.py",
        'log.add(POLICY, "output", bits)',
        "pass",
        "tests/episodes/test_purity.py -k torch_module_with_a_memory",
    ),
    Break(
        1,
        "nobody looks whether a reward depends on the episodes before",
        "esd/episodes/purity.py",
        'log.add(below, "reward", reward)',
        'log.add(below, "reward", 0.0)',
        "tests/episodes/test_purity.py -k environment_that_leaks",
    ),
    Break(
        1,
        "a Box2D world lives on in the next episode",
        "esd/episodes/making.py",
        'type(world).__name__ == "b2World"',
        "False",
        "tests/episodes/test_rollout.py -k box2d",
    ),
    Break(
        1,
        "a torch module sits in any slot of the batch",
        "esd/lockstep/module.py",
        "    same_bits = False",
        "    same_bits = True",
        "tests/lockstep/test_module.py -k slot_is_free_or_not",
    ),
    Break(
        1,
        "an environment's statistics are not frozen anew in lock-step",
        "esd/lockstep/worlds.py",
        "        self._environments[0].use_statistics(state.observations)\n",
        "",
        "tests/lockstep/test_evaluator.py -k forgets",
    ),
    Break(
        1,
        "a reformer's memory is not forgotten",
        "esd/kernels/reformer.py",
        "        forget(settings[s], filled[s])",
        "        pass",
        "tests/episodes/test_rollout.py -k first_last_twice and reformer",
    ),
    Break(
        1,
        "a gated recurrent unit's state is not cleared",
        "esd/kernels/gru.py",
        "    gru.scratch[: settings.units] = f32(0.0)",
        "    pass",
        "tests/episodes/test_rollout.py -k first_last_twice and gru",
    ),
    Break(
        1,
        "a reformer's clock goes on in the next episode",
        "esd/kernels/reformer.py",
        "    reformer.settings[0].step = 0",
        "    pass",
        "tests/episodes/test_rollout.py -k first_last_twice and reformer",
    ),
    Break(
        1,
        "a gated recurrent unit's clock goes on in the next episode",
        "esd/kernels/gru.py",
        "    settings.step = 0",
        "    pass",
        "tests/episodes/test_rollout.py -k first_last_twice and gru",
    ),
    Break(
        1,
        "what a reformer's head has learned is kept",
        "esd/policies/recurrent.py",
        "        self._head.reset(seed)",
        "        pass",
        "tests/episodes/test_rollout.py -k first_last_twice and learns",
    ),
    Break(
        1,
        "an objective keeps what an evaluation did to its array",
        "esd/objectives/function.py",
        "array.copy() if array.shape",
        "array if array.shape",
        "tests/objectives/test_function.py -k changes_a_copy",
    ),
    Break(
        1,
        "global generators are not seeded before an objective is called",
        "esd/objectives/function.py",
        "        seed_global_generators(seed)",
        "        pass",
        "tests/objectives/test_problem.py -k first_last_twice",
    ),
    Break(
        1,
        "the seed of an objective's evaluation is drawn and not named",
        "esd/objectives/problem.py",
        "    return int(words(seed, purpose, evaluation, owner, generation)[0] >> 1)",
        "    global CALLS\n    CALLS = globals().get('CALLS', 0) + 1\n"
        "    return int(words(seed, purpose, CALLS)[0] >> 1)",
        "tests/objectives/test_problem.py -k first_last_twice",
    ),
    Break(
        2,
        "a device contracts multiplication and addition",
        "esd/lockstep/noise.py",
        "h + (sign[:, None] * sigma) * e",
        "torch.addcmul(h, (sign[:, None] * sigma), e)",
        "tests/lockstep/test_noise.py -k bits_of_ask",
    ),
    Break(
        2,
        "a slice starts its own noise",
        "esd/kernels/philox.py",
        "        out[low - start : high - start] = here",
        "        out[low - start : high - start] = total[: here.size]",
        "tests/evolution/test_noise.py -k slice",
    ),
    Break(
        2,
        "sums may be contracted and re-associated",
        "envs/esd_kernels/__init__.py",
        '"fastmath": False',
        '"fastmath": True',
        "tests/kernels/test_distribution.py",
    ),
    Break(
        3,
        "ranks exchange their part of h",
        "esd/training/loop.py",
        "            self._check_update(step)",
        '            self._comm.sum(np.zeros(state.h.size, np.uint64), "h")\n'
        "            self._check_update(step)",
        "tests/training/test_traffic.py",
    ),
    Break(
        3,
        "a resume sends what the checkpoint has, too",
        "esd/training/replay.py",
        "contents.entries(first)",
        "contents.entries(0)",
        "tests/mpi/test_resume.py -k in_pieces",
        2,
    ),
    Break(
        4,
        "every rank updates from its own members only",
        "esd/training/loop.py",
        "        table = numbers[:cells].reshape(own.table.shape)",
        "        table = numbers[:cells].reshape(own.table.shape)\n"
        "        mine = np.arange(len(table)) % self._comm.size == self._comm.rank\n"
        "        table[:, 5:] *= mine.astype(np.uint64)[:, None]",
        "tests/mpi/test_train.py -k one_and_on_all",
        2,
    ),
    Break(
        4,
        "β₁ᵗ is not kept in the checkpoint",
        "esd/evolution/state.py",
        'f"scalar.{name}": np.array([value])',
        'f"scalar.{name}": np.array([1.0 if "power" in name else value])',
        "tests/mpi/test_train.py -k resume_on_another",
        2,
    ),
    Break(
        1,
        "a member has the seeds of another generation",
        "esd/episodes/rollout.py",
        "self._drawn[:2] != (generation, first)",
        "self._drawn[1] != first",
        "tests/episodes/test_environments.py -k any_order_of_asking",
    ),
    Break(
        4,
        "members are evaluated with the rank in their seeds",
        "esd/episodes/rollout.py",
        "                self.config.seed,\n                Purpose.TRAIN_EPISODE,",
        "                int(__import__('os').environ.get('OMPI_COMM_WORLD_RANK', 0)),\n"
        "                Purpose.TRAIN_EPISODE,",
        "tests/mpi/test_train.py -k one_and_on_all",
        2,
    ),
    Break(
        4,
        "the seed of an objective's evaluation depends on the rank",
        "esd/objectives/problem.py",
        "        seed = self._config.seed",
        "        seed = self._config.seed + int(__import__('os').environ.get('OMPI_COMM_WORLD_RANK', 0))",
        "tests/mpi/test_train.py -k one_and_on_all and objective",
        2,
    ),
    Break(
        4,
        "an objective's transformation is the library's tanh on some ranks",
        "esd/objectives/parameters.py",
        "        tanh_of(h, squashed)",
        "        rank = int(__import__('os').environ.get('OMPI_COMM_WORLD_RANK', 0))\n"
        "        tanh_of(h, squashed) if rank == 0 else np.tanh(h, out=squashed)",
        "tests/mpi/test_train.py -k one_and_on_all and several",
        2,
    ),
    Break(
        4,
        "a reformer's rotations depend on the rank",
        "esd/policies/reformer.py",
        "    return angular(settings.hash_seed,",
        "    rank = int(__import__('os').environ.get('OMPI_COMM_WORLD_RANK', 0))\n"
        "    return angular(settings.hash_seed + rank,",
        "tests/mpi/test_train.py -k one_and_on_all and reformer",
        2,
    ),
    Break(
        4,
        "nobody waits for the other ranks' slices of h",
        "esd/training/node_state.py",
        "        self._meet(error)",
        "        if error: self._meet(error)",
        "tests/mpi/test_node_state.py -k alone",
        3,
    ),
    Break(
        4,
        "ranks that ask at once draw the same row",
        "esd/kernels/tickets.py",
        "        found = _replace(word, seen, first | (next_ticket + np.uint64(1)))",
        "        found = seen\n        word[0] = first | (next_ticket + np.uint64(1))",
        "tests/mpi/test_queue_alone.py -k at_once",
        1,
    ),
    Break(
        4,
        "nobody looks whether the nodes have the same state",
        "esd/training/loop.py",
        "        self._same_state.check(generation, None if self.halted else state)\n",
        "",
        "tests/mpi/test_same_state.py -k flipped",
        2,
    ),
    Break(
        4,
        "the update writes over the state that it reads",
        "esd/training/node_state.py",
        "        after = self._vectors[(t + 1) & 1]",
        "        after = self._vectors[t & 1]",
        "tests/mpi/test_node_state.py",
        2,
    ),
    Break(
        4,
        "a device sums in the order that its library likes",
        "esd/lockstep/policies.py",
        "in_order(torch.mul(self.weights, x[:, :, None], out=self._products))",
        "(self.weights * x[:, :, None]).sum(1)",
        "tests/lockstep/test_device.py -k changes_its_device",
    ),
    Break(
        6,
        "the canary of an older journal is not drawn as it was",
        "esd/episodes/canary.py",
        "if journal_version < 3 else",
        "if False else",
        "tests/episodes/test_canary.py -k first_version",
    ),
    Break(
        6,
        "the best checkpoint is written after the journal's record of its generation",
        "esd/training/commit.py",
        """                self._save(self._folder.best_file, best)
                self._new_best = None
            self._writer.append(entry)
""",
        """                pass
            self._writer.append(entry)
            if best is not None and best.state.generation <= generation:
                self._save(self._folder.best_file, best)
                self._new_best = None
""",
        "tests/training/test_patience.py -k crash",
    ),
    Break(
        6,
        "what a sync has not confirmed is not written again",
        "esd/run/journal_writer.py",
        "                self._rewrite = True",
        "                self._rewrite = False",
        "tests/run/test_journal.py -k confirmed",
    ),
    Break(
        6,
        "a checkpoint is written in place",
        "esd/run/files.py",
        '    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")',
        "    temporary = path",
        "tests/run/test_checkpoint.py -k cannot_be_written",
    ),
    Break(
        6,
        "what a copied run names is imported",
        "esd/run/folder.py",
        "        if self.trust is Trust.ASK:\n",
        "        if False:\n",
        "tests/run/test_trust.py -k imports_what_a_strangers_run_names",
    ),
    Break(
        6,
        "a run is remembered by its folder's path",
        "esd/run/made_here.py",
        "return cls(found.st_ino, ",
        "return cls(hash(path.parent.name), ",
        "tests/run/test_trust.py -k created_here_is_trusted",
    ),
    Break(
        6,
        "a torn record is kept",
        "esd/run/journal_writer.py",
        "            os.ftruncate(self._descriptor, good_bytes)",
        "            good_bytes = os.fstat(self._descriptor).st_size",
        "tests/run/test_journal.py -k torn",
    ),
    Break(
        6,
        "the journal is not checked for damage",
        "esd/run/journal.py",
        "    return _pread(file, _CRC.size, entry.table_end) == _CRC.pack(checksum)",
        "    return True",
        "tests/run/test_journal.py -k damaged_byte",
    ),
    Break(
        6,
        "a run whose journal is lost is trained over",
        "esd/run/folder.py",
        "        if _is_there(self.journal_file):",
        "        if True:",
        "tests/run/test_recovery.py -k lost_journal_is_refused",
    ),
    Break(
        6,
        "a run is done though its folder is not complete",
        "esd/training/commit.py",
        "        self._folder.check_complete(self._config, state.generation)\n",
        "",
        "tests/run/test_recovery.py -k not_its_own",
    ),
    Break(
        7,
        "the journal misses a generation",
        "esd/training/commit.py",
        "        if len(records.table):",
        "        if len(records.table) and state.generation != 1:",
        "tests/run/test_recovery.py -k lost_in_the_middle",
    ),
    Break(
        7,
        "h depends on something that is not in the journal",
        "esd/training/loop.py",
        "            self._check_update(step)",
        "            self._check_update(step)\n            step.state.h[:1] += 1.0",
        "tests/mpi/test_train.py -k one_and_on_all",
        2,
    ),
)


def noticed(case: Break, copy: Path) -> bool:
    """Whether the test fails in a copy with the break. The copy is as it was afterwards."""
    path = copy / case.file
    text, stat = path.read_text("utf-8"), path.stat()
    path.write_text(text.replace(case.old, case.new), "utf-8")
    try:
        return failed(case, copy)
    finally:
        path.write_text(text, "utf-8")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # Python compares it


def failed(case: Break, copy: Path) -> bool:
    """Whether a break's test fails in a copy, having passed nothing but collection before."""
    head, _, expression = case.test.partition(" -k ")
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *head.split()]
    words += ["-k", expression] if expression else []
    if case.ranks:
        words = [MPIRUN, "--oversubscribe", "-n", str(case.ranks), *words, "--with-mpi"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'envs'}",
        "NUMBA_CACHE_DIR": "",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    result = subprocess.run(
        words, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    return "failed" in result.stdout and result.returncode != 0


def chosen(words: list[str]) -> list[Break]:
    """Those that contain any of the words, or all without words."""
    texts = {case: f"{case.why} {case.file} {case.test}".lower() for case in BREAKS}
    wanted = [word.lower() for word in words]
    return [c for c, text in texts.items() if not words or any(word in text for word in wanted)]


def tried(cases: queue.SimpleQueue[Break], copy: Path) -> int:
    """Try breaks, as long as there are some, in a copy of its own; how many went unnoticed.

    The copy has the bytecode and the kernels that are compiled already; a break of kernels is other sources, with a
    folder of their own.
    """
    kept_out = shutil.ignore_patterns(".git", ".venv", "runs", ".*_cache", ".hypothesis")
    shutil.copytree(REPOSITORY, copy, ignore=kept_out)
    unnoticed = 0
    with contextlib.suppress(queue.Empty):
        while True:
            case = cases.get_nowait()
            began = time.monotonic()
            good = noticed(case, copy)
            unnoticed += not good
            verdict = "noticed by" if good else "NOT NOTICED by"
            seconds = f"{time.monotonic() - began:.0f} s"
            print(f"law {case.law}: {case.why}: {verdict} {case.test} ({seconds})", flush=True)
    return unnoticed


def main() -> int:
    """Try breaks, two at a time where there are two cores; 0 if all were noticed."""
    wanted = chosen(sys.argv[1:])
    if not wanted:
        print(f"no break contains {' or '.join(sys.argv[1:])}", file=sys.stderr)
        return 2
    cases: queue.SimpleQueue[Break] = queue.SimpleQueue()
    for case in wanted:
        cases.put(case)
    at_once = min(2, os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(at_once) as pool:
        copies = [Path(folder) / f"copy-{number}" for number in range(at_once)]
        unnoticed = sum(pool.map(lambda copy: tried(cases, copy), copies))
    print(f"{len(wanted) - unnoticed} of {len(wanted)} breaks were noticed")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    raise SystemExit(main())
