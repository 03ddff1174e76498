"""Random configs: whatever stands in a TOML file or behind ``--set`` is a valid config or one line.

python -m tests.faults.configs --count 100000          about 10 minutes
"""

from __future__ import annotations

import argparse
import datetime
import time
import tomllib
from collections import Counter
from typing import Any

import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from esd.config.descriptions import describe_settings
from esd.config.experiment_files import experiment_names, read_experiment
from esd.config.identity import identity
from esd.config.settings import Config
from esd.config.tables import apply_settings, flatten, parse, to_table
from esd.errors import UsageError
from esd.reading import parse_toml

NAMES = sorted(
    {part for name in describe_settings() for part in name.split(".") if "<" not in part}
)
WORDS = (
    "cartpole", "CartPole-v1", "Pendulum-v1", "hebbian", "static", "gru", "reformer", "adam", "clipup", "sgd",
    "momentum", "pgpe", "snes", "cr_fm_nes", "openai_es", "sphere", "minimize", "uniform", "transform", "cuda",
    "module:Class", "a:b",
)  # fmt: skip
HUGE = (2**63, 2**64, 10**30, 10**400, -(10**400), 1 << 20_000)
_names = st.one_of(st.sampled_from(NAMES), st.text(max_size=8), st.just(3_000).map("x".__mul__))
_numbers = st.one_of(
    st.integers(-3, 300),
    st.integers(),
    st.integers(0, len(HUGE) - 1).map(lambda i: HUGE[i]),  # Hypothesis can't print them itself
    st.floats(),
)
_scalars = st.one_of(
    st.booleans(), _numbers, st.sampled_from(WORDS), st.text(max_size=12), st.just(5_000).map("y".__mul__),
    st.just(datetime.date(1979, 5, 27)), st.just(datetime.time(7, 32)),
)  # fmt: skip


def _deep(kind: type[list[Any]] | type[dict[str, Any]]) -> Any:
    value: Any = 1
    for _ in range(200):
        value = [value] if kind is list else {"a": value}
    return value


_values = st.recursive(
    st.one_of(_scalars, st.sampled_from([list, dict]).map(_deep)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_names, inner, max_size=4)
    ),
    max_leaves=12,
)
SECTIONS = ("env", "policy", "es", "run", "variants", "objective")


def _section(name: str) -> st.SearchStrategy[dict[str, Any]]:
    """A table whose keys are mostly those of a section."""
    named = (key.split(".") for key in describe_settings())
    known = sorted({parts[-1] for parts in named if parts[0] == name and len(parts) > 1})
    keys = st.one_of(st.sampled_from(known), _names)
    return st.dictionaries(keys, st.one_of(_scalars, _values), max_size=5)


@st.composite
def _changed_by_hand(draw: st.DrawFn) -> dict[str, Any]:
    """A shipped experiment, some of whose values are others."""
    table = to_table(
        parse(read_experiment(draw(st.sampled_from(experiment_names())))[1], "shipped")
    )
    for _ in range(draw(st.integers(0, 2))):
        *sections, name = draw(st.sampled_from(sorted(flatten(table)))).split(".")
        section = table
        for key in sections:
            section = section.get(key, {})
        section[name] = draw(st.one_of(_scalars, _values))
    return table


tables = st.one_of(
    _changed_by_hand(),
    st.dictionaries(_names, _values, max_size=5),
    st.fixed_dictionaries({}, optional={name: _section(name) for name in SECTIONS}),
    st.fixed_dictionaries({}, optional={
        key: _numbers for key in ("seed", "generations", "population", "batch_members", "format")
    }),
)  # fmt: skip
_keys = st.one_of(
    st.sampled_from(sorted(name for name in describe_settings() if "<" not in name)),
    st.lists(_names, min_size=1, max_size=4).map(".".join),
    st.just(5_000).map(lambda n: "a." * n + "a"),
)


def _as_text(value: Any) -> str:
    return hex(value) if isinstance(value, int) and abs(value) > 10**4_000 else str(value)


_texts = st.one_of(
    _scalars.map(_as_text), st.text(max_size=30),
    st.sampled_from(["True", "None", "yes", "nan", "inf", "1e999", "{}", "2024-01-01"]),
    st.sampled_from(["[", "{a=", "9", '"', "'", "x", "a."]).flatmap(lambda c: st.just(20_000).map(c.__mul__)),
)  # fmt: skip
words = st.lists(st.tuples(_keys, _texts).map("=".join), max_size=3)
_pieces = st.one_of(
    st.sampled_from(["[", "]", "{", "}", "=", ".", ",", '"', "'", '"""', "'''", "#", "\n", "[[", "]]", "1", "a", "\\"]),
    st.sampled_from(NAMES), st.text(max_size=4),
)  # fmt: skip
texts = st.lists(_pieces, max_size=60).map("".join)


def outcome_of(table: dict[str, Any], source: str = "x.toml") -> str:
    """What comes of a table: a config that can be stored and read back, or one line.

    Raises:
        AssertionError: if a message is too long, or a config is another one after it was stored.
    """
    try:
        config = parse(table, source)
    except UsageError as error:
        check_message(error)
        return "UsageError"
    check_config(config)
    return "valid"


def check_message(error: UsageError) -> None:
    """A message is one line of at most 1,000 characters."""
    text = str(error)
    assert 0 < len(text) <= 1_000, len(text)
    assert text.isprintable(), text


def check_config(config: Config) -> None:
    """What was accepted can be stored, compared and read back."""
    table = to_table(config)
    flatten(table)
    identity(config)
    again = parse(tomllib.loads(tomli_w.dumps(table)), "again")
    assert identity(again) == identity(config)


def outcome_of_words(settings_given: list[str]) -> str:
    """The same of ``--set``."""
    try:
        table = apply_settings({}, settings_given)
    except UsageError as error:
        check_message(error)
        return "UsageError"
    return outcome_of(table, "--set")


def outcome_of_text(text: str) -> str:
    """The same of the text of a file."""
    try:
        table = parse_toml(text, "x.toml")
    except UsageError as error:
        check_message(error)
        return "UsageError"
    return outcome_of(table)


def run(count: int) -> Counter[tuple[str, str]]:
    """Try so many tables, ``--set`` words and texts each; a finding ends it, with the smallest example."""
    counts: Counter[tuple[str, str]] = Counter()
    tried = settings(
        max_examples=count, deadline=10_000, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip

    @tried
    @given(tables)
    def try_table(table: dict[str, Any]) -> None:
        counts["tables", outcome_of(table)] += 1

    @tried
    @given(words)
    def try_words(given_words: list[str]) -> None:
        counts["--set", outcome_of_words(given_words)] += 1

    @tried
    @given(texts)
    def try_text(text: str) -> None:
        counts["texts", outcome_of_text(text)] += 1

    for attempt in (try_table, try_words, try_text):
        attempt()
    return counts


def main() -> None:
    """Try random configs and print how often each outcome came."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1_000, help="how many of each kind")
    options = parser.parse_args()
    start = time.monotonic()
    for (kind, outcome), number in sorted(run(options.count).items()):
        print(f"{kind:8} {outcome:12} {number:>9,}")
    print(f"{time.monotonic() - start:,.0f} s, no findings")


if __name__ == "__main__":
    main()
