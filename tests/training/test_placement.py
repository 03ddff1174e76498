"""Where ranks run: what is said of cores and GPUs that they share, on machines made up for it."""

from __future__ import annotations

import itertools
import random
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from esd.commands.console import Quiet
from esd.mpi import control_groups, placement, texts
from esd.mpi.comm import Alone
from esd.mpi.differences import differences
from esd.mpi.placement import Node, Place
from esd.training import canary
from tests.helpers.configs import objective
from tests.helpers.thread_ranks import World
from tests.helpers.training import trained

FINE = {
    "ranks": 2, "cores": 4, "quota": 0, "bound": 2, "bound_cores": 4, "threads": 1, "gpus": 0, "seen_gpus": 0,
}  # fmt: skip


def remark(**changes: int) -> str:
    """The one line that is said; empty if nothing is."""
    found = placement.remarks(Node(**{**FINE, **changes}))
    assert len(found) < 2
    return "".join(found)


def places(*cores: set[int]) -> list[Place]:
    return [Place(frozenset(each)) for each in cores]


def group(root: Path, **files: str) -> Path:
    """A machine with control groups of this process."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/job\n")
    (root / "sys/fs/cgroup/job").mkdir(parents=True)
    for name, text in files.items():
        (root / "sys/fs/cgroup/job" / name.replace("__", ".")).write_text(text)
    return root


def test_ranks_with_a_core_each_need_no_remark() -> None:
    assert remark() == ""
    assert remark(ranks=4, bound=4) == ""
    assert remark(ranks=1, bound=1, quota=500, threads=64) == ""  # alone it is the user's choice


def test_more_ranks_than_cores_or_than_a_control_group_allows_is_said_once() -> None:
    text = remark(ranks=5, bound=4)
    assert text.startswith("5 ranks share 4 cores; 4 on this machine")
    text = remark(quota=1500)
    assert text.startswith("2 ranks share the CPU time of 1.5 cores (limit of a control group)")
    assert "1 on this machine" in text
    assert remark(quota=2000) == ""


def test_ranks_bound_to_one_core_while_others_idle_are_told_of_mpirun_s_option() -> None:
    text = remark(bound=1, bound_cores=1)
    assert "only 1 can have their own core, although there are 4" in text
    assert "--bind-to core" in text
    # with fewer cores than ranks both may be wrong
    assert len(placement.remarks(Node(**{**FINE, "ranks": 8, "bound": 1}))) == 2


def test_threads_of_libraries_are_noted_where_they_are_more_than_cores() -> None:
    assert remark(threads=2) == ""
    assert "unset OMP_NUM_THREADS" in remark(threads=3)


def test_ranks_and_gpus_of_other_numbers_are_said() -> None:
    assert remark(gpus=2, seen_gpus=2) == ""
    assert remark(gpus=1, seen_gpus=1).startswith("2 ranks share 1 GPU; fewer ranks")
    text = remark(gpus=2, seen_gpus=4)
    assert text.startswith("2 ranks on 4 GPUs: 2 of them are idle; start 4 ranks")


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        ([{0}, {0}], 1),
        ([{0}, {1}], 2),
        ([{0, 1}, {0}, {1}], 2),
        ([{0, 1, 2}, {0}, {1}], 3),
        ([{0, 1}] * 5, 2),
        ([], 0),
    ],
)
def test_how_many_ranks_can_have_a_core(cores: list[set[int]], expected: int) -> None:
    assert placement._with_a_core_each([frozenset(each) for each in cores]) == expected


def test_the_number_is_that_of_the_best_of_all_ways() -> None:
    """Against trying every way."""
    dice = random.Random(1)
    for _ in range(100):
        bound = [frozenset(dice.sample(range(4), dice.randrange(1, 4))) for _ in range(4)]
        best = max(len({*chosen}) for chosen in itertools.product(*bound))
        assert placement._with_a_core_each(bound) == best


def test_a_job_s_cores_are_those_of_its_control_group_or_of_slurm(tmp_path: Path) -> None:
    root = group(tmp_path, cpuset__cpus__effective="0-3,8\n", cpu__max="150000 100000")
    found = placement.summary(places({0}, {0, 1}), root, {"OMP_NUM_THREADS": "3"})
    assert found == Node(2, 5, 1500, 2, 2, 3, 0, 0)
    assert placement.summary(places({0}), root, {"SLURM_CPUS_ON_NODE": "2"}).cores == 2
    assert placement.summary(places({0}), root, {"SLURM_CPUS_ON_NODE": "64"}).cores == 5
    assert control_groups.core_set(group(tmp_path / "other", cpuset__cpus="none")) is None


def test_a_training_says_at_its_start_that_ranks_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Quiet, "note", lambda self, text: said.append(text))
    monkeypatch.setattr(placement, "_online", lambda: 2)
    monkeypatch.setattr(control_groups, "core_set", lambda root: None)
    monkeypatch.setattr(control_groups, "cores", lambda root: None)
    config = objective("sphere", "population=2", "generations=1", x={"shape": [8], "initial": 0.5})
    endings = World(3, 1, {}).run(lambda comm: trained(config, tmp_path / "run", comm))
    assert all(ending.finished for ending in endings), endings
    assert any(text.startswith("3 ranks for 2 members: 1 of them are idle") for text in said)
    assert any(text.startswith("3 ranks share 2 cores") for text in said)
    assert placement.idle_ranks(2, 2) == []


class Cuda:
    """A stand-in for ``torch.cuda`` of a machine with GPUs."""

    def __init__(self, *uuids: str | None) -> None:
        self.uuids = uuids

    def device_count(self) -> int:
        return len(self.uuids)

    def get_device_properties(self, number: int) -> Any:
        return types.SimpleNamespace(uuid=self.uuids[number])


def test_gpus_are_told_apart_by_what_they_are_and_not_by_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SLURM may show every rank another GPU, as the first."""

    def seen(*uuids: str | None, node_rank: int = 0) -> Place:
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=Cuda(*uuids)))
        return placement.own_place(True, node_rank)

    each_its_own = [seen("a"), seen("b", node_rank=1)]
    assert placement.summary(each_its_own).gpus == 2
    in_turn = [seen("a", "b", node_rank=number) for number in range(3)]
    assert (in_turn[0].gpu, in_turn[0].gpus) == (in_turn[2].gpu, 2)
    assert placement.summary(in_turn).gpus == 2
    without_names = [seen(None, None, node_rank=number) for number in range(2)]
    assert placement.summary(without_names).gpus == 2
    assert seen() == Place(seen().cores, 0, 0)
    assert placement.own_place().gpus == 0


def test_each_machine_is_counted_and_those_with_a_remark_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "_online", lambda: 4)
    monkeypatch.setattr(control_groups, "core_set", lambda root: None)
    monkeypatch.setattr(control_groups, "cores", lambda root: None)
    monkeypatch.setattr(texts.socket, "gethostname", lambda: "a node")

    def body(comm: Any) -> tuple[list[str], int]:
        with comm.node() as node:
            # ranks 0, 2, 4 are on one node, and bound to one core; 1, 3 on another
            place = Place(frozenset({0} if comm.rank % 2 == 0 else {comm.rank}))
            nodes = placement.nodes_of(comm, node, place)
            return placement.notes(comm, nodes), len(nodes)

    outcomes = World(5, 2, {}).run(body)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    (line,), count = outcomes[0]
    assert count == 2
    assert line.startswith("on a node: 3 ranks are bound so that only 1 can have their own core")


def test_alone_there_is_one_node() -> None:
    nodes = placement.nodes_of(Alone(), Alone(), placement.own_place())
    assert [*nodes] == [0]
    assert nodes[0].ranks == nodes[0].bound == 1
    assert placement.notes(Alone(), {0: Node(**{**FINE, "bound": 1})})[0].startswith("2 ranks are")


def test_what_differs_between_nodes_is_named_with_the_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = threading.local()
    monkeypatch.setattr(texts.socket, "gethostname", lambda: own.host)

    def body(comm: Any, differ: bool) -> str:
        own.host = f"node{comm.rank % 2}"
        new = differ and comm.rank % 2
        found = {"Python": "3.11.2", "numpy": "2.1" if new else "2.0", "the processor": "x" * 900}
        return differences(comm, found)

    assert World(4, 2, {}).run(lambda comm: body(comm, False)) == [""] * 4
    told = World(4, 2, {}).run(lambda comm: body(comm, True))
    assert told == ["numpy is 2.0 on node0 and 2.1 on node1"] * 4


def test_a_refused_mix_of_machines_names_nodes_and_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = threading.local()
    monkeypatch.setattr(texts.socket, "gethostname", lambda: own.host)
    monkeypatch.setattr(canary, "processor", lambda: own.processor)

    def body(comm: Any) -> None:
        own.host, own.processor = f"node{comm.rank % 2}", f"model {comm.rank % 2}"
        bits = f"{comm.rank % 2:016x}"
        canary.compare(comm, types.SimpleNamespace(evaluator=bits), False)  # type: ignore[arg-type]

    for error in World(4, 2, {}).run(body):
        text = str(error)
        assert "2 of 4 ranks compute other bits than rank 0 (ranks 1, 3, on node1)" in text
        assert "the processor is model 0 on node0 and model 1 on node1" in text
        assert "Use machines of the same kind" in text
