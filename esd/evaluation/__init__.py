"""Test episodes, their results, and comparisons of runs."""
