"""What fault tolerance costs while nothing fails: the same training with and without it, in turns.

    python -m benchmarks.fault_tolerance --rounds 5 --ranks 2

The figure is the time of a generation behind the first ones: of each run the fastest tenth and the median, and the
median over rounds of the round's own ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

GENERATIONS = 300
WARM_UP = 20  # generations


def generation_seconds(ranks: int, fault_tolerant: bool, folder: Path) -> tuple[float, float]:
    """Train once; seconds of a generation: where a tenth are faster, and in the median."""
    flags = ["--fault-tolerant"] if fault_tolerant else []
    words = [
        sys.executable, "-m", "esd", "launch", "-n", str(ranks), *flags, "train", "cartpole",
        f"--set=generations={GENERATIONS}", "--set=run.target_return=501", "--run", str(folder / "run"),
    ]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    lines = (folder / "run/metrics.jsonl").read_text().splitlines()[WARM_UP:-1]
    seconds = sorted(json.loads(line)["generation_seconds"] for line in lines)
    return seconds[len(seconds) // 10], statistics.median(seconds)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, default=2)
    arguments = parser.parse_args()
    ratios: list[tuple[float, float]] = []
    for number in range(arguments.rounds):
        both = {}
        for fault_tolerant in (True, False) if number % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                both[fault_tolerant] = generation_seconds(
                    arguments.ranks, fault_tolerant, Path(folder)
                )
        (fast, middle), (fast_before, middle_before) = both[True], both[False]
        ratios.append((fast / fast_before, middle / middle_before))
        print(
            f"round {number}: a generation {1e3 * fast_before:.2f} ms without and {1e3 * fast:.2f} ms with fault "
            f"tolerance at the fastest tenth, {1e3 * middle_before:.2f} and {1e3 * middle:.2f} ms in the median",
            flush=True,
        )
    fastest, middle = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"with / without: {fastest:.3f} at the fastest tenth, {middle:.3f} in the median")
    return 0


if __name__ == "__main__":
    sys.exit(main())
