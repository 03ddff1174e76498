"""What is said of an option that a command does not have, but that is a setting."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class WithHints(TyperCommand):
    """A command that knows what ``--generations 5`` means: ``--set generations=5``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the command line apart; see click."""
        words = [*args]
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            option = getattr(error, "option_name", None)  # whichever click typer brings along
            if type(error).__name__ == "NoSuchOption" and isinstance(option, str):
                hint = self._setting(option, words)
                if hint:
                    error.message = f"No such option: {option}. {hint}"  # type: ignore[attr-defined]
                    error.possibilities = None  # type: ignore[attr-defined]
            raise

    def _setting(self, option: str, words: list[str]) -> str:
        """How to set what an option seems to mean; empty if it is no setting, or the command sets none."""
        from esd.config.descriptions import settings_by_key
        from esd.config.near_settings import settings_like

        sets = any("--set" in getattr(parameter, "opts", ()) for parameter in self.params)
        name = option.lstrip("-").replace("-", "_")
        if not sets or len(name) < 2:
            return ""
        found = [
            key
            for key in settings_like(name, settings_by_key())
            if key.rpartition(".")[2] == name.rpartition(".")[2]
        ]
        if not found:
            return ""
        key = name if name in found else found[0]
        return f"It is a setting: use --set {key}={_value(option, words)}"


def _value(option: str, words: list[str]) -> str:
    """What a user has given an option; "…" if nothing."""
    for position, word in enumerate(words):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and position + 1 < len(words):
            following = words[position + 1]
            return "…" if following.startswith("--") else following
    return "…"
