"""The table of seed files: their sizes, and what is rebuilt from them plays."""

from __future__ import annotations

from benchmarks.tables.markdown import Result, table


def centers(result: Result) -> str:
    """The seed file of each center, beside its h as numbers, and what the center plays."""
    heads = [
        "run",
        "generation",
        "coefficients",
        "as float32 (bytes)",
        "seed file (bytes)",
        "mean return",
        "95 % interval (episode noise)",
    ]
    rows = [
        [
            row["run"],
            str(row["generation"]),
            f"{row['parameters']:,}",
            f"{row['bytes_of_numbers']:,}",
            f"{row['bytes']:,}",
            f"{row['mean']:.0f}",
            " to ".join(f"{end:.0f}" for end in row["interval_95"]),
        ]
        for row in result["rows"]
    ]
    return table(heads, rows)
