"""``--set key=value``: a value is TOML, or text without quotes where a setting is text.

A word that TOML doesn't have, but another language does (``True``, ``None``, ``.5``), would become text unseen in a
place that takes anything, such as ``env.kwargs``. There it is refused with the right spelling; a setting whose type
is known says what it expects.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

from esd.errors import UsageError, shortened
from esd.reading import LONGEST_KEY, too_much_for_tomllib

WORDS = {
    **dict.fromkeys(("true", "yes", "on"), "true"),
    **dict.fromkeys(("false", "no", "off"), "false"),
    **dict.fromkeys(("infinity", "+infinity"), "inf"),
    "-infinity": "-inf",
}
NOTHING = ("none", "null", "nil", "undefined", "~")
DASHES = str.maketrans(dict.fromkeys("‐‑‒–—―−", "-"))
# digits with at most one point or comma, and what other languages put around them
NUMBER = re.compile(r"[+-]?(\d[\d_]*[.,]?[\d_]*|[.,]\d[\d_]*)(e[+-]?\d*)?[a-z]?%?", re.IGNORECASE)
PREFIXED = re.compile(r"[+-]?0[xob][0-9a-f_]*", re.IGNORECASE)


class BareText(str):
    """A value of ``--set`` that is no TOML, as it was typed: the text, if text is what is expected."""

    __slots__ = ()


def parse_assignment(assignment: str) -> tuple[list[str], Any]:
    """Take ``key=value`` apart.

    Returns:
        The parts of the key, and the value: as TOML has it, or ``BareText``.

    Raises:
        UsageError: if it is not of this form, or the value begins as a list, a table or a quoted text and isn't one.
    """
    shown = f"--set {shortened(assignment, 200)}"
    if not _is_text(assignment):
        raise UsageError(f"{shown!r}: not UTF-8")
    path, equals, text = assignment.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise UsageError(f"{shown}: expected key=value, such as es.sigma=0.1")
    if len(keys) > LONGEST_KEY:
        raise UsageError(f"{shown}: the key has {len(keys)} parts, expected at most {LONGEST_KEY}")
    try:
        return keys, _parsed(text.strip())
    except ValueError as error:
        raise UsageError(f"{shown}: {shortened(str(error), 300)}") from None


def _is_text(text: str) -> bool:
    """Whether text can be written to a file; what the shell passed on may be any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parsed(text: str) -> Any:
    """The value of a text.

    Raises:
        ValueError: saying what is wrong with it.
    """
    for problem in too_much_for_tomllib(f"value = {text}"):
        raise ValueError(problem)
    try:
        table = tomllib.loads(f"value = {text}", parse_float=_finite)
    except tomllib.TOMLDecodeError as error:
        if text[:1] not in tuple("[{\"'("):
            return BareText(text)
        raise ValueError(_why_no_toml(text, str(error))) from None
    if [*table] != ["value"]:  # there were several lines
        raise ValueError("expected one value")
    return table["value"]


def _finite(text: str) -> float:
    value = float(text)
    if abs(value) == float("inf") and "inf" not in text.lower():
        raise ValueError(f"{text} is too large for a number; write inf if that is meant")
    return value


def _why_no_toml(text: str, reason: str) -> str:
    """What is said of a list, table or quoted text that isn't one."""
    if text.startswith("("):
        return "TOML has no tuples; write a list, such as [1, 2], or put a string in quotes"
    reason = re.sub(r" \(at .*\)$", "", reason)
    words = re.findall(r"\b(True|False|None|null|nil)\b", text)
    if words:
        meant = {"True": "write true", "False": "write false"}.get(words[0], "leave it out")
        return f"not valid TOML ({reason}): it has no {words[0]}, {meant}"
    if ":" in text and text.startswith("{"):
        return f"not valid TOML ({reason}): a table is written {{a = 1, b = 2}}"
    return f"not valid TOML ({reason}); a string needs quotes, also in a list"


def spelling(text: str) -> str:
    """How to write what a bare text probably means; empty if it is a text and nothing else."""
    quoted = f"a string needs quotes: '\"{text}\"'"
    lower = text.translate(DASHES).lower()
    if not text:
        return "the value is missing; an empty string is '\"\"'"
    if lower in WORDS:
        return f"write {WORDS[lower]}; {quoted}"
    if lower in NOTHING:
        return f"TOML has no {text}; remove the setting; {quoted}"
    if lower.lstrip("+-") == "nan" or _looks_like_a_number(lower):
        number = _number(lower)
        return f"write {number}; {quoted}" if number else f"not a number in TOML; {quoted}"
    return ""


def _looks_like_a_number(text: str) -> bool:
    return bool(NUMBER.fullmatch(text) or PREFIXED.fullmatch(text))


def _number(text: str) -> str:
    """A number as TOML has it; empty if it isn't clear which."""
    for read in (lambda t: int(t, 0), int, float):
        try:
            value = read(text.replace(",", ".", 1))
        except ValueError:
            continue
        return str(value) if abs(value) < 1e300 else ""  # also of a NaN
    return ""


def fitting(text: str, kind: type) -> str:
    """How to write what a bare text probably means in a setting of a type; empty if that is not clear."""
    lower = text.translate(DASHES).lower()
    if not text:
        return "the value is missing"
    if lower in NOTHING:
        return f"TOML has no {text}; remove the setting"
    if kind is bool and WORDS.get(lower) in ("true", "false"):
        return f"write {WORDS[lower]}"
    number = _number(lower) if kind in (int, float) and _looks_like_a_number(lower) else ""
    whole = number.removeprefix("-").isdigit()
    return f"write {number}" if number and (whole or kind is float) else ""


def as_list(value: Any, of_numbers: bool) -> str:
    """How to write a list of what stands there alone, or with commas between; an example if that can't be listed."""
    texts = [text.strip() for text in str(value)[:100].split(",")]
    if not of_numbers:
        texts = [f'"{text}"' for text in texts]
    elif not all(text.isdecimal() and int(text) for text in texts):  # sizes and lengths, as all are
        texts = ["4", "2"]
    return f"[{', '.join(texts)}]"


def plain(value: Any) -> Any:
    """A value without ``BareText``: it has been looked at, and is text."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, BareText) else value
